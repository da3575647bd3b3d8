"""Reads a file as JSON or TOML, and finds values that JSON does not have."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from bester.config.problems import ConfigError, KeyPath, Problem, printable, shown

Format = Literal["json", "toml"]

MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 128
"""Equal to the limit of messages (docs/protocol.md, section 1), so that a message can carry ``admin.info``."""

_TOML_PLACE = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)\Z", re.DOTALL)


def read_file(path: Path) -> str:
    """Returns a file's text.

    Raises:
        ConfigError: the file cannot be read, is larger than 16 MiB, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        found = (getattr(error, "strerror", None) or str(error)).lower()
        raise ConfigError([Problem(str(path), found, "a readable JSON or TOML file")]) from error
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError([Problem(str(path), "a larger file", f"at most {MAX_FILE_BYTES} bytes (16 MiB)")])
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        found = f"the byte 0x{content[error.start]:02x} at offset {error.start}"
        raise ConfigError([Problem(str(path), found, "a text in UTF-8")]) from error


def read_text(text: str, format: Format) -> dict[str, Any]:
    """Returns the top level of a text; if JSON repeats a key, its last value counts.

    Raises:
        ConfigError: the text does not have the format, or its top level is not an object.
    """
    try:
        tree: object = json.loads(text) if format == "json" else tomllib.loads(text)
    except json.JSONDecodeError as error:
        found = shown(text[error.pos]) if error.pos < len(text) else "the end of the file"
        raise _syntax_error(format, found, error.msg, error.lineno, error.colno) from error
    except tomllib.TOMLDecodeError as error:
        reason, line, column = _toml_place(str(error), text)
        rest = text.split("\n")[line - 1][column - 1 :]
        raise _syntax_error(format, shown(rest[0]) if rest else "the end of the line", reason, line, column) from error
    except (RecursionError, ValueError) as error:  # nested too deep, or a number of thousands of digits
        deep = isinstance(error, RecursionError)
        found = "a very deep nesting" if deep else "a value that cannot be read"
        allowed = f"a nesting of at most {MAX_DEPTH} levels" if deep else f"values that {format.upper()} can hold"
        raise ConfigError([Problem("(top level)", found, allowed)]) from error
    if not isinstance(tree, dict):
        raise ConfigError([Problem("(top level)", shown(tree), "an object")])
    return tree


def non_json_values(tree: dict[str, Any]) -> Iterator[tuple[KeyPath, str, str]]:
    """Yields place, value found and values allowed for each value that JSON does not have or that is not Unicode."""
    pending: list[tuple[KeyPath, Any]] = [((), tree)]
    while pending:
        path, value = pending.pop()
        if len(path) >= MAX_DEPTH and isinstance(value, (dict, list)):
            yield path[:1], "a very deep nesting", f"a nesting of at most {MAX_DEPTH} levels"
        elif isinstance(value, dict):
            for key, member in value.items():
                if _is_unicode(key):
                    pending.append(((*path, key), member))
                else:
                    yield (*path, key), f"the key {printable(key)}", "a key without lone surrogates"
        elif isinstance(value, list):
            pending.extend(((*path, index), member) for index, member in enumerate(value))
        elif isinstance(value, float) and not math.isfinite(value):
            yield path, str(value), "a finite number"
        elif isinstance(value, str) and not _is_unicode(value):
            yield path, "a text with a lone surrogate", "a text in Unicode"
        elif not isinstance(value, (str, int, float)) and value is not None:
            yield path, "a date or time", "a value that JSON has"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _toml_place(message: str, text: str) -> tuple[str, int, int]:
    match = _TOML_PLACE.match(message)
    if match is None or match[2] is None:
        lines = text.split("\n")
        return (match[1] if match else message), len(lines), len(lines[-1]) + 1
    return match[1], int(match[2]), int(match[3])


def _syntax_error(format: str, found: str, reason: str, line: int, column: int) -> ConfigError:
    return ConfigError([Problem(f"line {line}, column {column}", found, f"{format.upper()} ({reason})")])
