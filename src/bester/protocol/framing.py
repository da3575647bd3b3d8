"""Cuts a byte stream into frames (docs/protocol.md, section 1).

A frame is its body's length as 4 bytes unsigned little endian, then the body. The length is checked before any part
of the body is buffered.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, Final

from bester.errors import Fatal, Malformed, TooLarge
from bester.protocol.scanner import built

PREFIX = Struct("<I")
_unpack = PREFIX.unpack_from


def _frame(*parts: Any) -> bytes:
    body = b"".join(parts)
    return PREFIX.pack(len(body)) + body


frame: Final[Callable[..., bytes]] = built("frame") or _frame
"""Returns the frame whose body consists of these parts, at most 16: bytes, or :class:`msgspec.Raw`."""


class Framer:
    """Takes bytes and returns frame bodies.

    ``failure`` is set when the stream is invalid. The bodies before the fault are still returned, so the result does
    not depend on how the bytes were split. After a failure, all further input is discarded.
    """

    __slots__ = ("_missing", "_rest", "buffered", "failure", "looked_at", "max_size", "taken", "whole")

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        """The largest body allowed, in bytes; may change between calls."""
        self.buffered = 0
        """Bytes buffered of frames that are incomplete or beyond ``at_most``."""
        self.failure: Fatal | None = None
        self.whole = 0
        """The number of bodies that the last call returned."""
        self.taken = 0
        """Bytes of all frames returned so far, including their length prefixes."""
        self.looked_at = 0
        """Bytes that the last call that could return a body examined, including buffered bytes."""
        self._rest = bytearray()
        self._missing = 0

    def feed(self, data: bytes, at_most: int = -1) -> list[bytes]:
        """Takes bytes as they were read and returns the bodies that are now complete, in order.

        If ``at_most`` is not negative, bodies beyond that number stay buffered until the next call, which may feed
        ``b""``; their length is checked against the ``max_size`` at that time.
        """
        if self.failure is not None:
            self.whole = 0
            return []
        if self.buffered:
            self._rest += data
            self.buffered = len(self._rest)
            if self.buffered < self._missing:
                self.whole = 0
                return []
            data = bytes(self._rest)
            self._rest = bytearray()
            self.buffered = 0
        bodies: list[bytes] = []
        position = 0
        self.looked_at = length = len(data)
        missing = 4
        while at_most:
            start = position + 4
            if start > length:
                missing = 4
                break
            (size,) = _unpack(data, position)
            if not 0 < size <= self.max_size:
                self.failure = _fault(size, self.max_size)
                break
            end = start + size
            if end > length:
                missing = 4 + size
                break
            bodies.append(data[start:end])
            position = end
            at_most -= 1
        if self.failure is None and position < length:
            self._rest += memoryview(data)[position:] if position else data
            self.buffered = length - position
            self._missing = missing if at_most else 0
        self.whole = len(bodies)
        self.taken += position
        return bodies


def _fault(size: int, max_size: int) -> Fatal:
    if size == 0:
        return Malformed("a frame's length must not be 0")
    return TooLarge(f"a frame of {size} bytes; at most {max_size} are allowed{_likely_cause(size, max_size)}")


_HTTP = (b"GET ", b"POST", b"PUT ", b"HEAD", b"HTTP", b"OPTI", b"CONN")
_TLS_RECORDS = range(0x14, 0x18)


def _likely_cause(size: int, max_size: int) -> str:
    """Returns a hint about an impossible length, for the author of the program that sent it."""
    first = PREFIX.pack(size)
    if first[0] in _TLS_RECORDS and first[1] == 3:
        return f" (0x{size:08x}: the other end speaks TLS; this end does not)"
    if first in _HTTP:
        return f" ({first.decode()!r}: the other end speaks HTTP)"
    if first[:1] in b"{[":
        return " (JSON without its length before it: 4 bytes, little endian)"
    if 0 < int.from_bytes(first, "big") <= max_size:
        return f" (0x{size:08x}: is your length big endian? It must be little endian)"
    return ""
