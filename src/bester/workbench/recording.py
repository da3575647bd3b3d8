"""Recordings: files of what a handler was asked and answered (docs/replay.md).

A recording has one JSON object on each line. The first says whose it is, and what was redacted; each other one is a
request with its outcome, in the form in which the server's ``record`` tells it (docs/protocol.md, section 5.3).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import msgspec
from msgspec import Raw, Struct, field

from bester.protocol.messages import NOTHING
from bester.protocol.outcomes import Outcome
from bester.protocol.values import decode_data, decode_text, encode_data
from bester.workbench.redaction import Redaction

FORMAT = "recording"
VERSION = 1
MAX_LINE = 16 * 1024 * 1024
"""The longest line, in bytes; a longer record is left out."""
_KINDS = ("commands", "refused", "failed")


class Head(Struct):
    """The first line."""

    bester: str
    """Says that the file is a recording: :data:`FORMAT`."""
    version: int
    server: str
    type: str
    began: float
    """In seconds since 1970."""
    sample: float = 1.0
    redacted: list[str] = field(default_factory=list)
    """The paths of what was redacted."""


class Asked(Struct, omit_defaults=True):
    """What the handler was asked, and by whom."""

    scope: str
    sender: dict[str, str | bool | None] = field(name="from")
    hops: int
    data: Raw
    id: str = ""
    guards: str | None = None

    def header(self) -> dict[str, object]:
        """Returns the members of a request's header that say who asks."""
        told: dict[str, object] = {"scope": self.scope, "from": self.sender, "hops": self.hops}
        return told if self.guards is None else told | {"guards": self.guards}


class _Line(Struct):
    request: Asked
    outcome: Raw
    at: float = 0.0
    ms: float = 0.0
    again: Raw = NOTHING


_head = msgspec.json.Decoder(Head)
_line = msgspec.json.Decoder(_Line)


class Entry(Struct):
    """One request with its outcome."""

    at: float
    request: Asked
    outcome: Outcome
    again: Outcome | None
    """What the handler answered to the same request in a dry run; None if it was not asked."""


class BadRecording(Exception):
    """An error for a file that is no recording, or a broken one; ``str(error)`` names the line and the reason."""


def decode_entry(line: bytes) -> Entry:
    """Decodes one record.

    Raises:
        ValueError: it does not have the form of a record.
    """
    found = _line.decode(line)
    again = _outcome(found.again) if len(found.again) else None
    return Entry(found.at, found.request, _outcome(found.outcome), again)


def _outcome(raw: Raw) -> Outcome:
    value = decode_data(raw)
    if not isinstance(value, dict) or len(value) != 1 or next(iter(value)) not in _KINDS:
        raise ValueError("an outcome must have one member: " + ", ".join(_KINDS))
    kind, inner = next(iter(value.items()))
    if not isinstance(inner, list if kind == "commands" else dict):
        raise ValueError(f"{kind} must be {'a list' if kind == 'commands' else 'an object'}")
    if kind == "commands" and not all(isinstance(one, dict) for one in inner):
        raise ValueError("each of the commands must be an object")
    return value


class Recording:
    """A recording to be read.

    Args:
        path: the file.

    Raises:
        BadRecording: its first line is not that of a recording.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self.head = self._head(self._line(file, 1))
        try:
            self.redaction = Redaction(self.head.redacted)
        except ValueError as error:
            raise self._bad(1, f"redacted: {error}") from error

    def __iter__(self) -> Iterator[tuple[int, Entry]]:
        """Yields each entry with the number of its line.

        Raises:
            BadRecording: a line is broken.
        """
        with self.path.open("rb") as file:
            self._line(file, 1)
            number = 2
            while line := self._line(file, number):
                try:
                    yield number, decode_entry(line)
                except (ValueError, RecursionError) as error:
                    raise self._bad(number, str(error)) from error
                number += 1

    def _line(self, file: BinaryIO, number: int) -> bytes:
        line = file.readline(MAX_LINE + 1)
        if len(line) > MAX_LINE:
            raise self._bad(number, f"the line is longer than {MAX_LINE:,} bytes")
        if line and not line.endswith(b"\n"):
            raise self._bad(number, "the line is cut; without it, the lines before it can be replayed")
        return line

    def _head(self, line: bytes) -> Head:
        try:
            head = _head.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._bad(1, f"this is not the head of a recording: {error}") from error
        if head.bester != FORMAT:
            raise self._bad(1, f"this is not a recording: bester must be {FORMAT!r}, and is {head.bester!r:.100}")
        if head.version != VERSION:
            raise self._bad(1, f"the recording's version is {head.version}, and this release reads {VERSION}")
        return head

    def _bad(self, number: int, reason: str) -> BadRecording:
        return BadRecording(f"{self.path}, line {number}: {reason}")


class RecordingWriter:
    """A recording to be written, for the user's eyes only.

    Args:
        path: the file, which must not exist.
        head: its first line.
        redaction: is applied to each record before it is written.
        max_bytes: the largest size of the file.

    Raises:
        FileExistsError: there is such a file.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, head: Head, redaction: Redaction, max_bytes: int) -> None:
        self.path = path
        self.written = 0
        """How many records are in it."""
        self.left_out = 0
        """How many records were longer than a line may be, or could not be redacted."""
        self._redaction = redaction
        self._left_bytes = max_bytes
        self._size = 0
        # Without a buffer: what failed to be written must not be written once more when the file is closed.
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)
        self._write(msgspec.json.encode(head))

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def add(self, record: Raw) -> bool:
        """Writes a record; returns whether there was room for it.

        Raises:
            OSError: the file cannot be written.
        """
        try:
            line = self._redacted(record)
        except ValueError:  # a number that Python cannot hold: unread, it cannot be redacted
            line = b""
        if not 0 < len(line) < MAX_LINE:
            self.left_out += 1
            return True
        if len(line) >= self._left_bytes:
            return False
        self._write(line)
        self.written += 1
        return True

    def _redacted(self, record: Raw) -> bytes:
        # Data is as its sender spelled it, perhaps on several lines; elsewhere JSON has no line ends.
        plain = bytes(record)
        if self._redaction.paths:
            value: Any = decode_text(plain)
            self._redaction.apply(value)
            plain = bytes(encode_data(value))
        return plain.replace(b"\r", b" ").replace(b"\n", b" ")

    def _write(self, line: bytes) -> None:
        """Writes a whole line, or nothing."""
        left = memoryview(line + b"\n")
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            self._file.truncate(self._size)
            raise
        self._size += len(line) + 1
        self._left_bytes -= len(line) + 1
