"""An event loop on simulated time, which runs the callbacks of many processes in an order that a seed decides."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import socket
from asyncio import sslproto
from collections.abc import Callable
from math import ceil
from random import Random
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from bester.lab.process import Killed, Process, current

START_S = 1000.0
"""What the clocks of all processes show when a world begins."""
EXECUTOR_S = 0.002
"""The longest time that a function takes in an executor."""
MAX_IDLE_TURNS = 100_000
"""How many turns may pass at one moment before the world counts as hung."""


class Stuck(Exception):
    """Nothing is left that could ever happen, or the processes keep each other busy without time going on."""


class Outside(RuntimeError):
    """Code in a simulated world asked for something that only the real world has."""


class Network(Protocol):
    """The simulated network, as the loop uses it."""

    def socket_of(self, fd: Any) -> Any:
        """Returns the socket with a descriptor, or the socket itself."""

    async def look_up(self, host: Any, port: Any) -> list[Any]:
        """Answers as ``getaddrinfo``."""

    async def connect(self, sock: Any, address: Any) -> None:
        """Connects a socket; raises OSError."""

    def transport(self, sock: Any, protocol: Any, waiter: Any, server: Any) -> asyncio.Transport:
        """Returns a transport over a connected socket."""


class LabTask(asyncio.Task[Any]):
    """A task whose hash is not its address, so that sets of tasks (asyncio makes some) have an order that repeats."""

    def __init__(self, work: Any, number: int, **options: Any) -> None:
        self._number = number  # first of all, for asyncio puts the task into a set at once
        super().__init__(work, **options | {"name": options.get("name") or f"Task-{number}"})

    def __hash__(self) -> int:
        return self._number


class LabLoop(asyncio.BaseEventLoop):
    """Runs callbacks without ever waiting: when nothing is ready, its time becomes that of the next timer.

    The ready callbacks of one process run in their order, as asyncio promises; which process is served first is drawn.

    Args:
        chance: decides the order of processes, and how long executors take.
    """

    # What asyncio's own class has, and does not tell of.
    _ready: Any
    _scheduled: Any
    _timer_cancelled_count: int
    network: Network

    def __init__(self, chance: Random) -> None:
        super().__init__()
        self._now = START_S
        self._chance = chance
        self._clock_resolution = 1e-9
        self._turns_now = 0
        self._executors: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
        self._task_numbers = itertools.count(1)
        self._secure: WeakKeyDictionary[Any, None] = WeakKeyDictionary()
        self.grain_s = 0.0
        """What is due within this time happens in one turn, as where processors are busy."""
        self.steps = 0
        """How many callbacks have run."""
        self.after_step: Callable[[], None] | None = None
        """Called after each turn of a process."""
        self.faults: list[dict[str, Any]] = []
        """What asyncio reported to the exception handler: exceptions that nobody caught."""
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._note_fault)

    def _note_fault(self, _: object, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), Killed):
            self.faults.append(context)

    def time(self) -> float:
        return self._now

    # -- turns ---------------------------------------------------------------------------------------------------

    def _run_once(self) -> None:
        ready = self._ready
        scheduled = self._scheduled
        if not ready:
            while scheduled and scheduled[0]._cancelled:
                self._timer_cancelled_count -= 1
                heapq.heappop(scheduled)._scheduled = False
            if not scheduled:
                raise Stuck("nothing is left to happen")
            self._turns_now = 0
            self._now = max(self._now, scheduled[0]._when)
            if self.grain_s:
                self._now = max(self._now, ceil(self._now / self.grain_s) * self.grain_s)
        else:
            self._turns_now += 1
            if self._turns_now > MAX_IDLE_TURNS:
                raise Stuck(f"{MAX_IDLE_TURNS} turns at {self._now:.6f}, and time does not go on; next is {ready[0]!r}")
        now = self._now
        while scheduled and scheduled[0]._when <= now:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            if timer._cancelled:
                self._timer_cancelled_count -= 1
            else:
                ready.append(timer)
        handles, turns = list(ready), dict[Process | None, list[asyncio.Handle]]()
        ready.clear()
        for handle in handles:
            if not handle._cancelled:
                turns.setdefault(handle._context.get(current), []).append(handle)
        order = list(turns)
        if len(order) > 1:
            self._chance.shuffle(order)
        for process in order:
            self._turn(process, turns[process])

    def _turn(self, process: Process | None, handles: list[asyncio.Handle]) -> None:
        for at, handle in enumerate(handles):
            if process is not None:
                if not process.alive:
                    return
                if process.paused:
                    process.held += handles[at:]
                    return
            if not handle._cancelled:
                self.steps += 1
                handle._run()
        if self.after_step is not None:
            self.after_step()

    def resume(self, process: Process) -> None:
        """Lets a paused process go on."""
        process.paused = False
        self._ready.extend(process.held)
        process.held = []

    def _make_task(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        task = LabTask(work, next(self._task_numbers), loop=loop, **options)
        context = options.get("context")
        process = current.get() if context is None else context.get(current)
        if process is not None:
            process.tasks[task] = None
            task.add_done_callback(lambda done: process.tasks.pop(done, None))
        return task

    # -- what asyncio asks of a loop -----------------------------------------------------------------------------

    def _process_events(self, events: object) -> None: ...

    def _write_to_self(self) -> None: ...

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:  # type: ignore[override]
        """Does nothing: nobody sends signals in a simulated world."""

    def remove_signal_handler(self, sig: int) -> bool:
        return True

    async def subprocess_exec(self, *_: Any, **__: Any) -> Any:
        """Refuses: a process of the system has a clock and an order of its own."""
        raise Outside("a process of the system in a simulated world: do within this one what the program does")

    subprocess_shell = subprocess_exec

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Runs the function in place, a drawn time later; what one executor is given stays in order."""
        future: asyncio.Future[Any] = self.create_future()

        def run() -> None:
            if future.cancelled():
                return
            try:
                result = func(*args)
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        due = self._now + self._chance.uniform(0, EXECUTOR_S)
        if executor is not None:
            due = self._executors[executor] = max(due, self._executors.get(executor, 0.0) + 1e-9)
        self.call_at(due, run)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None: ...

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        return await self.network.look_up(host, port)

    # -- sockets -------------------------------------------------------------------------------------------------

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:  # type: ignore[override]
        self.network.socket_of(fd).watch(callback, *args)

    def remove_reader(self, fd: Any) -> bool:
        return bool(self.network.socket_of(fd).watch(None))

    def add_writer(self, fd: Any, callback: Any, *args: Any) -> None:  # type: ignore[override]
        self.network.socket_of(fd).await_room(callback, *args)

    def remove_writer(self, fd: Any) -> bool:
        return bool(self.network.socket_of(fd).await_room(None))

    async def sock_connect(self, sock: Any, address: Any) -> None:
        await self.network.connect(sock, address)

    async def create_unix_connection(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], path: Any = None, *, sock: Any = None, **tls: Any
    ) -> tuple[asyncio.Transport, Any]:
        if sock is None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                await self.network.connect(sock, path)
            except BaseException:
                sock.close()
                raise
        return await self.create_connection(protocol_factory, sock=sock, **tls)

    def _make_socket_transport(
        self, sock: Any, protocol: Any, waiter: Any = None, *, extra: Any = None, server: Any = None, **_: Any
    ) -> asyncio.Transport:
        return self.network.transport(sock, protocol, waiter, server)

    def _make_ssl_transport(
        self,
        rawsock: Any,
        protocol: Any,
        sslcontext: Any,
        waiter: Any = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        server: Any = None,
        ssl_handshake_timeout: Any = None,
        ssl_shutdown_timeout: Any = None,
        call_connection_made: bool = True,
        **_: Any,
    ) -> asyncio.Transport:
        secure = sslproto.SSLProtocol(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            call_connection_made,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        self.network.transport(rawsock, secure, None, server)
        self._secure[secure._app_transport] = None
        return secure._app_transport

    def forget_tls(self) -> None:
        """Takes TLS transports for closed that nobody closed, because their processes were killed."""
        for transport in self._secure:
            transport._closed = True

    def _start_serving(
        self, protocol_factory: Any, sock: Any, sslcontext: Any = None, server: Any = None, *_: Any, **__: Any
    ) -> None:
        def accept() -> None:
            try:
                connected, _ = sock.accept()
            except BlockingIOError:
                return
            self.create_task(self.connect_accepted_socket(protocol_factory, connected, ssl=sslcontext))

        sock.listen()
        self.add_reader(sock, accept)

    def _stop_serving(self, sock: Any) -> None:
        self.remove_reader(sock)
        sock.close()
