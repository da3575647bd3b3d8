"""The parent of ``besterd --nodes N``, which serves no clients itself but keeps the nodes running (docs/scale.md).

It starts a NATS server, unless the configuration names one, and N nodes, each a ``besterd`` with a number, and restarts
any of these processes that dies. At the end the nodes stop one after another, so that each can still answer the others,
and NATS stops last.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bester.cli.supervised import SupervisedProcess
from bester.config.nodes import nodes_problems
from bester.errors import BadConfiguration, BesterError

if TYPE_CHECKING:
    from bester.cli.nats import PrivateNats
    from bester.config import Config
    from bester.server.telemetry.notify import Notifier

log = logging.getLogger("bester.nodes")

STOP_S = 15.0
"""How much longer than limits.drainTimeout a node may take to stop."""


def run_nodes(config: Config, count: int, say: Callable[[str], None], notifier: Notifier) -> int:
    """Runs several nodes until they are told to stop; returns the exit status. The service manager sees one process."""
    problems = list(nodes_problems(config, count))
    if problems:
        for one in problems:
            print(f"besterd: {one}", file=sys.stderr)
        return 2
    return asyncio.run(_Parent(config, count, say, notifier).run())


class _Parent:
    """The nodes of one machine, and their NATS."""

    def __init__(self, config: Config, count: int, say: Callable[[str], None], notifier: Notifier) -> None:
        assert config.path is not None
        self._notifier = notifier
        self._config = config
        self._path = config.path
        self._say = say
        self._nats: PrivateNats | None = None
        self._nodes = [_Node(number, config.path, say, self._node_ended) for number in range(1, count + 1)]
        self._ready = False
        self._stop = asyncio.Event()
        self._status = 0

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        try:
            await self._start()
        except BesterError as error:
            print(f"besterd: {error.message}", file=sys.stderr)
            self._status = 1
            self._stop.set()
        await self._stop.wait()
        self._say("stopping")
        await self._end()
        self._say("stopped")
        self._notifier.close()
        return self._status

    async def _start(self) -> None:
        _look_for_others(self._config)
        if self._config.cluster is None:
            from bester.cli.nats import PrivateNats

            self._nats = PrivateNats(self._config)
            await self._nats.start()
            self._say(f"NATS on {self._nats.access.url}, with its data in {self._nats.folder}")
            await self._take_over()
        for node in self._nodes:
            await node.process.start()
        waiting = asyncio.create_task(self._all_ready())
        stopped = asyncio.create_task(self._told_to_stop())
        await asyncio.wait({waiting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        stopped.cancel()

    async def _told_to_stop(self) -> None:
        await self._stop.wait()

    async def _all_ready(self) -> None:
        for node in self._nodes:
            await node.ready.wait()
        self._ready = True
        status = f"{self._config.server.name} is ready"
        self._say(status)
        self._notifier.ready(status)

    async def _take_over(self) -> None:
        """Moves the data of a server without nodes into NATS, once."""
        assert self._nats is not None
        done = self._nats.folder / "taken-over"
        source = self._config.storage.path
        if not source.exists() or done.exists():
            return
        from bester.config.nodes import private_cluster
        from bester.server.importing import run_import

        cluster = private_cluster(self._nats.access)
        counts = await run_import(self._config.model_copy(update={"cluster": cluster}), source)
        done.touch(mode=0o600)
        if counts.rows:
            self._say(f"taken over from {source}, which is not used any more: {counts}")

    def _node_ended(self, node: _Node, status: int) -> bool:
        """Returns whether to restart a node that ended unasked."""
        if self._stop.is_set():
            return False
        if status == 0:
            log.info("node %d was stopped by an operator; stopping all nodes", node.number)
        elif self._ready:
            return True
        else:
            self._status = 2 if status == 2 else 1
        self._stop.set()
        return False

    def _reload(self) -> None:
        with self._notifier.reloading():
            for node in self._nodes:
                node.process.signal(signal.SIGHUP)

    async def _end(self) -> None:
        timeout_s = self._config.limits.drain_timeout + STOP_S
        self._notifier.stopping(timeout_s * len(self._nodes))
        for node in reversed(self._nodes):
            await node.process.stop(timeout_s)
        if self._nats is not None:
            await self._nats.stop()


class _Node:
    """One of the nodes; the parent passes its output on."""

    def __init__(
        self, number: int, path: Path, say: Callable[[str], None], ended: Callable[[_Node, int], bool]
    ) -> None:
        self.number = number
        self.ready = asyncio.Event()
        self.process = SupervisedProcess(f"node {number}", self._begin, lambda status: ended(self, status))
        self._path = path
        self._say = say
        self._saying: asyncio.Task[None] | None = None

    async def _begin(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            sys.argv[0],
            "--node",
            str(self.number),
            self._path,
            stdin=PIPE,  # only the parent holds it open: when the parent ends, the node ends
            stdout=PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        self._saying = asyncio.create_task(self._pass_on(process.stdout))
        return process

    async def _pass_on(self, output: asyncio.StreamReader) -> None:
        while line := await output.readline():
            text = line.decode(errors="replace").strip().removeprefix("besterd: ")
            if text.endswith(" is ready"):
                self.ready.set()
            self._say(f"node {self.number}: {text}")


def _look_for_others(config: Config) -> None:
    """Checks that the ports are free: the nodes themselves would share them with any process of this user.

    Raises:
        BadConfiguration: another process has one of the ports.
    """
    from bester.net.listeners import Listener
    from bester.server.settings import make_listener

    found: list[tuple[Listener, socket.socket]] = []
    try:
        for configured in config.listeners():
            if configured.kind in ("tcp4", "tcp6", "tls"):
                listener = make_listener(configured)
                found.append((listener, listener.bind()))
    except OSError as error:
        raise BadConfiguration(
            f"cannot listen on {configured.kind}://{configured.address}:{configured.port}: {error.strerror or error}"
        ) from error
    finally:
        for _, bound in found:
            bound.close()
