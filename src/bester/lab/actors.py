"""What a play puts on the machines of a world: servers with their handlers, and clients.

Each can be killed, paused and started again: it is one process after another, and its machine stays.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from bester.client.client import Client
from bester.client.stream import Stream
from bester.handler.handler import Handler
from bester.lab.machine import Machine
from bester.lab.process import Process, ProcessDied
from bester.lab.server import LabServer
from bester.lab.world import World
from bester.protocol.received import ReceivedMessage
from bester.protocol.reports import Report

T = TypeVar("T")

MakeHandler = Callable[[Path], Handler]
"""Makes a handler; gets the folder of its machine, which stays when the handler's process does not."""


class LabHandler:
    """A handler, in a process of its own on its server's machine; made by :meth:`LabWorld.server`."""

    def __init__(self, world: World, machine: Machine, make: MakeHandler, address: str) -> None:
        self._world = world
        self.machine = machine
        self._make = make
        self._address = address
        self._name = f"{getattr(make, '__name__', 'handler')}@{machine.name}"
        self._starts = itertools.count(1)
        self._process: Process | None = None
        self._handler: Handler | None = None
        self._starting: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return self._name

    @property
    def running(self) -> bool:
        """Whether there is a process, which may not be attached yet."""
        return self._process is not None and self._process.alive

    async def start(self) -> None:
        """Starts it, unless it runs; returns when it is attached.

        Raises:
            ProcessDied: it was killed meanwhile.
        """
        self.begin()
        await self.attached()

    def begin(self) -> None:
        """Starts it, unless it runs, without waiting."""
        if self.running:
            return
        self._process = process = self.machine.process(f"{self._name}#{next(self._starts)}")
        self._world.trace.note(f"{process} starts")
        handler = process.enter().run(self._made)
        self._starting = process.start(handler.start())

    def _made(self) -> Handler:
        with _environment("BESTER_HANDLERS", self._address):
            made = self._make(self.machine.folder)
        if not isinstance(made, Handler):
            raise TypeError(f"{self._name} must return a bester.Handler; got {made!r:.200}")
        if made is self._handler:
            raise TypeError(
                f"{self._name} returned its handler a second time: a process that starts again remembers nothing, "
                "so make the handler, and what it keeps in memory, within the function"
            )
        self._handler = made
        return made

    async def attached(self) -> None:
        """Waits until it is attached; see :meth:`start`."""
        if self._process is not None and self._starting is not None:
            await self._process.call(_result(self._starting))

    async def stop(self) -> None:
        """Stops it in an orderly way, as SIGTERM does."""
        if self._process is not None and self._process.alive and self._handler is not None:
            self._world.trace.note(f"{self._process} stops")
            await self._process.call(self._handler.stop())
            self._process.kill()

    def kill(self) -> None:
        """Ends it as ``kill -9`` does."""
        _kill(self._world, self._process)

    async def restart(self) -> None:
        """Kills it and starts it again."""
        self.kill()
        await self.start()

    def pause(self, seconds: float) -> None:
        """Stops it for a time, as SIGSTOP and SIGCONT do."""
        _pause(self._world, self._process, seconds)


class Site(LabServer):
    """A server and its handlers, on one machine; made by :meth:`LabWorld.server`."""

    def __init__(
        self, world: World, name: str, handlers: Iterable[MakeHandler], config: Mapping[str, Any] | None, proven: bool
    ) -> None:
        super().__init__(world, name, config, proven=proven)
        self.handlers = [LabHandler(world, self.machine, make, self.handlers_path) for make in handlers]
        """Its handlers, in the order of the factories that were given."""
        self._one_at_a_time = asyncio.Lock()

    def __repr__(self) -> str:
        return self.name

    async def start(self) -> None:
        """Starts what does not run of the server and its handlers, on a machine that has power again if it had none.

        Raises:
            ProcessDied: one of them was killed before it was ready.
        """
        async with self._one_at_a_time:
            if not self.machine.on:
                self._world.trace.note(f"{self.name} has power again")
                self.machine.switch_on()
            if not self.running:
                await super().start()
            for handler in self.handlers:
                handler.begin()
        for handler in self.handlers:
            await handler.attached()

    async def stop(self) -> None:
        """Stops the handlers and the server in an orderly way, as SIGTERM does."""
        for handler in self.handlers:
            await handler.stop()
        await super().stop()

    def kill(self, *, handlers: bool = True) -> None:
        """Ends the server as ``kill -9`` does, and its handlers unless they are to stay."""
        _kill(self._world, self.process)
        self.server = None
        if handlers:
            for handler in self.handlers:
                handler.kill()

    async def restart(self) -> None:
        """Kills the server and its handlers, and starts them again."""
        self.kill()
        await self.start()

    def cut_power(self) -> None:
        """Ends everything on the machine at once: databases lose what was not synced, and nobody is told.

        :meth:`start` gives it power again.
        """
        self._world.trace.note(f"{self.name} loses power")
        self.machine.cut_power()
        self.server = None

    def pause(self, seconds: float) -> None:
        """Stops the machine's processes for a time, as a virtual machine that is moved."""
        for process in self.machine.processes:
            _pause(self._world, process, seconds)

    def set_clock(self, skew_s: float) -> None:
        """Sets the machine's clock so many seconds ahead of the true time, or, if negative, behind it."""
        self._world.trace.note(f"the clock of {self.name} is {skew_s:+} s off")
        self.machine.skew_s = skew_s


