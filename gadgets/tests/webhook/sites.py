"""Sites that are called, and settings for those who call."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from bester import Handler
from bester.testing import RunningServer
from bester_gadgets.fresh import Fresh
from bester_gadgets.webhook.calling import Caller
from bester_gadgets.webhook.settings import WebhookSettings
from bester_gadgets.webhook.signing import sign
from bester_gadgets.webhook.taking import Endpoint

KEY = b"0123456789abcdef0123456789abcdef"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
TOKEN = "a token of enough characters"
PATIENCE_S = 20.0


@dataclass
class Call:
    """What came to a site."""

    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> Any:
        return json.loads(self.body)


class Site:
    """A site that answers what the test says, and remembers what came."""

    def __init__(self, answers: list[Any]) -> None:
        self.answers = answers
        self.calls: list[Call] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = {key.lower(): value for key, value in request.headers.items()}
        self.calls.append(Call(headers, await request.read()))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, web.Response):
            return answer
        if callable(answer):
            response: web.StreamResponse = await answer(request)
            return response
        return web.json_response(answer)


def commands(*them: Any, **more: Any) -> Any:
    """An answer with these commands."""
    return {"header": {"status": "0", "commands": them}} | more


@asynccontextmanager
async def site(*answers: Any, ssl_context: Any = None) -> AsyncIterator[Site]:
    """Runs a site; the last answer is that to all further calls."""
    made = Site(list(answers))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl_context).start()
        scheme = "https" if ssl_context is not None else "http"
        made.url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}/hook"
        yield made
    finally:
        await runner.cleanup()


def settings(hook: dict[str, Any] | None = None, listen: dict[str, Any] | None = None, **push: Any) -> WebhookSettings:
    tree: dict[str, Any] = {"listen": {"port": 0, "timeout": 2} | (listen or {})}
    if hook is not None:
        tree["hooks"] = {"shout": {"types": ["shout"], "secret": SECRET, "timeout": 5} | hook}
    if push:
        tree["push"] = push
    return WebhookSettings.model_validate(tree)


@asynccontextmanager
async def calling(running: RunningServer, hook: dict[str, Any], tls: Any = None) -> AsyncIterator[Caller]:
    """Runs the outgoing half until the block ends."""
    found = settings(hook).hooks["shout"]
    caller = Caller("shout", found, Fresh(lambda: tls))
    handler = Handler(running.handlers_path, concurrency=found.concurrency, dry_run=False)
    handler.on(*found.types)(caller.handle)
    try:
        async with handler:
            yield caller
    finally:
        await caller.close()


@asynccontextmanager
async def taking(
    running: RunningServer, tls: Any = None, listen: dict[str, Any] | None = None, **push: Any
) -> AsyncIterator[str]:
    """Runs the incoming half until the block ends; gives its URL without the hook's name."""
    found = settings(None, listen, **push)
    handler = Handler(running.handlers_path)
    handler.on("webhook")(lambda message: None)
    async with handler:
        endpoint = Endpoint(found.listen, found.push, handler.push, tls)
        working = asyncio.ensure_future(endpoint.run())
        try:
            await until(lambda: endpoint.port or working.done())
            yield f"{'https' if tls is not None else 'http'}://127.0.0.1:{endpoint.port}/push"
        finally:
            working.cancel()
            await asyncio.wait([working])


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


def signed(body: bytes, id: str = "msg_1", *, key: bytes = KEY, at: float | None = None) -> dict[str, str]:
    return sign([key], id, int(time.time() if at is None else at), body)
