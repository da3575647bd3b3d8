"""Starts configured handlers, keeps them running, and stops them (docs/protocol.md, section 10).

A classic handler that something already answers for is left alone. A process that ends is started again after a pause
that grows from 0.2 s to 30 s, and shrinks back once it has run for a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import stat
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from bester.backoff import Backoff
from bester.clock import wall_time
from bester.config import HandlerConfig
from bester.core.routing import AttachedHandler, TypeRoute
from bester.errors import BadArguments, SessionEnded
from bester.server.handlers.guardian import Guardian
from bester.server.runtime import Runtime
from bester.server.settings import attached_rules, exchange_limits, type_rules
from bester.timeouts import within

log = logging.getLogger("bester.supervisor")

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 30.0
SETTLED_S = 60.0
STARTING_S = 5.0
"""How long a message waits for the socket of a handler that has just been started."""
STOP_S = 3.0
"""How long a handler may take to end after SIGTERM."""
GRACE_S = 1.0
"""How long beyond their time limit requests may be outstanding, since that is looked at a few times a second."""
ENDING_S = 1.0
"""How long a handler may take to end by itself when its input has ended."""
MAX_LINE = 4096
"""The longest line of a handler's output that goes to the log, in bytes; the rest of it is dropped."""
KEPT_LINES = 500
"""How many lines of each handler's output are kept to be shown."""


Speak = Callable[[HandlerConfig, Callable[[], None]], asyncio.Protocol]
"""Makes the connection to a process's standard input and output; calls what it is given when that has ended."""


