"""A pytest plugin that runs tests with the simulated NATS server instead of the real one.

``python -m pytest -p tests.lab.simulated_nats ...``: each server, or each cluster, has a thread with a loop, and
listens on loopback as the real one does.
"""

from __future__ import annotations

import asyncio
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest
import tests.cluster.partition
import tests.nats
from tests.ports import free_port, free_ports

from bester.lab.nats import NatsCluster, NatsServer, Settings

T = TypeVar("T")
_USER = re.compile(r'user: "(\w+)", password: "(\w+)"')
_PING_MS = re.compile(r"ping_interval: (\d+)ms")
_SIZES = {"MB": 1024**2, "GB": 1024**3}
SIMULATED = "simulated NATS clusters: "
_clusters: dict[tuple[int, ...], _Thread] = {}
"""The clusters by the ports of their routes."""


class _Thread:
    """A loop in a thread of its own, and the cluster that lives there."""

    def __init__(self, options: str, jetstream: bool, max_store: str) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        ping = _PING_MS.search(options)
        settings = Settings(max_payload=4 * 1024**2, ping_s=int(ping[1]) / 1000 if ping else 120.0, max_pings=1)
        max_bytes = int(max_store[:-2]) * _SIZES[max_store[-2:]]

        def cluster() -> NatsCluster:
            return NatsCluster(Random(1), time.time, settings=settings, jetstream=jetstream, max_bytes=max_bytes)

        self.cluster = self.call(cluster)

    def call(self, what: Callable[[], T]) -> T:
        """Calls a function in the loop, and returns its result."""

        async def called() -> T:
            return what()

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(10)

    def listen(self, make: Callable[[], asyncio.Protocol], port: int) -> asyncio.Server:
        listening = self._loop.create_server(make, "127.0.0.1", port)
        return asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)

    def block(self, until: threading.Event) -> None:
        self._loop.call_soon_threadsafe(until.wait)


class SimulatedNats:
    """A simulated server with the interface of :class:`tests.nats.NatsServer`."""

    def __init__(
        self,
        folder: Path,
        options: str = "",
        routes: Sequence[int] = (),
        wait: bool = True,
        jetstream: bool = True,
        max_store: str = "10GB",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.process = self
        key = tuple(sorted(routes)) or (self.port,)
        if key not in _clusters:
            _clusters[key] = _Thread(options, jetstream, max_store)
        self._thread = _clusters[key]
        address = f"127.0.0.1:{self.port}" if routes else ""
        self._server = self._thread.call(lambda: NatsServer(self._thread.cluster, folder.name, address))
        self._listening: asyncio.Server | None = None
        self._continues = threading.Event()
        self.configure(options)
        self.start()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def configure(self, options: str) -> None:
        wanted = _USER.search(options)

        def admits(said: Mapping[str, Any]) -> bool:
            return wanted is None or (said.get("user"), said.get("pass")) == wanted.groups()

        if wanted is not None:
            self._thread.call(lambda: self._server.admit(admits))

    def start(self, wait: bool = True) -> None:
        self._listening = self._thread.listen(self._server.make_protocol, self.port)
        self._thread.call(self._server.start)

    def wait_ready(self) -> None:
        pass

    def pause(self) -> None:
        self._continues.clear()
        self._thread.block(self._continues)

    def go_on(self) -> None:
        self._continues.set()

    def kill(self) -> None:
        if self._listening is not None:
            self._thread.call(self._listening.close)
            self._listening = None
            self._thread.call(self._server.stop)

    def poll(self) -> None:
        """As that of a process that runs."""

    def send_signal(self, number: signal.Signals) -> None:
        assert number is signal.SIGUSR2
        assert self._listening is not None
        self._thread.call(self._listening.close)
        self._thread.call(lambda: self._server.retire(0.2))


def simulated_cluster(folder: Path, count: int = 3, options: str = "") -> list[SimulatedNats]:
    """As :func:`tests.nats.nats_cluster`."""
    routes = free_ports(count)
    return [SimulatedNats(folder / f"nats{number}", options, routes) for number in range(count)]


class SimulatedRoutes:
    """As :class:`tests.cluster.partition.Routes`."""

    def __init__(self) -> None:
        first, second = sorted(free_ports(2))
        self.ports = [first, second, second, first]

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def cut(self, first: bool = True, second: bool = True) -> None:
        thread = _clusters[self.ports[0], self.ports[1]]
        for cut, speaker, hearer in ((first, "nats0", "nats1"), (second, "nats1", "nats0")):
            if cut:
                thread.call(partial(thread.cluster.cut, speaker, hearer))

    def heal(self) -> None:
        thread = _clusters[self.ports[0], self.ports[1]]
        thread.call(thread.cluster.heal)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Lets all tests, and ``conftest.py``, have them."""
    for module in (tests.nats, tests.cluster.partition):
        setattr(module, "NatsServer", SimulatedNats)  # noqa: B010
    setattr(tests.nats, "nats_cluster", simulated_cluster)  # noqa: B010
    setattr(tests.cluster.partition, "Routes", SimulatedRoutes)  # noqa: B010


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"{SIMULATED}{len(_clusters)}")
