"""The processes of a simulated world, and which of them the running code belongs to.

All processes of a world share one interpreter and one loop. A context variable names the one whose code runs: asyncio
copies the context into each handle and task, so whatever a process starts belongs to it too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

current: ContextVar[Process | None] = ContextVar("bester.lab.process", default=None)
"""The process whose code runs; None: the world itself."""


class Killed(BaseException):
    """Ends the code of a process that was killed while it ran; there is nobody left to catch it."""


class ProcessDied(Exception):
    """A process was killed before the call that was made in it was over."""


class Closable(Protocol):
    """A socket that the operating system closes when its process ends."""

    def abandon(self, lost: bool) -> None:
        """Closes it; ``lost``: the machine lost power, so that the other end hears nothing."""


class Process:
    """A process on a machine: a server, a handler or a client.

    Args:
        loop: the world's loop.
        name: its name in the trace.
        machine: the name of the machine.
        pid: what ``os.getpid`` returns in it.
    """

    __slots__ = ("alive", "context", "held", "loop", "machine", "name", "on_death", "paused", "pid", "sockets", "tasks")

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, machine: Any, pid: int) -> None:
        self.loop = loop
        self.name = name
        self.machine = machine
        self.pid = pid
        self.alive = True
        self.context = Context()
        """What all its code begins with."""
        self.context.run(current.set, self)
        self.paused = False
        self.held: list[asyncio.Handle] = []
        """The callbacks that wait while it is paused."""
        self.tasks: dict[asyncio.Task[Any], None] = {}
        """Its unfinished tasks. A killed process keeps them: collecting one would run its ``finally`` blocks."""
        self.sockets: dict[Closable, None] = {}
        """Its open sockets."""
        self.on_death: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def enter(self) -> Context:
        """Returns a new context, in which code runs as this process's."""
        return self.context.copy()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Runs a coroutine as a task of this process."""
        return self.loop.create_task(work, context=self.enter())

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine in this process and returns its result.

        Raises:
            ProcessDied: the process was killed before.
        """
        if not self.alive:
            work.close()
            raise ProcessDied(self.name)
        task = self.start(work)
        dead: asyncio.Future[None] = self.loop.create_future()

        def died() -> None:
            if not dead.done():
                dead.set_result(None)

        self.on_death.append(died)
        try:
            await asyncio.wait((task, dead), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if died in self.on_death:
                self.on_death.remove(died)
            if self.alive and not task.done():
                task.cancel()
        if not task.done():
            raise ProcessDied(self.name)
        return task.result()

    def kill(self, power: bool = False) -> None:
        """Ends the process as ``kill -9`` does; ``power``: as a loss of power, of which other machines hear nothing.

        Its code that is running now goes on until it next meets the world; see :func:`leave_if_dead`.
        """
        if not self.alive:
            return
        self.alive = False
        self.held.clear()
        for socket in list(self.sockets):
            socket.abandon(power)
        self.sockets.clear()
        for call in list(self.on_death):
            call()


def leave_if_dead() -> None:
    """Leaves the running code if its process has been killed.

    Raises:
        Killed: it has.
    """
    process = current.get()
    if process is not None and not process.alive:
        raise Killed
