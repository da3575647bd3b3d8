"""Cuts a mail into its parts (MIME, RFC 2046), within bounds on their number, depth and headers.

The library's parser compares every line with the boundary of every part around it, so that a mail of 1 MiB can keep it
busy for many seconds. Here each level is cut by one search for its own boundary: the time is at most the size times the
depth, at the speed of a search. The library only reads headers, each of them alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from email.policy import compat32
from typing import Any, TypeVar

T = TypeVar("T")

MAX_HEADER_BYTES = 128 * 1024
MAX_HEADERS_BYTES = 512 * 1024
"""Of all parts together."""
MAX_FIELDS = 2000
"""In one header."""
MAX_PARAMETERS_BYTES = 4 * 1024
"""Of a field that says what a part is."""
MAX_PARAMETERS = 50
MAX_PARTS = 1000
MAX_DEPTH = 20

_blank = re.compile(rb"\A\r?\n|\r?\n\r?\n")
_DESCRIBING = ("Content-Type", "Content-Disposition", "Content-ID", "Content-Transfer-Encoding")


class _Header(Message):
    """A header that keeps the text behind its fields as it came, with a character for each byte.

    ``get_payload`` would decode that text by the charset that the mail names, and fails where the name is a wrong one.
    """

    behind = ""

    def set_payload(self, payload: Any, charset: Any = None) -> None:
        super().set_payload(payload, charset)
        self.behind = payload


_headers = BytesHeaderParser(_Header, policy=compat32)


class Unreadable(Exception):
    """A mail is beyond what is taken; ``status`` is the SMTP reply."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its header as the library reads it, and where its body stands in the mail."""

    header: Message
    body: memoryview

    @property
    def type(self) -> str:
        """The media type, in small letters."""
        return said(self.header.get_content_type, "text/plain")

    def content(self) -> bytes:
        """Returns the body without its transfer encoding; what is wrongly encoded, as it stands."""
        self.header.set_payload(bytes(self.body).decode("ascii", "surrogateescape"))
        try:
            decoded = said(lambda: self.header.get_payload(decode=True), None)
        finally:
            self.header.set_payload("")
        return decoded if isinstance(decoded, bytes) else bytes(self.body)


def said(read: Callable[[], T], otherwise: T) -> T:
    """Returns what the library makes of a stranger's words; it stumbles over wrong ones in many ways."""
    try:
        return read()
    except Exception:
        return otherwise


def text_of(value: object) -> str:
    """Returns a field's value; what is not ASCII, which the parser keeps as half characters, is taken for UTF-8."""
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def header_of(content: bytes) -> bytes:
    """Returns the header of a mail, up to the empty line."""
    ends = [end for mark in (b"\r\n\r\n", b"\n\n") if (end := content.find(mark)) >= 0]
    return content[: min(ends)] if ends else content


class Cutting:
    """Cuts one mail."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._view = memoryview(content)
        self._parts = 0
        self._header_bytes = 0

    def whole(self) -> Part:
        """Returns the mail as one part.

        Raises:
            Unreadable: its header goes beyond a bound.
        """
        return self._part(0, len(self._content))[0]

    def leaves(self) -> Iterator[Part]:
        """Yields the parts that have no parts, in their order; a mail in a mail is one of them.

        Raises:
            Unreadable: there is more than the bounds.
        """
        return self._leaves(0, len(self._content), 0, "text/plain")

    def _leaves(self, start: int, end: int, depth: int, default_type: str) -> Iterator[Part]:
        self._parts += 1
        if depth > MAX_DEPTH or self._parts > MAX_PARTS:
            raise Unreadable("554 5.6.0 the mail is nested too deeply, or has too many parts")
        part, body = self._part(start, end)
        part.header.set_default_type(default_type)
        kind = part.type
        boundary = said(part.header.get_boundary, None) if kind.startswith("multipart/") else None
        inner = list(self._inner(_bytes(boundary), body, end)) if boundary else []
        if not inner:
            yield part
            return
        within = "message/rfc822" if kind == "multipart/digest" else "text/plain"
        for begins, ends in inner:
            yield from self._leaves(begins, ends, depth + 1, within)

    def _inner(self, boundary: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yields where the parts of a multipart begin and end."""
        content = self._content
        lines = re.compile(rb"\n--" + re.escape(boundary) + rb"(--)?[ \t]*+(?=\r?\n|\r?\Z)")
        begun = -1
        # A body follows a line's end, and its first line may be a boundary.
        for count, line in enumerate(lines.finditer(content, max(0, start - 1), end)):
            if begun >= 0:
                at = line.start()  # the end of the line before belongs to the boundary
                yield begun, max(begun, at - 1 if content[at - 1 : at] == b"\r" else at)
            if line[1] is not None:
                return
            if count >= MAX_PARTS:
                raise Unreadable("554 5.6.0 the mail is nested too deeply, or has too many parts")
            begun = content.find(b"\n", line.end(), end) + 1 or end
        if begun >= 0:
            yield begun, end

    def _part(self, start: int, end: int) -> tuple[Part, int]:
        """Returns a part, and where its body begins."""
        content = self._content
        blank = _blank.search(content[start : min(end, start + MAX_HEADER_BYTES + 4)])
        ends, body = (start + blank.start(), start + blank.end()) if blank is not None else (end, end)
        self._header_bytes += ends - start
        if ends - start > MAX_HEADER_BYTES or self._header_bytes > MAX_HEADERS_BYTES:
            raise Unreadable(f"552 5.3.4 a header is larger than {MAX_HEADER_BYTES} bytes, or they are in all")
        if content.count(b"\n", start, ends) > MAX_FIELDS:
            raise Unreadable(f"552 5.3.4 a header has more than {MAX_FIELDS} lines")
        header = _headers.parsebytes(content[start:ends] + b"\r\n\r\n" if ends > start else b"")
        assert isinstance(header, _Header)
        if header.behind.strip():
            # A line that is no field ends the header, and is the body's first.
            body = max(start, ends - len(header.behind.removesuffix("\r\n\r\n")))
        header.set_payload("")
        _check(header)
        return Part(header, self._view[body:end]), body


def _check(header: Message) -> None:
    """Bounds what the library takes long to read, and gives it text where there are half characters."""
    for name in _DESCRIBING:
        values = [text_of(value) for key, value in header.raw_items() if key.lower() == name.lower()]
        if not values:
            continue
        if len(values[0]) > MAX_PARAMETERS_BYTES or values[0].count(";") > MAX_PARAMETERS:
            raise Unreadable(
                f"552 5.3.4 the field {name} of a part is larger than {MAX_PARAMETERS_BYTES} bytes, or has more than"
                f" {MAX_PARAMETERS} parameters"
            )
        if not values[0].isascii() or "\0" in values[0]:
            header.replace_header(name, values[0].replace("\0", "\ufffd"))


def _bytes(boundary: str) -> bytes:
    return boundary.encode("utf-8", "replace")
