"""What others wrote, as it may be shown: nothing in it acts on a terminal, and no line of a log can be made up by it.

Names, texts and errors of others come to people in three ways, and each has its form here: a line of a command or a log
shows what cannot be printed as its escape (:func:`escaped`, :func:`one_line`), and a chat's screen leaves it out
(:func:`cleaned`).
"""

from __future__ import annotations

import logging
import re

LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"
MAX_LOG_LINE = 16_000

_JOINERS = "\u200c\u200d"
"""They join or part what stands beside them, in emoji and in some scripts, and change nothing else."""
_REORDERING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def escaped(text: str, keep: str = "") -> str:
    """Returns a text with escapes for what cannot be printed: controls, bidirectional controls, half characters.

    Args:
        text: anything.
        keep: characters that stay, such as the line feed.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode() for char in text
    )


def one_line(text: str, most: int) -> str:
    """Returns a text that is shown on one line, with at most so many of its characters."""
    return escaped(text if len(text) <= most else f"{text[:most]}...")


def cleaned(text: str) -> str:
    """Returns a text without what cannot be printed, but for the ends of lines; tabulators become spaces."""
    text = text.replace("\t", "    ")
    if text.isprintable():
        return text
    return "".join(char for char in _REORDERING.sub("", text) if char.isprintable() or char in _JOINERS or char == "\n")


class LogLines(logging.Formatter):
    """Makes one line of each record, whatever is told; a traceback follows, indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the lines of a record."""
        first, *rest = super().format(record).split("\n") if record.exc_info else [super().format(record)]
        return "\n  ".join(one_line(line, MAX_LOG_LINE) for line in (first, *rest))