class Supervisor:
    """The handler processes of one server.

    Args:
        runtime: has the configuration, the exchange and the clock.
        speak: for handlers that are spoken to over their standard input and output.
    """

    def __init__(self, runtime: Runtime, speak: Speak) -> None:
        self.runtime = runtime
        self._speak = speak
        self._processes: dict[str, _Process] = {}
        self._guardian = Guardian()
        self._held: set[str] = set()
        """The types that an operator stopped: their classic handlers are not asked, nor started."""

    def state(self, type: str) -> dict[str, object] | None:
        """Returns what is known of a type's process; None if this server runs none for it."""
        process = self._processes.get(type)
        if process is None:
            return None
        return {"pid": process.pid, "starts": process.starts, "lastExit": process.last_exit}

    # -- what operators do (docs/protocol.md, section 5.3) ---------------------------------------------------------

    def is_stopped(self, type: str) -> bool:
        """Whether an operator stopped the type's classic handler."""
        return type in self._held

    def is_down(self, type: str) -> bool:
        """Whether the type's process is to run and has ended, or cannot be started."""
        process = self._processes.get(type)
        return process is not None and process.running and process.down

    async def start_type(self, type: str) -> dict[str, object]:
        """Lets a type's classic handler be asked again, and starts it if this server runs it.

        Raises:
            BadArguments: the configuration has no classic handler for the type.
        """
        self._check_configured(type)
        self._held.discard(type)
        process = self._processes.get(type)
        if process is not None and not process.running:
            process.start()
            await process.tried.wait()
        self.reconfigure()
        return {"process": self.state(type)}

    async def stop_type(self, type: str) -> dict[str, object]:
        """Stops asking a type's handlers at once: ends its process, and the connections of attached handlers.

        Raises:
            BadArguments: nobody serves the type.
        """
        kind = self._find(type)
        attached = list(kind.attached)
        self.runtime.turn()
        for handler in attached:
            handler.writer.fail(SessionEnded("the handler was stopped by an operator"))
        self._hold(type)
        process = self._processes.get(type)
        if process is not None:
            await process.stop()
        return {"attached": len(attached), "process": process is not None}

    def drain_type(self, type: str) -> dict[str, object]:
        """Gives a type's handlers no new requests; when the outstanding ones are done, they are stopped.

        Raises:
            BadArguments: nobody serves the type.
        """
        kind = self._find(type)
        attached = list(kind.attached)
        outstanding = kind.active + sum(len(handler.outstanding) for handler in attached)
        exchange = self.runtime.turn()
        for handler in attached:
            exchange.dispatcher.detach(handler)
        self._hold(type)
        self.runtime.spawn(self._finish_draining(type, kind, attached))
        return {"attached": len(attached), "process": type in self._processes, "outstanding": outstanding}

    async def _finish_draining(self, type: str, kind: TypeRoute, attached: list[AttachedHandler]) -> None:
        def is_done() -> bool:
            return not kind.active and not any(handler.outstanding for handler in attached)

        # Each request has its time limit, so this ends by itself. Answers in parts alone may take longer.
        timeout_s = kind.rules.timeout_s + GRACE_S
        await self.runtime.until(is_done, timeout_s)
        if not is_done():
            streams = self.runtime.turn().streams
            for handler in attached:
                for id, request in handler.outstanding.items():
                    streams.give_up(handler, request, id)
            await self.runtime.until(is_done, timeout_s)
        for handler in attached:
            if not handler.closed:
                handler.writer.end()
        process = self._processes.get(type)
        if process is not None and type in self._held:
            await process.stop()

    def output(self, type: str, lines: int) -> list[dict[str, object]]:
        """Returns the last lines that a type's process wrote, oldest first.

        Raises:
            BadArguments: no process of this type is ours.
        """
        process = self._processes.get(type)
        if process is None:
            raise BadArguments("this server starts no process for this type")
        found = list(process.output)[-lines:] if lines else []
        return [{"time": at, "line": line} for at, line in found]

    def _find(self, type: str) -> TypeRoute:
        kind = self.runtime.exchange.dispatcher.types.get(type)
        if kind is None:
            raise BadArguments("nobody serves this type")
        return kind

    def _check_configured(self, type: str) -> None:
        handler = self.runtime.config.served_types().get(type)
        if handler is None or not handler.supervised:
            raise BadArguments("the configuration has no handler for this type; attached ones start themselves")

    def _hold(self, type: str) -> None:
        handler = self.runtime.config.served_types().get(type)
        if handler is not None and handler.supervised:
            self._held.add(type)
            self.reconfigure()

    def reconfigure(self) -> None:
        """Tells the exchange the rules of the configuration, but for the types that are stopped."""
        config = self.runtime.config
        rules = type_rules(config)
        self._held &= rules.keys()
        rules |= {name: replace(rules[name], classic_socket=None) for name in sorted(self._held)}
        self.runtime.turn().dispatcher.configure(rules, exchange_limits(config), attached_rules(config))

    # -- processes -----------------------------------------------------------------------------------------------

    def unreachable(self, type: str) -> bool:
        """Notes that a type's socket cannot be connected to; returns whether its handler is just starting."""
        process = self._processes.get(type)
        if process is None:
            return False
        process.unreachable.set()
        return process.pid is not None and self.runtime.clock() < process.starting_until

    async def apply(self, handlers: dict[str, HandlerConfig]) -> None:
        """Starts new handlers, stops removed ones, restarts changed ones."""
        wanted = {name: handler for name, handler in handlers.items() if _executable(handler)}
        gone = [process for name, process in self._processes.items() if wanted.get(name) != process.config]
        for process in gone:
            del self._processes[process.type]
        await asyncio.gather(*(process.stop() for process in gone))
        started: list[_Process] = []
        for name, handler in wanted.items():
            if name not in self._processes:
                process = self._processes[name] = _Process(self.runtime, name, handler, self._guardian, self._speak)
                if name not in self._held:
                    started.append(process)
                    process.start()
        await asyncio.gather(*(process.tried.wait() for process in started))

    async def stop(self) -> None:
        """Stops all handlers."""
        await self.apply({})
        await self._guardian.close()


def _executable(handler: HandlerConfig) -> bool:
    path = handler.binary
    return path is not None and handler.supervised and os.access(path, os.X_OK) and path.is_file()