class LabClient:
    """A :class:`bester.Client` in a process and on a machine of its own; made by :meth:`LabWorld.client`.

    Its methods do as the client's do, and raise ``ProcessDied`` if it is killed meanwhile; :meth:`run` calls those that
    it does not have.
    """

    def __init__(
        self, world: World, machine: Machine, url: str, mail: bool | Iterable[str], options: Mapping[str, Any]
    ) -> None:
        self._world = world
        self.machine = machine
        self._url = url
        self._mail = mail
        self._options = dict(options)
        self._starts = itertools.count(1)
        self._process: Process | None = None
        self._client: Client | None = None

    def __repr__(self) -> str:
        return self.machine.name

    async def start(self) -> None:
        """Starts its process, unless it runs, and connects.

        Raises:
            ConnectError, AuthenticationError: as ``Client.open``.
        """
        if self._process is not None and self._process.alive:
            return
        self._process = process = self.machine.process(f"{self.machine.name}#{next(self._starts)}")
        self._world.trace.note(f"{process} starts")
        self._client = client = process.enter().run(lambda: Client(self._url, mail=self._mail, **self._options))
        await process.call(client.open())

    def kill(self) -> None:
        """Ends its process as ``kill -9`` does."""
        _kill(self._world, self._process)

    async def restart(self) -> None:
        """Kills it and starts it again, with a new ``Client``."""
        self.kill()
        await self.start()

    def pause(self, seconds: float) -> None:
        """Stops it for a time, as SIGSTOP and SIGCONT do."""
        _pause(self._world, self._process, seconds)

    async def run(self, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """Runs a coroutine function, which gets the ``Client``, in the client's process.

        Raises:
            ProcessDied: the process was killed before the coroutine was over.
        """
        if self._process is None or self._client is None:
            raise ProcessDied(f"{self} was never started")
        return await self._process.call(work(self._client))

    async def send(
        self,
        type: str,
        data: Any = None,
        *,
        id: str | None = None,
        timeout: float | None = None,
        once: bool = False,
        route: bool = False,
        dry_run: bool = False,
    ) -> Report:
        """Sends a message and returns the report on it."""
        return await self.run(
            lambda client: client.send(type, data, id=id, timeout=timeout, once=once, route=route, dry_run=dry_run)
        )

    async def ask(self, type: str, data: Any = None, *, timeout: float | None = None) -> ReceivedMessage:
        """Sends a message and returns a handler's reply to it."""
        return await self.run(lambda client: client.ask(type, data, timeout=timeout))

    def stream(self, type: str, data: Any = None, *, window: int = 64, timeout: float | None = None) -> LabStream:
        """Sends a message and returns the parts of a handler's answer to it, as they come."""
        return LabStream(self, lambda client: client.stream(type, data, window=window, timeout=timeout))

    async def receive(self, timeout: float | None = None) -> ReceivedMessage:
        """Returns the next message that a handler sent to this client."""
        return await self.run(lambda client: client.receive(timeout))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReceivedMessage:
        message = await self.run(lambda client: client._session.take())
        if message is None:
            raise StopAsyncIteration
        return message

    async def builtin(self, command: str, /, *, timeout: float | None = None, **args: Any) -> Any:
        """Runs a built-in command of the server, and returns its result."""
        return await self.run(lambda client: client.builtin(command, timeout=timeout, **args))

    async def close(self) -> None:
        """Ends the connection; messages for the account wait in its mailbox."""
        await self.run(lambda client: client.close())


class LabStream:
    """A :class:`bester.Stream` in the process of its client; made by :meth:`LabClient.stream`."""

    def __init__(self, client: LabClient, make: Callable[[Client], Stream]) -> None:
        self._client = client
        self._make = make
        self._stream: Stream | None = None
        self._owner: Client | None = None

    @property
    def report(self) -> Report | None:
        """The report on the message, if there is one yet."""
        return self._stream.report if self._stream is not None else None

    async def aclose(self) -> None:
        """Gives the stream up, unless it has ended."""
        await self._client.run(self._close)

    async def _close(self, client: Client) -> None:
        self._of(client).cancel()

    def _of(self, client: Client) -> Stream:
        if self._stream is None:
            self._owner, self._stream = client, self._make(client)
        elif self._owner is not client:
            raise ProcessDied(f"the process of {self._client} that began the stream")
        return self._stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReceivedMessage:
        message = await self._client.run(lambda client: self._of(client).take())
        if message is None:
            raise StopAsyncIteration
        return message

    async def __aenter__(self) -> Self:
        await self._client.run(lambda client: self._of(client).__aenter__())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessDied):
            await self.aclose()


def _kill(world: World, process: Process | None) -> None:
    if process is not None and process.alive:
        world.trace.note(f"{process} is killed")
        process.kill()


def _pause(world: World, process: Process | None, seconds: float) -> None:
    if process is not None and process.alive:
        world.trace.note(f"{process} is paused for {seconds:.3f} s")
        world.pause(process, seconds)


async def _result(task: asyncio.Task[T]) -> T:
    await asyncio.wait([task])  # awaiting the task itself would cancel it with those who wait
    return task.result()


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
