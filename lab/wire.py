"""The protocol by hand: frames over asyncio's streams, so that the server is judged without our library."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import msgspec

PASSWORD = "secret"
READ_BYTES = 64 * 1024

_encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode


class Lost(Exception):
    """The connection is gone."""


def framed(message: Any) -> bytes:
    """Returns a message as it travels (docs/protocol.md, section 1)."""
    body = _encode(message)
    return struct.pack("<I", len(body)) + body


class Wire:
    """One end of a connection: frames in, frames out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._rest = b""

    @classmethod
    async def open(cls, address: str | tuple[str, int]) -> Wire:
        """Connects to a path or to a host and its port.

        Raises:
            Lost: nobody answers.
        """
        try:
            if isinstance(address, str):
                return cls(*await asyncio.open_unix_connection(address, limit=READ_BYTES))
            return cls(*await asyncio.open_connection(*address, limit=READ_BYTES))
        except OSError as error:
            raise Lost from error

    def send(self, *messages: Any) -> None:
        """Sends messages in one write; bytes are frames already."""
        if not self._writer.is_closing():
            self._writer.write(b"".join(one if isinstance(one, bytes) else framed(one) for one in messages))

    async def batch(self) -> list[Any]:
        """Returns the messages that came, one at least.

        Raises:
            Lost: there are no more.
        """
        found: list[Any] = []
        while not found:
            try:
                data = await self._reader.read(READ_BYTES)
            except OSError as error:
                raise Lost from error
            if not data:
                raise Lost
            data = self._rest + data
            start, length = 0, len(data)
            while start + 4 <= length:
                end = start + 4 + int.from_bytes(data[start : start + 4], "little")
                if end > length:
                    break
                found.append(decode(data[start + 4 : end]))
                start = end
            self._rest = data[start:]
        return found

    def close(self) -> None:
        self._writer.close()
