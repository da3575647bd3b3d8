"""A server with the listener ``web``, and those who ask it over HTTP and WebSockets."""

from __future__ import annotations

import asyncio
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from tests.rawhttp import Answer, Asker
from tests.server.peers import Stage, hello
from tests.waiting import PATIENCE_S

from bester.config import parse
from bester.server.server import Server
from bester.testing import PASSWORD, RunningServer
from bester.web.site import Site

OWN = {"X-Bester": "1"}
ADMIN = "root"


class Socket:
    """One WebSocket, as a browser has it."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def send(self, message: Any) -> None:
        await self.ws.send_str(json.dumps(message))

    async def ask(self, type: str, id: str = "", data: Any = None) -> None:
        await self.send({"payload": {"type": type, "id": id, "data": data}})

    async def get(self) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            message = await self.ws.receive()
        assert message.type is aiohttp.WSMsgType.TEXT, message
        return json.loads(message.data)

    async def good(self, id: str) -> Any:
        payload = (await self.get())["payload"]
        assert payload["id"] == id, payload
        assert "error" not in payload, payload
        return payload

    async def closed(self) -> int | None:
        """Waits for the server's close frame, and returns its code."""
        async with asyncio.timeout(PATIENCE_S):
            message = await self.ws.receive()
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED), message
        return self.ws.close_code


class Browsing(Stage):
    """A server and its browsers."""

    def __init__(self, running: RunningServer, closing: AsyncExitStack, http: aiohttp.ClientSession) -> None:
        super().__init__(running, closing)
        self.http = http
        self.url = next(one.url for one in running.daemon.sockets.listeners if one.kind == "web")
        self._asker = Asker(self.port_of("web"))
        closing.callback(self._asker.close)

    async def get(self, path: str, **more: Any) -> tuple[int, str, Mapping[str, str]]:
        async with self.http.get(self.url + path, **more) as response:
            return response.status, await response.text(), response.headers

    async def raw(self, request: bytes) -> Answer:
        """Returns the answer to a request as bytes; they go over one connection for as long as the server lets them."""
        answer = await asyncio.to_thread(self._asker.ask, request)
        assert answer is not None
        return answer

    async def json(self, path: str, **more: Any) -> tuple[int, Any]:
        status, text, _ = await self.get(path, **more)
        return status, json.loads(text)

    async def post(self, path: str, body: Any, **more: Any) -> tuple[int, Any]:
        more.setdefault("headers", OWN)
        async with self.http.post(self.url + path, json=body, **more) as response:
            return response.status, json.loads(await response.text())

    async def sign_in(self) -> None:
        await self.server.accounts.add(ADMIN, PASSWORD, ("admin",))
        status, answer = await self.post("/api/login", {"username": ADMIN, "password": PASSWORD})
        assert status == 200, answer

    async def run(self, type: str, /, **args: Any) -> Any:
        """Runs a command that must succeed, from the console."""
        status, answer = await self.post("/api/command", {"type": type, "args": args})
        assert (status, answer["ok"]) == (200, True), answer
        return answer.get("data")

    async def socket(self, **more: Any) -> Socket:
        ws = await self.http.ws_connect(f"{self.url}/ws", **more)
        self._closing.push_async_callback(ws.close)
        return Socket(ws)

    async def socket_of(self, user: str = "t", **header: Any) -> Socket:
        socket = await self.socket()
        await socket.send(hello(user, **header))
        await socket.good("auth_special")
        return socket


@asynccontextmanager
async def browsing(
    overrides: Mapping[str, Any] | None = None,
    web: Mapping[str, Any] | None = None,
    trusting: ssl.SSLContext | None = None,
) -> AsyncIterator[Browsing]:
    """Runs a server with a listener ``web``."""
    with tempfile.TemporaryDirectory(prefix="bester-") as name:
        folder = Path(name)
        tree: dict[str, Any] = {
            "server": {"name": "test.example"},
            "network": {"unix": {"address": "clients"}, "web": {"port": 0, **(web or {})}},
            "accounts": {"registration": "firstUse"},
        } | dict(overrides or {})
        daemon = Server(await asyncio.to_thread(parse, json.dumps(tree), folder), web=Site)
        await daemon.start()
        try:
            jar = aiohttp.CookieJar(unsafe=True)  # cookies of numeric hosts, too
            connector = aiohttp.TCPConnector(ssl=trusting if trusting is not None else True)
            async with (
                aiohttp.ClientSession(cookie_jar=jar, connector=connector) as http,
                AsyncExitStack() as closing,
            ):
                yield Browsing(RunningServer(daemon, folder), closing, http)
        finally:
            await daemon.stop()
