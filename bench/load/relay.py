"""The floor: a relay on uvloop that looks at nothing but lengths: ``python -m bench.load.relay FOLDER``.

A client's frame goes to the handler; a frame of the handler goes to the client whose number it begins with. One write
per destination for all frames of one read, as in our server.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

from bench.load.dialects import ALL

handlers: list[asyncio.Transport] = []
clients: dict[bytes, asyncio.Transport] = {}


class FromClient(asyncio.Protocol):
    """A client; its first frame has its number, and comes back."""

    def __init__(self) -> None:
        self._buffer = b""
        self._known = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        at, size = 0, len(data)
        while size - at >= 4:
            end = at + 4 + int.from_bytes(data[at : at + 4], "little")
            if end > size:
                break
            at = end
        self._buffer = data[at:]
        if not self._known:
            self._known = True
            self._number = data[4:8]
            clients[self._number] = self._transport
            self._transport.write(data[:at])
        elif at:
            handlers[0].write(data[:at])

    def connection_lost(self, exc: Exception | None) -> None:
        if self._known:
            del clients[self._number]


class FromHandler(asyncio.Protocol):
    """The handler."""

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        handlers.append(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        at, size = 0, len(data)
        out: dict[bytes, list[bytes]] = {}
        while size - at >= 4:
            end = at + 4 + int.from_bytes(data[at : at + 4], "little")
            if end > size:
                break
            out.setdefault(data[at + 4 : at + 8], []).append(data[at:end])
            at = end
        self._buffer = data[at:]
        if ALL in out:
            everything = b"".join(out.pop(ALL))
            for client in clients.values():
                client.write(everything)
        for number, frames in out.items():
            known = clients.get(number)
            if known is not None:
                known.write(b"".join(frames))


async def main(folder: str) -> None:
    loop = asyncio.get_running_loop()
    local = await loop.create_unix_server(FromHandler, f"{folder}/handlers")
    server = await loop.create_server(FromClient, "127.0.0.1", 0)
    print("ready", server.sockets[0].getsockname()[1], flush=True)
    await asyncio.gather(local.serve_forever(), server.serve_forever())


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