def _answers(path: str) -> bool:
    """Whether somebody listens there; only asked before a start: a simple handler may trip on an empty connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) == 0


def _remove_socket(path: str) -> None:
    """Removes the socket of a handler that is gone, so that a simple one can bind there again."""
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)


class _Process:
    """The process of one type's handler, which is started again whenever it ends."""

    def __init__(self, runtime: Runtime, type: str, config: HandlerConfig, guardian: Guardian, speak: Speak) -> None:
        self.runtime = runtime
        self._speak = speak
        self.guardian = guardian
        self.type = type
        self.config = config
        self.pid: int | None = None
        self.starts = 0
        self.last_exit: int | None = None
        self.down = False
        """Whether it waits to be started again."""
        self.tried = asyncio.Event()
        """Set when the handler has been started, was found to be running already, or could not be started."""
        self.unreachable = asyncio.Event()
        """Set when a message could not be handed over."""
        self.starting_until = 0.0
        self.output: deque[tuple[float, str]] = deque(maxlen=KEPT_LINES)
        """The last lines of its output, with their times in seconds since 1970."""
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether it is to run, whether it runs just now or not."""
        return self._task is not None

    def start(self) -> None:
        self.down = False
        self.tried.clear()
        self._task = self.runtime.spawn(self._keep())

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _keep(self) -> None:
        backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S, spread=(0.8, 1.2))
        path = str(self.config.socket) if self.config.socket is not None else None
        while True:
            if path is not None:
                if _answers(path):
                    log.info("type %s: something answers on %s already; nothing is started", ascii(self.type), path)
                    self.down = False
                    self.tried.set()
                    self.unreachable.clear()
                    await self.unreachable.wait()
                    continue
                _remove_socket(path)
            began = self.runtime.clock()
            await self._run(path)
            if self.runtime.stopping:
                return
            self.down = True
            self.tried.set()
            if self.runtime.clock() - began > SETTLED_S:
                backoff.reset()
            pause_s = backoff.next_s()
            log.warning("type %s: its handler ended with %s; again in %.1f s", self.type, self.last_exit, pause_s)
            await asyncio.sleep(pause_s)

    async def _run(self, path: str | None) -> None:
        """Runs the handler once, until it ends; a cancellation ends the handler."""
        await self.guardian.be_there()
        ours, its = socket.socketpair() if path is None else (None, None)
        try:
            process = await self._start(path, its)
        except OSError as error:
            log.error("type %s: %s cannot be started: %s", self.type, self.config.binary, error)
            self.last_exit = None
            if ours is not None:
                ours.close()
            return
        finally:
            if its is not None:
                its.close()
        self.guardian.begun(process.pid)
        self.pid = process.pid
        self.down = False
        self.starts += 1
        self.starting_until = self.runtime.clock() + STARTING_S
        log.info("type %s: started %s, pid %d", ascii(self.type), self.config.binary, process.pid)
        output = process.stderr if path is None else process.stdout
        assert output is not None
        reading = asyncio.get_running_loop().create_task(self._log_output(output))
        try:
            if ours is not None:
                await self._converse(process, ours)
            self.tried.set()
            self.last_exit = await process.wait()
        finally:
            await _end(process)
            self.guardian.ended(process.pid)
            self.pid = None
            reading.cancel()
            await asyncio.wait({reading})  # unlike an await of the task, this leaves a cancellation of ours alone

    async def _start(self, path: str | None, its: socket.socket | None) -> asyncio.subprocess.Process:
        """Starts the process: with a socket as its standard input and output if it has no path to listen on."""
        own = {"BESTER_SOCKET": path} if path is not None else {"BESTER_STDIO": str(self.config.stdio)}
        return await asyncio.create_subprocess_exec(
            str(self.config.binary),
            cwd=self.runtime.config.base,
            env=os.environ | self.config.environment | {"BESTER_TYPE": self.type} | own,
            stdin=asyncio.subprocess.DEVNULL if its is None else its.fileno(),
            stdout=asyncio.subprocess.PIPE if its is None else its.fileno(),
            stderr=asyncio.subprocess.STDOUT if its is None else asyncio.subprocess.PIPE,
            limit=MAX_LINE,
            start_new_session=True,  # so that its own children end with it, and the terminal's ^C is ours alone
        )

    async def _converse(self, process: asyncio.subprocess.Process, ours: socket.socket) -> None:
        """Speaks to a process over its standard input and output, until either has ended."""
        gone = asyncio.Event()
        transport, _ = await asyncio.get_running_loop().create_unix_connection(
            lambda: self._speak(self.config, gone.set), sock=ours
        )
        self.tried.set()
        waiting = [asyncio.ensure_future(process.wait()), asyncio.ensure_future(gone.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            try:
                async with within(ENDING_S):
                    await process.wait()
            except TimeoutError:
                await _end(process)
        finally:
            for one in waiting:
                one.cancel()
            transport.abort()

    async def _log_output(self, output: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await output.readline()
            except ValueError:
                continue  # longer than the limit: dropped by the reader
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
            self.output.append((round(wall_time(), 3), shown))
            log.info("type %s: %s", ascii(self.type), shown, extra={"type": self.type})


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ends a handler and what it started: SIGTERM, and SIGKILL for what does not listen to that."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        async with within(STOP_S):
            await process.wait()
    except TimeoutError:
        pass
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
