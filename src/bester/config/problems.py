"""The errors of a configuration: key path, value found, values allowed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from bester.errors import BadConfiguration

KeyPath = tuple[str | int, ...]
"""A value's place in the file: names of keys, and positions in lists."""

MISSING = object()
"""Represents a value that the file does not have."""

_MAX_SHOWN = 60
_PLAIN = re.compile(r"[\w-]+\Z")
_CREDENTIALS = re.compile(r"://[^/\s]*@")


@dataclass(frozen=True, slots=True)
class Problem:
    """One error of a configuration.

    ``key`` is dotted and spelled as in the file (``network.tcp4.port``, ``network.types[0]``); for an error of the file
    itself it is the file's path, or a place in it. ``found`` never shows a secret.
    """

    key: str
    found: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.key}: found {self.found}, allowed: {self.allowed}"


class ConfigError(BadConfiguration):
    """A wrong configuration; ``problems`` holds all its errors.

    ``warnings`` holds oddities, such as a misspelled key, which may be the reason why another key is missing.
    ``str(error)`` has a line for each problem and each warning.
    """

    def __init__(self, problems: Iterable[Problem] = (), warnings: Iterable[str] = ()) -> None:
        self.problems = list(problems)
        self.warnings = list(warnings)
        odd = (f"warning: {line}" for line in self.warnings)
        super().__init__("\n".join([*map(str, self.problems), *odd]) or None)


def dotted(path: KeyPath) -> str:
    """Returns a key path as text; ambiguous names in it are quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _PLAIN.match(part) else printable(part))
    return text


def printable(text: str) -> str:
    """Returns a text quoted, on one line, with every character escaped that a terminal might interpret."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in quoted)


def shown(value: object, secret: bool = False) -> str:
    """Returns a found value in at most about 60 characters; containers and secrets show only their kind."""
    if value is MISSING:
        return "nothing"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list" if value else "an empty list"
    if secret or (isinstance(value, str) and _CREDENTIALS.search(value)):
        return "a value that is not shown"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, str):
        text = printable(value)
        return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 4] + '..."'
    try:
        text = str(value)
    except ValueError:  # an integer of thousands of digits, which TOML can spell in hexadecimal
        return "a very large number"
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."
