"""Makes text from others safe to show: it cannot act on a terminal, and it cannot forge a line of a log.

A line of a command or of a log shows unprintable characters as escapes (:func:`escaped`, :func:`one_line`); a chat's
screen leaves them out (:func:`cleaned`).
"""

from __future__ import annotations

import logging
import re

LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"
MAX_LOG_LINE = 16_000

_JOINERS = "\u200c\u200d"
"""Characters that join or separate their neighbours, in emoji and in some scripts, and change nothing else."""
_REORDERING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def escaped(text: str, keep: str = "") -> str:
    """Returns a text with escapes for unprintable characters: controls, bidirectional controls, lone surrogates.

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
    """Returns a text for one line, escaped, with at most ``most`` of its characters."""
    return escaped(text if len(text) <= most else f"{text[:most]}...")


def cleaned(text: str) -> str:
    """Returns a text without unprintable characters, except line feeds; tabs become spaces."""
    text = text.replace("\t", "    ")
    if text.isprintable():
        return text
    return "".join(char for char in _REORDERING.sub("", text) if char.isprintable() or char in _JOINERS or char == "\n")


class LogLines(logging.Formatter):
    """Formats each record as one line, whatever its text; a traceback follows, indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the lines of a record."""
        first, *rest = super().format(record).split("\n") if record.exc_info else [super().format(record)]
        return "\n  ".join(one_line(line, MAX_LOG_LINE) for line in (first, *rest))
