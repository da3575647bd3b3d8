"""Clients, handlers, servers and operators who misbehave, each on a connection of its own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import re
import ssl
import struct
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bench.load.dialects import account, token
from fuzz.fuzz_protocol import SEEDS, mutate

ACCOUNTS = 40
TYPES = ["echo", "chat", "kitchen", "void"]
CLASSIC = "classic"
COMMANDS = [
    *("listTypes", "serverInfo", "close", "login", "logout", "changePassword", "listClients", "kick", "listAccounts"),
    *("listHandlers", "stopHandler", "startHandler", "drainHandler", "handlerLog", "identity", "listServers"),
    *("disconnectServer", "trace", "why", "status", "problems", "listQueue", "showQueue", "retryQueue", "dropQueue"),
    *("setRoles", "reload", "nothing"),
]
QUESTIONS = [
    *("listClients", "isClient", "isAccount", "rolesOf", "serverInfo", "listTypes", "listServers", "watchClients"),
    *("quit", "nothing"),
]  # fmt: skip
PATHS = ["/ws", "/metrics", "/health", "/ready", "/", "/console", "/api/login", "/static/js/bester.js", "/../x"]


class Wire:
    """One connection of the fuzzer, with or without a WebSocket's frames."""

    def __init__(self, chance: random.Random, reader: StreamReader, writer: StreamWriter, web: bool = False) -> None:
        self.chance, self.reader, self.writer, self.web = chance, reader, writer, web

    def frame(self, body: bytes) -> bytes:
        if not self.web:
            return struct.pack("<I", len(body)) + body
        size = len(body)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size & 0xFFFF)
        mask = self.chance.randbytes(4)
        masked = bytes(byte ^ mask[at & 3] for at, byte in enumerate(body[:65_535]))
        first = 0x81 if self.chance.random() < 0.98 else self.chance.randrange(256)
        return bytes([first]) + length + mask + masked

    async def send(self, *bodies: bytes) -> None:
        """Sends frames in pieces, now and then with a few bytes that were changed."""
        data = b"".join(map(self.frame, bodies))
        if self.chance.random() < 0.01:
            at = self.chance.randint(0, len(data))
            data = data[:at] + self.chance.randbytes(self.chance.randint(0, 9)) + data[at + self.chance.randint(0, 5) :]
        while data and not self.writer.is_closing():
            cut = self.chance.choice((1, 7, 300, 1 << 20))
            self.writer.write(data[:cut])
            data = data[cut:]
            if cut < 300 and self.chance.random() < 0.3:
                await asyncio.sleep(0)
        async with asyncio.timeout(1):
            await self.writer.drain()

    async def read(self) -> bytes:
        """Returns the next frame's body, or nothing."""
        async with asyncio.timeout(1):
            if not self.web:
                return await self.reader.readexactly(struct.unpack("<I", await self.reader.readexactly(4))[0])
            head = await self.reader.readexactly(2)
            size = head[1] & 0x7F
            if size == 126:
                (size,) = struct.unpack(">H", await self.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", await self.reader.readexactly(8))
            return await self.reader.readexactly(size)

    async def leave(self, last: bytes) -> None:
        """Goes, in one of several ways, now and then in the middle of a frame."""
        if self.writer.is_closing():
            return
        way = self.chance.randrange(6)
        if way >= 3:
            self.writer.write(self.frame(last)[: self.chance.randint(1, len(last) + 3)])
        if way in {1, 4}:
            self.writer.transport.abort()
        elif way == 2 and self.writer.can_write_eof():
            self.writer.write_eof()
            async with asyncio.timeout(1):
                await self.reader.read()
        self.writer.close()


class World:
    """Those who come to a server, in its folder or by the ports of its listeners."""

    def __init__(self, folder: Path, chance: random.Random, ports: dict[str, int]) -> None:
        self.folder, self.chance, self.ports = folder, chance, ports
        self.done: Counter[str] = Counter()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE

    @asynccontextmanager
    async def wire(self, kind: str) -> AsyncIterator[Wire]:
        """Connects to a listener, or to a Unix socket of this name."""
        web = kind == "web"
        async with asyncio.timeout(3):
            if kind in self.ports:
                mine = (f"127.0.0.{self.chance.randint(1, 200)}", 0)
                tls = self._tls if kind == "tls" else None
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", self.ports[kind], ssl=tls, local_addr=mine, limit=1 << 20
                )
            else:
                reader, writer = await asyncio.open_unix_connection(self.folder / kind, limit=1 << 20)
            if web:
                key = base64.b64encode(self.chance.randbytes(16)).decode()
                writer.write(
                    f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{self.ports[kind]}\r\nUpgrade: websocket\r\n"
                    f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
                )
                await reader.readuntil(b"\r\n\r\n")
        try:
            yield Wire(self.chance, reader, writer, web)
        finally:
            writer.transport.abort()

    # -- bodies ----------------------------------------------------------------------------------------------------

    def some(self, right: Any, wrong: float = 0.1) -> bytes:
        """Returns the frame's body, mutated with some probability, or something else altogether."""
        body = json.dumps(right).encode()
        if self.chance.random() < wrong:
            body = mutate(self.chance, self.chance.choice((body, body, body, *SEEDS)))
        return body[:60_000]

    def name(self) -> str:
        return account(self.chance.randrange(ACCOUNTS)) if self.chance.random() < 0.95 else "nobody"

    def data(self) -> Any:
        chance = self.chance
        return chance.choice((None, 1, "x" * chance.choice((3, 300, 30_000)), {"to": self.name()}, [[], {}], "\ud800"))

    def builtin(self, id: str) -> Any:
        args = self.chance.choice(
            (
                {},
                {"username": self.name()},
                {"username": self.name(), "password": "wrong", "old": "wrong", "new": "wrong too"},
                {"type": self.chance.choice((*TYPES, CLASSIC))},
                {"server": "k.example", "limit": 3},
                {"since": 0, "id": "12345678"},
                {"ids": ["1", "x"]},
                {"username": self.name(), "roles": ["admin", "x"]},
            )
        )
        type = self.chance.choice(COMMANDS)
        if type in {"stopHandler", "drainHandler", "kick"} and self.chance.random() < 0.9:
            type = "startHandler"
        return {"payload": {"type": "builtin", "id": id, "data": {"command": {"type": type, "args": args}}}}

    def command(self) -> Any:
        chance = self.chance
        made: dict[str, Any] = chance.choice(
            (
                {"type": "reply"},
                {"type": "reply", "data": None},
                {"type": "done"},
                {"type": "sendClients", "data": [self.name() for _ in range(chance.choice((1, 1, 2, 30)))]},
                {"type": "sendClients", "data": self.name(), "transient": True},
                {"type": "sendHandler", "data": chance.choice((*TYPES, CLASSIC))},
                {"type": "sendServers", "data": [chance.choice(("127.0.0.1:9", "unix:/nowhere", "k.example", "?"))]},
                {"type": "nonsense"},
            )
        )
        if chance.random() < 0.2:
            made["payload"] = {"type": chance.choice(TYPES), "data": self.data()}
        return made

    def answer(self, header: dict[str, Any]) -> Any:
        commands = [self.command() for _ in range(self.chance.choice((0, 1, 2, 5)))]
        header |= {"command": self.command()} if self.chance.random() < 0.8 else {"commands": commands}
        return {"header": header, "payload": {"type": self.chance.choice(TYPES), "data": self.data()}}

    # -- who comes -------------------------------------------------------------------------------------------------

    async def client(self) -> None:
        """Logs in, and sends; reads what comes, or does not."""
        chance, number = self.chance, self.chance.randrange(ACCOUNTS)
        features = chance.sample(["token", "ack", "route", "replyTo", "none"], chance.randint(0, 4))
        proof = {"username": account(number), "token": token(number) if chance.random() < 0.97 else "wrong"}
        first: dict[str, Any] = {"header": {"scope": "client", "features": features, "authentication": proof}}
        if chance.random() < 0.3:
            first["header"]["mail"] = chance.choice((False, True, [], ["chat"], ["chat", "echo"]))
        if chance.random() < 0.3:
            first["payload"] = {"type": chance.choice(("dummy", *TYPES)), "id": "1", "data": self.data()}
        async with self.wire(chance.choice(("tcp4", "tcp4", "clients", "tls", "web"))) as wire:
            await wire.send(self.some(first, 0.04))
            reads = chance.random() < 0.8
            got: list[bytes] = []
            for turn in range(chance.randint(0, 30)):
                bodies = [self.clients_frame(f"{turn}.{at}", got) for at in range(chance.choice((1, 1, 5, 60)))]
                await wire.send(*bodies)
                if reads:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.05):
                            while len(got) < 100:
                                got += [await wire.read()]
                del got[:-20]
            await wire.leave(self.some(first, 0))

    def clients_frame(self, id: str, got: list[bytes]) -> bytes:
        kind, header = self.chance.random(), {}
        if kind < 0.1:
            return self.some(self.builtin(id), 0.02)
        if kind < 0.3:
            ids = [found[1].decode() for one in got if (found := re.search(rb'"deliveryId": ?"([^"]*)"', one))]
            return self.some({"header": {"messageType": "ack"}, "payload": {"type": "ack", "ids": ids or ["1"]}}, 0.01)
        if kind < 0.5:
            header = {self.chance.choice(("once", "route", "dryRun")): True}
        type = self.chance.choice((*TYPES, CLASSIC, "dummy", "unserved"))
        return self.some({"header": header, "payload": {"type": type, "id": id, "data": self.data()}}, 0.005)

    async def handler(self) -> None:
        """Attaches, answers and pushes; dies in the middle of an answer, or detaches."""
        chance = self.chance
        types = chance.sample([*TYPES, CLASSIC], chance.randint(1, 4))
        data = {"types": types, "name": "h", "concurrency": chance.choice((1, 3, 64))}
        features = {"features": ["dryRun"]} if chance.random() < 0.5 else {}
        attach = {"header": {"scope": "handler"} | features, "payload": {"type": "attach", "id": "a", "data": data}}
        async with self.wire("besterHandlers") as wire:
            await wire.send(self.some(attach, 0.05))
            ids: list[str] = []
            for turn in range(chance.randint(1, 100)):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        while len(ids) < 64:
                            ids += [json.loads(await wire.read())["header"].get("id", "0")]
                if chance.random() < 0.9:
                    answers = [self.handlers_frame(id) for id in ids if chance.random() < 0.98]
                    ids.clear()
                    if chance.random() < 0.2:
                        answers.append(self.some(self.answer({"messageType": "push", "id": f"p{turn}"}), 0.01))
                    if chance.random() < 0.01:
                        answers.append(self.some({"header": {}, "payload": {"type": "detach", "id": "d"}}, 0.02))
                    await wire.send(*answers)
                if chance.random() < 0.01:
                    await asyncio.sleep(3)  # and reads nothing
            await wire.leave(self.some(self.answer({"id": "1", "status": "0"}), 0))

    def handlers_frame(self, id: str) -> bytes:
        status = self.chance.choice(("0", "0", "0", "0", "0", "0", "0", "0", "1", 0))
        return self.some(self.answer({"id": id, "status": status}), 0.002)

    async def server(self) -> None:
        """Is another server, with a link or in the classic form."""
        chance = self.chance
        header: dict[str, Any] = {"scope": "server", "server": "k.example", "hops": chance.randint(0, 20)}
        if chance.random() < 0.7:
            header["features"] = ["link"]
        async with self.wire(chance.choice(("tcp4", "tls", "clients"))) as wire:
            type = chance.choice(("dummy", *TYPES))
            first = {"header": header, "payload": {"type": type, "id": "1", "data": self.data()}}
            await wire.send(self.some(first, 0.05))
            for turn in range(chance.randint(0, 10)):
                bodies = []
                for at in range(chance.choice((1, 5, 40))):
                    header = {"hops": chance.randint(0, 3), "once": chance.random() < 0.5}
                    payload = {"type": chance.choice((*TYPES, CLASSIC)), "id": f"{turn}-{at}", "data": self.data()}
                    bodies.append(self.some({"header": header, "payload": payload}, 0.01))
                await wire.send(*bodies)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        for _ in range(40):
                            await wire.read()
            await wire.leave(self.some(first, 0))

    async def informer(self) -> None:
        async with self.wire("bInformer") as wire:
            for _ in range(self.chance.randint(1, 60)):
                question = {"type": self.chance.choice(QUESTIONS), "data": self.name()}
                await wire.send(self.some({"command": question}, 0.05))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await wire.read()
            await wire.leave(b'{"command":{"type":"listClients"}}')

    async def operator(self) -> None:
        async with self.wire("besterControl") as wire:
            for turn in range(self.chance.randint(1, 20)):
                await wire.send(self.some(self.builtin(str(turn)), 0.1))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await wire.read()
            await wire.leave(self.some(self.builtin("last"), 0))

    async def browser(self) -> None:
        """Asks over HTTP, or for what is none."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.ports["web"])
        try:
            path = self.chance.choice(PATHS)
            text = f"{self.chance.choice(('GET', 'POST', 'X'))} {path} HTTP/1.1\r\nHost: localhost\r\n"
            text += "Upgrade: websocket\r\nContent-Length: 5\r\n" if self.chance.random() < 0.3 else ""
            request = f"{text}\r\n12345".encode()
            if self.chance.random() < 0.4:
                request = mutate(self.chance, request)
            writer.write(request)
            async with asyncio.timeout(0.3):
                await reader.read(1 << 16)
        finally:
            writer.transport.abort()

    async def classic(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answers as a classic handler, or does not."""
        try:
            async with asyncio.timeout(2):
                size = struct.unpack("<I", await reader.readexactly(4))[0]
                await reader.readexactly(size)
                body = self.some(self.answer({"status": "0"}), 0.1)
                data = struct.pack("<I", len(body)) + body
                if self.chance.random() < 0.1:
                    data = data[: self.chance.randint(0, len(data))]
                writer.write(data)
                if self.chance.random() < 0.1:
                    await asyncio.sleep(1.5)
                await writer.drain()
        except (OSError, EOFError, TimeoutError, asyncio.CancelledError):  # which comes when the loop ends
            pass
        finally:
            writer.close()

    async def keep(self, kind: str, come: Callable[[], Awaitable[None]]) -> None:
        """Lets one after the other come."""
        while True:
            try:
                await come()
                self.done[kind] += 1
            except (OSError, EOFError, TimeoutError, ValueError, KeyError, asyncio.LimitOverrunError):
                self.done[f"{kind}, cut short"] += 1
                await asyncio.sleep(0.01)

    async def all_come(self, seconds: float) -> None:
        each: list[tuple[str, Callable[[], Awaitable[None]], int]] = [
            ("client", self.client, 30),
            ("handler", self.handler, 8),
            ("server", self.server, 4),
            ("informer", self.informer, 3),
            ("operator", self.operator, 2),
            ("browser", self.browser, 3),
        ]
        classic = await asyncio.start_unix_server(self.classic, self.folder / "classicSock")
        async with classic:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                    for kind, come, count in each:
                        for _ in range(count):
                            group.create_task(self.keep(kind, come))
