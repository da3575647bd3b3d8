"""Decodes and encodes WebSocket messages (RFC 6455, section 5) on the server's side, without I/O.

No extensions are negotiated, so the reserved bits must be 0. Control frames may come between the parts of a message.
"""

from __future__ import annotations

from struct import Struct

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NORMAL, GOING_AWAY, PROTOCOL_ERROR, BAD_DATA, POLICY, TOO_BIG, FAILED = 1000, 1001, 1002, 1007, 1008, 1009, 1011
MAX_CONTROL = 125
MAX_PARTS = 1024
"""The most frames that one message may be split into."""

_U16 = Struct(">H")
_U64 = Struct(">Q")


class Broken(Exception):
    """The peer violated the protocol; ``code`` is the close code."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


def frame(opcode: int, data: bytes) -> bytes:
    """Returns one unmasked frame with the FIN bit."""
    size = len(data)
    if size < 126:
        return bytes((0x80 | opcode, size)) + data
    if size < 65_536:
        return bytes((0x80 | opcode, 126)) + _U16.pack(size) + data
    return bytes((0x80 | opcode, 127)) + _U64.pack(size) + data


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
        if self.failure is None:
            self._buffer += data
            try:
                self._cut(found, at_most)
            except Broken as error:
                self.failure = error
                self._buffer.clear()
                self._parts.clear()
                self._within = False
        return found

    def _cut(self, found: list[tuple[int, bytes]], at_most: int) -> None:
        buffer = self._buffer
        at = 0
        while at_most and len(buffer) - at >= self._missing:
            first, second = buffer[at], buffer[at + 1]
            if first & 0x70 or not second & 0x80:
                raise Broken(PROTOCOL_ERROR, "a frame without a mask, or of an extension")
            opcode, size, start = first & 0x0F, second & 0x7F, at + 6
            if size >= 126:
                start += 2 if size == 126 else 8
                if len(buffer) < start - 4:
                    self._missing = start - at
                    break
                size = int.from_bytes(buffer[at + 2 : start - 4], "big")
            self._check(opcode, bool(first & 0x80), size)
            if len(buffer) < start + size:
                self._missing = start + size - at
                break
            payload = unmasked(bytes(buffer[start - 4 : start]), bytes(buffer[start : start + size]))
            at = start + size
            self._missing = 2
            if opcode >= CLOSE:
                if opcode == CLOSE:
                    _check_close(payload)
                found.append((opcode, payload))
            elif (message := self._join(bool(first & 0x80), payload)) is not None:
                found.append((TEXT, message))
                at_most -= 1
        del buffer[:at]

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
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")
