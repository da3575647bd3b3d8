"""The others at a server's sockets, played by hand: each reads and writes frames on a real connection."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import struct
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from tests.waiting import PATIENCE_S, until

from bester.protocol.framing import frame
from bester.server.runtime import Runtime
from bester.server.server import Server
from bester.testing import PASSWORD, RunningServer, server

GOOD = {"messageType": "statusReport", "status": "good"}
BAD = {"messageType": "statusReport", "status": "bad"}


async def result(wire: Wire, name: str, /, **args: Any) -> Any:
    """Runs a command that must succeed, and returns its result."""
    wire.command(name, "b", **args)
    return (await wire.good("b")).get("data")


async def refused(wire: Wire, name: str, /, **args: Any) -> str:
    """Runs a command that must fail, and returns its code."""
    wire.command(name, "b", **args)
    return await wire.bad("b")


def body_of(message: Any) -> bytes:
    """Returns a message as it stands in a frame."""
    return message if isinstance(message, bytes) else json.dumps(message).encode()


class Wire:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    # -- writing ---------------------------------------------------------------------------------------------------

    def send(self, *messages: Any) -> None:
        """Sends messages in one write; bytes are bodies."""
        self.writer.write(b"".join(frame(body_of(message)) for message in messages))

    def ask(self, type: str, id: str = "", data: Any = None) -> None:
        """Sends a later message of a client."""
        self.send({"payload": {"type": type, "id": id, "data": data}})

    def command(self, name: str, id: str = "b", /, **args: Any) -> None:
        """Sends a built-in command."""
        self.ask("builtin", id, {"command": {"type": name, "args": args}})

    def answer(self, request: Any, *commands: Any, **payload: Any) -> None:
        """Answers a request as an attached handler."""
        said: Any = {"command": commands[0]} if len(commands) == 1 else {"commands": commands}
        header = {"id": request["header"]["id"], "status": "0", **said}
        self.send({"header": header} | ({"payload": payload} if payload else {}))

    def answer_in_part(self, request: Any, data: Any = None, command: Any = None) -> None:
        """Sends a part of the answer to a request, a reply unless there is a command."""
        header = {"id": request["header"]["id"], "status": "0", "more": True, "command": command or {"type": "reply"}}
        self.send({"header": header, "payload": {"data": data}})

    def note(self, kind: str, **payload: Any) -> None:
        """Sends a client's message that has no report."""
        self.send({"header": {"messageType": kind}, "payload": payload})

    async def part(self, of: str) -> Any:
        """Returns the data of the part that must come next, of the answer to the message with this id."""
        message = await self.get()
        assert message["header"] == {"messageType": "receivedMessage", "partOf": of, "more": True}, message
        return message["payload"]["data"]

    def end_input(self) -> None:
        self.writer.write_eof()

    def reset(self) -> None:
        """Closes in a way that the other end sees as an error."""
        connected: socket.socket = self.writer.get_extra_info("socket")
        if connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def leave(self) -> None:
        self.writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()

    # -- reading ---------------------------------------------------------------------------------------------------

    async def body(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            size = int.from_bytes(await self.reader.readexactly(4), "little")
            return await self.reader.readexactly(size)

    async def get(self) -> Any:
        return json.loads(await self.body())

    async def report(self, id: str | None = None) -> Any:
        """Returns the next message's payload; it must be a report."""
        message = await self.get()
        assert message["header"]["messageType"] == "statusReport", message
        assert message["header"]["status"] == ("bad" if "error" in message["payload"] else "good"), message
        assert id is None or message["payload"]["id"] == id, message
        return message["payload"]

    async def good(self, id: str | None = None) -> Any:
        """Returns the payload of the report that must come next, and be good."""
        payload = await self.report(id)
        assert "error" not in payload, payload
        return payload

    async def bad(self, id: str | None = None) -> str:
        """Returns the code of the report that must come next, and be bad."""
        return str((await self.report(id))["error"]["code"])

    async def closed(self) -> None:
        """Waits for the other end's orderly close; nothing more may come before it."""
        async with asyncio.timeout(PATIENCE_S):
            rest = await self.reader.read(4096)
        assert rest == b"", rest

    async def fatal(self) -> str:
        """Returns the code of the fatal message that must be the connection's last."""
        message = await self.get()
        assert message["header"] == {"messageType": "fatal", "status": "bad"}, message
        await self.closed()
        return str(message["payload"]["error"]["code"])


class Listening:
    """A socket that the server connects to: a classic handler's, or another server's."""

    def __init__(self) -> None:
        self.accepted: asyncio.Queue[Wire] = asyncio.Queue()
        self.wires: list[Wire] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    async def open(self, path: Path | None = None, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        if path is not None:
            self._server = await asyncio.start_unix_server(self._connected, path)
        else:
            self._server = await asyncio.start_server(self._connected, host, 0, ssl=tls)
            self.port = self._server.sockets[0].getsockname()[1]

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer)
        self.wires.append(wire)
        self.accepted.put_nowait(wire)

    async def accept(self) -> Wire:
        async with asyncio.timeout(PATIENCE_S):
            return await self.accepted.get()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for wire in self.wires:
            await wire.leave()


class Stage:
    """A server, and all that is connected to it."""

    def __init__(self, running: RunningServer, closing: AsyncExitStack) -> None:
        self.running = running
        self.folder = running.folder
        self._closing = closing
        self._ahead_s = 0.0

    @property
    def server(self) -> Server:
        return self.running.daemon

    @property
    def runtime(self) -> Runtime:
        return self.server.runtime

    @property
    def port(self) -> int:
        return self.port_of("tcp4")

    def port_of(self, kind: str) -> int:
        urls = [listener.url for listener in self.running.daemon.sockets.listeners if listener.kind == kind]
        return int(urls[0].rpartition(":")[2])

    def later(self, seconds: float) -> None:
        """Moves the server's clock forward."""
        self._ahead_s += seconds
        ahead_s = self._ahead_s
        self.runtime.clock = lambda: time.monotonic() + ahead_s

    def keep(self, wire: Wire) -> Wire:
        self._closing.push_async_callback(wire.leave)
        return wire

    async def connect(self, where: str = "unix", host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Wire:
        """Connects to a listener by its kind, or to ``handlers``, ``informer`` or ``control``."""
        config = self.running.daemon.config
        async with asyncio.timeout(PATIENCE_S):
            if where.startswith(("tcp", "tls")):
                name = "localhost" if tls is not None else None
                pair = await asyncio.open_connection(host, self.port_of(where), ssl=tls, server_hostname=name)
            else:
                path = self.folder / "clients" if where == "unix" else getattr(config, where).address
                pair = await asyncio.open_unix_connection(path)
        return self.keep(Wire(*pair))

    async def login(self, user: str = "t", where: str = "unix", **header: Any) -> Wire:
        """Returns a client's connection; its first report has been read."""
        wire = await self.connect(where)
        wire.send(hello(user, **header))
        await wire.good("auth_special")
        return wire

    async def away(self, user: str) -> None:
        """Makes an account, which has no session any more."""
        await (await self.login(user)).leave()
        await self.gone(user)

    async def gone(self, user: str) -> None:
        """Waits until an account has no session here."""
        await until(lambda: not self.runtime.exchange.presence.sessions(user))

    async def admin(self, user: str = "root") -> Wire:
        """Returns the connection of a client of role admin."""
        await self.server.accounts.add(user, PASSWORD, ("admin",))
        return await self.login(user)

    async def attach(self, *types: str, concurrency: int = 64, name: str = "", features: Sequence[str] = ()) -> Wire:
        """Returns the connection of an attached handler."""
        wire = await self.connect("handlers")
        message = attaching(*types, concurrency=concurrency, name=name)
        message["header"]["features"] = features
        wire.send(message)
        await wire.good("a")
        return wire

    async def listen(self, name: str | None = None, host: str = "127.0.0.1") -> Listening:
        """Opens a socket that the server can connect to: a Unix socket in its folder, or a port."""
        listening = Listening()
        await listening.open(self.folder / name if name is not None else None, host)
        self._closing.push_async_callback(listening.close)
        return listening


@asynccontextmanager
async def stage(overrides: Mapping[str, Any] | None = None) -> AsyncIterator[Stage]:
    """Runs a server; whoever is connected at the end leaves before it stops."""
    async with server(overrides) as running, AsyncExitStack() as closing:
        yield Stage(running, closing)


def hello(user: str = "t", password: str = PASSWORD, payload: Any = None, **header: Any) -> Any:
    """Returns a client's first message."""
    message: dict[str, Any] = {
        "header": {"scope": "client", "authentication": {"username": user, "password": password}, **header}
    }
    return message if payload is None else message | {"payload": payload}


def attaching(*types: Any, **data: Any) -> Any:
    """Returns a handler's first message."""
    return {"header": {"scope": "handler"}, "payload": {"type": "attach", "id": "a", "data": {"types": types, **data}}}


def to(*names: str, **more: Any) -> Any:
    """Returns the command ``sendClients``."""
    return {"type": "sendClients", "data": names, **more}


def classic(name: str = "classic", **more: Any) -> dict[str, Any]:
    """Returns the configuration of one type with a classic handler; its socket has the same name."""
    return {"handlers": {"typeMap": {name: {"unixDomainSocketPath": name, **more}}}}


def result_of(payload: Any) -> list[tuple[str, str, str | None]]:
    """Returns a report's results as ``(to, status, code)``."""
    return [(one["to"], one["status"], one.get("error", {}).get("code")) for one in payload["results"]]


def script(path: Path, text: str) -> Path:
    """Writes an executable Python program."""
    path.write_text(f"#!{sys.executable}\n{text}", encoding="utf-8")
    path.chmod(0o755)
    return path


def descriptors() -> int:
    """Returns how many files this process has open."""
    return len(os.listdir("/proc/self/fd"))
