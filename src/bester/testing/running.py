"""Servers in this process: in the test's own loop, or in a thread."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import msgspec
import uvloop

from bester import sync
from bester.config import load
from bester.handler.handler import Handler
from bester.handler.router import Router
from bester.lab.server import merged
from bester.server.server import Server

T = TypeVar("T")

PASSWORD = "secret"
"""The password that :meth:`RunningServer.url` gives for every account."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server in this process; made by :func:`server`."""

    daemon: Server
    folder: Path
    """The folder of its sockets and its database."""

    @property
    def config_path(self) -> Path:
        """The file of its configuration, which the operators' commands take as ``--config``."""
        return self.folder / "server.conf"

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
        path = folder / "server.conf"
        path.write_bytes(msgspec.json.encode(merged(tree, overrides or {})))
        # Reading looks at files, which blocks briefly.
        daemon = Server(await asyncio.to_thread(load, path))
        await daemon.start()
        try:
            yield RunningServer(daemon, folder)
        finally:
            await daemon.stop()


class LocalServer:
    """A server in a thread, with the handlers that are attached to it and the clients that it makes.

    The fixture ``bester_server`` is one; without pytest it is a context manager. As it does not depend on the test's
    loop, it is for plain functions too. Handlers run in its thread.

    Args:
        overrides: as in :func:`server`.
    """

    def __init__(self, overrides: Mapping[str, Any] | None = None) -> None:
        self._overrides = overrides
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bester-server", daemon=True)
        self._stack = AsyncExitStack()
        self._running: RunningServer | None = None
        self._clients: list[sync.Client] = []

    @property
    def running(self) -> RunningServer:
        """The server, with its addresses."""
        assert self._running is not None, "use it in a with block"
        return self._running

    def url(self, user: str, password: str = PASSWORD) -> str:
        """Returns a client's URL; the account's first login creates it."""
        return self.running.url(user, password)

    def client(self, user: str, **options: Any) -> sync.Client:
        """Returns a blocking client that is logged in, and closed in the end.

        Args:
            user: the account, which need not exist yet.
            options: as in :class:`bester.Client`.
        """
        client = sync.Client(self.url(user), **options)
        self._clients.append(client)
        client.open()
        return client

    def attach(self, router: Router) -> None:
        """Attaches all that a router has, or a handler wherever it attaches else, until the server ends."""
        handler = Handler(self.running.handlers_path)
        handler.include(router)
        self._do(self._stack.enter_async_context(handler))

    def _do(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._running = self._do(self._stack.enter_async_context(server(self._overrides)))
        except BaseException:
            self._end_thread()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for client in self._clients:
                client.close()
            self._do(self._stack.aclose())
        finally:
            self._end_thread()

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
