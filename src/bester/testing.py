"""Help for the tests of clients and handlers.

A handler's functions need no server to be tested::

    def test_chat():
        assert call(handler, "chat", "hello", user="t") == [SendClients(["g"], "hello")]

And a whole server runs in the test's own loop, on temporary sockets::

    async def test_with_server():
        async with server() as s, Client(s.url("t")) as client:
            ...

Several servers, on a simulated network that fails at random, by a seed::

    @lab(seeds=50)
    async def test_in_a_storm(world):
        shop = world.server("shop.example", handlers=[make_shop])
        await world.start()
        t = await world.client(shop, "t")
        async with world.trouble():
            ...
"""

from __future__ import annotations

import asyncio
import inspect
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from msgspec import Raw

from bester.handler.binding import replied
from bester.handler.handler import DEFAULT_MAX_FRAME_BYTES
from bester.handler.parts import collecting
from bester.handler.registered import Registered
from bester.handler.registry import Registry
from bester.handler.router import Router
from bester.protocol.commands import Command, commands_in
from bester.protocol.requests import Request, Sender
from bester.protocol.responses import encode_response
from bester.protocol.values import encode_data

if TYPE_CHECKING:
    from bester.lab.actors import LabClient as LabClient
    from bester.lab.actors import LabHandler as LabHandler
    from bester.lab.actors import Site as Site
    from bester.lab.caught import Caught as Caught
    from bester.lab.loop import Outside as Outside
    from bester.lab.loop import Stuck as Stuck
    from bester.lab.play import lab as lab
    from bester.lab.process import ProcessDied as ProcessDied
    from bester.lab.stage import LabWorld as LabWorld
    from bester.server.server import Server

