"""Decodes and encodes WebSocket messages (RFC 6455, section 5) on the server's side, without I/O.

No extensions are negotiated, so the reserved bits must be 0. Control frames may come between the parts of a message.
"""

from __future__ import annotations

from struct import Struct

try:
    # Not public; it masks in place, in C where aiohttp is compiled.
    from aiohttp._websocket.helpers import websocket_mask as _mask_in_place
except ImportError:
    _mask_in_place = None  # type: ignore[assignment]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NORMAL, GOING_AWAY, PROTOCOL_ERROR, BAD_DATA, POLICY, TOO_BIG, FAILED = 1000, 1001, 1002, 1007, 1008, 1009, 1011
MAX_CONTROL = 125
MAX_PARTS = 1024
"""The most frames that one message may be split into."""

_U16 = Struct(">H")
_HEAD_U16 = Struct(">BBH")
_HEAD_U64 = Struct(">BBQ")
_FIN = 0x80
_WHOLE = (_FIN | TEXT, _FIN | BINARY)
"""How a message in one frame begins."""


class Broken(Exception):
    """The peer violated the protocol; ``code`` is the close code."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


def frame(opcode: int, data: bytes) -> bytes:
    """Returns one unmasked frame with the FIN bit."""
    return head(opcode, len(data)) + data


def head(opcode: int, size: int) -> bytes:
    """Returns what stands before the data of :func:`frame`."""
    if size < 126:
        return bytes((_FIN | opcode, size))
    if size < 65_536:
        return _HEAD_U16.pack(_FIN | opcode, 126, size)
    return _HEAD_U64.pack(_FIN | opcode, 127, size)


def close_frame(code: int) -> bytes:
    """Returns the frame that closes a connection."""
    return frame(CLOSE, _U16.pack(code))


class Messages:
    """Takes bytes, and returns messages and control frames in order.

    ``failure`` is set when the stream is invalid; complete messages before the fault are still returned.

    Args:
        max_size: the largest message in bytes, over all of its frames; may change between calls. It is checked before
            any of a frame's data is buffered.
    """

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self.failure: Broken | None = None
        self._buffer = bytearray()
        self._missing = 2
        """The number of bytes that the buffer needs before its next frame can be complete."""
        self._parts: list[bytes] = []
        self._size = 0
        self._within = False

    @property
    def incomplete(self) -> bool:
        """Whether a message has started but is not complete."""
        return self._within or bool(self._buffer)

    def feed(self, data: bytes, at_most: int = -1) -> list[tuple[int, bytes]]:
        """Takes bytes as they were read, and returns complete messages and control frames.

        Each is an opcode (``TEXT`` for every message) with its data. If ``at_most`` is not negative, input after that
        many messages stays buffered until the next call, which may feed ``b""``; its size is checked against the
        ``max_size`` at that time. After a failure, all further input is discarded.
        """
        found: list[tuple[int, bytes]] = []
        buffer = self._buffer
        if self.failure is not None:
            return found
        if buffer:
            buffer += data
            if len(buffer) < self._missing:
                return found
            data = bytes(buffer)
            buffer.clear()
        try:
            rest = self._cut(data, found, at_most)
        except Broken as error:
            self.failure = error
            self._parts.clear()
            self._within = False
            return found
        if rest < len(data):
            buffer += memoryview(data)[rest:]
        return found

    def _cut(self, data: bytes, found: list[tuple[int, bytes]], at_most: int) -> int:
        """Appends what is complete; returns where the rest begins, of which ``_missing`` bytes must be there."""
        at, length = 0, len(data)
        self._missing = 2
        while at_most and length - at >= 2:
            first, second = data[at], data[at + 1]
            if first & 0x70 or not second & 0x80:
                raise Broken(PROTOCOL_ERROR, "a frame without a mask, or of an extension")
            size, start = second & 0x7F, at + 6
            if size >= 126:
                start += 2 if size == 126 else 8
                if length < start - 4:
                    self._missing = start - at
                    break
                size = int.from_bytes(data[at + 2 : start - 4], "big")
            whole = first in _WHOLE and not self._within
            if not whole or size > self.max_size:
                self._check(first & 0x0F, bool(first & _FIN), size)
            end = start + size
            if length < end:
                self._missing = end - at
                break
            payload = unmasked(data[start - 4 : start], data[start:end])
            at = end
            if whole:
                found.append((TEXT, payload))
                at_most -= 1
            elif first & 0x0F >= CLOSE:
                if first & 0x0F == CLOSE:
                    _check_close(payload)
                found.append((first & 0x0F, payload))
            elif (message := self._join(bool(first & _FIN), payload)) is not None:
                found.append((TEXT, message))
                at_most -= 1
        return at

    def _check(self, opcode: int, is_last: bool, size: int) -> None:
        if opcode in (CLOSE, PING, PONG):
            if not is_last or size > MAX_CONTROL:
                raise Broken(PROTOCOL_ERROR, "a control frame in parts, or too long")
            return
        if opcode not in (CONTINUATION, TEXT, BINARY) or (opcode == CONTINUATION) is not self._within:
            raise Broken(PROTOCOL_ERROR, "a frame that is not the next one of a message")
        if self._size + size > self.max_size:
            raise Broken(TOO_BIG, f"a message of more than {self.max_size} bytes")

    def _join(self, is_last: bool, payload: bytes) -> bytes | None:
        """Adds a part, and returns the message if that was its last part."""
        if is_last and not self._within:
            return payload
        self._parts.append(payload)
        self._size += len(payload)
        self._within = not is_last
        if self._within:
            if len(self._parts) >= MAX_PARTS:
                raise Broken(PROTOCOL_ERROR, f"a message in more than {MAX_PARTS} frames")
            return None
        message = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return message


def _check_close(payload: bytes) -> None:
    """Checks a close frame's data, which is empty, or a code and a reason in UTF-8."""
    code = int.from_bytes(payload[:2], "big")
    if payload and (len(payload) == 1 or not (1000 <= code < 5000) or code in (1004, 1005, 1006, 1015)):
        raise Broken(PROTOCOL_ERROR, "a close frame without a code that may be sent")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise Broken(BAD_DATA, "a close frame whose reason is not UTF-8") from None


def unmasked(mask: bytes, data: bytes) -> bytes:
    """Returns data with a mask of 4 bytes applied or removed, which is the same operation."""
    if _mask_in_place is not None:
        changed = bytearray(data)
        _mask_in_place(mask, changed)
        return bytes(changed)
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")