_HOMES = {
    "Caught": "bester.lab.caught",
    "LabClient": "bester.lab.actors",
    "LabHandler": "bester.lab.actors",
    "LabWorld": "bester.lab.stage",
    "Outside": "bester.lab.loop",
    "ProcessDied": "bester.lab.process",
    "Site": "bester.lab.actors",
    "Stuck": "bester.lab.loop",
    "lab": "bester.lab.play",
}
__all__ = [
    "Caught",
    "LabClient",
    "LabHandler",
    "LabWorld",
    "Outside",
    "ProcessDied",
    "RunningServer",
    "Site",
    "Stuck",
    "call",
    "call_async",
    "lab",
    "server",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)  # the lab has the whole server with it, which the tests of functions do not need
    if home is None:
        raise AttributeError(f"module 'bester.testing' has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


PASSWORD = "secret"
"""The password that :meth:`RunningServer.url` gives for every account."""


def call(
    router: Router,
    type: str,
    data: Any = None,
    *,
    user: str | None = "t",
    server: str | None = "localhost",
    verified: bool = True,
    scope: str = "client",
    id: str = "",
    hops: int = 0,
    dry_run: bool = False,
    given: Mapping[Any, Any] | None = None,
) -> list[Command]:
    """Calls a handler's function as a server would, with its middleware and error handlers; returns its commands.

    A value that it returns is a :class:`bester.Reply` of it, and a generator's parts are collected. A function that is
    not plain runs in a new event loop; if a loop is running already, await :func:`call_async` instead.

    Args:
        router: a handler, or a router.
        type: the type of the message.
        data: its data: a value, a Struct, a dataclass or a model.
        user, server, verified: the sender; another server has no user, and a classic handler is told nothing.
        scope, id, hops, dry_run: as in :class:`bester.Request`.
        given: what the lifespans would make, by its type; none is started.

    Raises:
        KeyError: the handler has no function for the type.
        TypeError: the function's result has no form on the wire.
        Exception: the exception that the function raised; for data of another type :class:`bester.Refuse`.
    """
    request = _request(type, data, Sender(user, server, verified), scope, id, hops, dry_run)
    found = _found(router, type, given)
    if found.asynchronous:
        return asyncio.run(_awaited(found, request))
    result = found.call(request)
    return asyncio.run(_finished(result, request)) if inspect.isawaitable(result) else _checked(result, request)


async def call_async(
    router: Router,
    type: str,
    data: Any = None,
    *,
    user: str | None = "t",
    server: str | None = "localhost",
    verified: bool = True,
    scope: str = "client",
    id: str = "",
    hops: int = 0,
    dry_run: bool = False,
    given: Mapping[Any, Any] | None = None,
) -> list[Command]:
    """Calls a handler's function as :func:`call` does, in the running loop."""
    request = _request(type, data, Sender(user, server, verified), scope, id, hops, dry_run)
    return await _awaited(_found(router, type, given), request)


def _request(type: str, data: Any, sender: Sender, scope: str, id: str, hops: int, dry_run: bool) -> Request:
    return Request(type, id, sender, scope, hops, dry_run, raw=Raw(bytes(encode_data(data))))


def _found(router: Router, type: str, given: Mapping[Any, Any] | None) -> Registered:
    registry = Registry(router)
    registry.made.update(given or {})
    found = registry.get(type)
    if found is None:
        raise KeyError(type)
    return found


async def _awaited(found: Registered, request: Request) -> list[Command]:
    if found.streams:
        return _checked(await collecting(found, DEFAULT_MAX_FRAME_BYTES)(request), request)
    return await _finished(found.call(request), request)


async def _finished(result: Any, request: Request) -> list[Command]:
    return _checked(await result if inspect.isawaitable(result) else result, request)


def _checked(result: object, request: Request) -> list[Command]:
    response = replied(result)
    encode_response(response, request.raw)
    return commands_in(response)


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server in this process; made by :func:`server`."""

    daemon: Server
    folder: Path
    """The folder of its sockets and its database."""

    def url(self, user: str, password: str = PASSWORD) -> str:
        """Returns a client's URL over TCP. The account's first login creates it."""
        listener = next(one for one in self.daemon.sockets.listeners if one.kind == "tcp4")
        return f"bester://{quote(user, safe='')}:{quote(password, safe='')}@{listener.url.removeprefix('tcp4://')}"

    def unix_url(self, user: str, password: str = PASSWORD) -> str:
        """Returns a client's URL over a Unix socket."""
        return f"bester+unix://{quote(user, safe='')}:{quote(password, safe='')}@{quote(str(self.folder / 'clients'))}"

    @property
    def handlers_path(self) -> str:
        """The address for :class:`bester.Handler`."""
        return str(self.daemon.config.handlers.address)

    @property
    def informer_path(self) -> str:
        """The path for :class:`bester.Informer`."""
        return str(self.daemon.config.informer.address)


@asynccontextmanager
async def server(overrides: Mapping[str, Any] | None = None) -> AsyncIterator[RunningServer]:
    """Runs a server until the block ends; it needs no configuration, and leaves nothing behind.

    An account's first login creates it, which is for tests only.

    Args:
        overrides: more of the configuration (docs/protocol.md, section 10), merged into that of the tests.

    Raises:
        bester.config.ConfigError: the overrides are wrong.
    """
    from bester.config import parse
    from bester.lab.server import merged
    from bester.server.server import Server

    with tempfile.TemporaryDirectory(prefix="bester-") as name:
        folder = Path(name)
        tree = {
            "server": {"name": "test.example"},
            "network": {
                "types": ["unix", "tcp4"],
                "unix": {"address": "clients"},
                "tcp4": {"port": 0, "address": "127.0.0.1"},
            },
            "accounts": {"registration": "firstUse"},
        }
        text = msgspec.json.encode(merged(tree, overrides or {})).decode()
        # Parsing looks at files, which blocks briefly.
        daemon = Server(await asyncio.to_thread(parse, text, folder))
        await daemon.start()
        try:
            yield RunningServer(daemon, folder)
        finally:
            await daemon.stop()
