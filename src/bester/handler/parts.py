"""Sends what a function yields: each part as it comes where the sender takes parts, else all in one answer."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from msgspec import UNSET, Raw
from msgspec.structs import replace

from bester.handler.binding import replied
from bester.handler.registered import Call, Registered
from bester.protocol.commands import Command, Reply, Response, commands_in
from bester.protocol.refusals import Refuse
from bester.protocol.requests import Request
from bester.protocol.values import encode_data

MAX_COMMANDS = 10_000
"""The most commands that are collected for one answer."""
_COMMAND_BYTES = 100
"""What a command without its data takes in an answer, roughly."""

Send = Callable[[Response], Awaitable[None]]


class Credit:
    """How many more replies the sender of one request takes."""

    def __init__(self, parts: int) -> None:
        self._left = parts
        self._granted = asyncio.Event()

    def grant(self, parts: int) -> None:
        self._left += parts
        self._granted.set()

    async def take(self) -> None:
        """Waits until there is credit for one reply, and uses it up."""
        while self._left <= 0:
            self._granted.clear()
            await self._granted.wait()
        self._left -= 1


class Collected:
    """Commands that wait for an answer, as they were when they were added: a function may change what it yielded."""

    def __init__(self, max_bytes: int) -> None:
        self.commands: list[Command] = []
        self._max_bytes = max_bytes
        self._size = 0

    def add(self, command: Command) -> None:
        """Adds a command.

        Raises:
            Refuse: there are too many of them, or they are too large.
        """
        data = getattr(command, "data", UNSET)
        if data is not UNSET:
            encoded = encode_data(data)
            command = replace(command, data=Raw(bytes(encoded)))
            self._size += len(encoded)
        self._size += _COMMAND_BYTES
        self.commands.append(command)
        if len(self.commands) > MAX_COMMANDS or self._size > self._max_bytes:
            raise Refuse(
                f"an answer has more than {MAX_COMMANDS:,} parts or {self._max_bytes:,} bytes; "
                "replies are without these bounds for a client that takes them as parts",
                code="tooManyParts",
            )


async def send_parts(parts: AsyncIterator[Any], credit: Credit, send: Send) -> None:
    """Sends what is yielded as it comes, each reply in a part of its own when there is credit for it."""
    async with closing(parts):
        async for part in parts:
            commands: list[Command] = []
            for command in commands_in(replied(part)):
                commands.append(command)
                if type(command) is Reply:
                    await credit.take()
                    await send(commands)
                    commands = []
            if commands:
                await send(commands)


def collecting(found: Registered, max_bytes: int) -> Call:
    """Returns the call that answers a request with all parts at once, within what the function has around it."""

    async def call(request: Request) -> Response:
        return await collect(found.call(request), max_bytes)

    return call if found.around is None else found.around(call)


async def collect(parts: AsyncIterator[Any], max_bytes: int) -> Response:
    """Returns all parts as one response.

    Raises:
        Refuse: there are too many of them, or they are too large.
    """
    found = Collected(max_bytes)
    async with closing(parts):
        async for part in parts:
            for command in commands_in(replied(part)):
                found.add(command)
    return found.commands


@asynccontextmanager
async def closing(parts: AsyncIterator[Any]) -> AsyncIterator[AsyncIterator[Any]]:
    """Closes an iterator in the end, if it can be closed."""
    try:
        yield parts
    finally:
        # It runs still if the coroutine around it was closed from outside, where nothing can be awaited.
        if inspect.isasyncgen(parts) and not parts.ag_running:
            await parts.aclose()


_END = object()


async def at_once(parts: Iterator[Any]) -> AsyncIterator[Any]:
    """Iterates over a plain generator in the event loop."""
    try:
        for part in parts:
            yield part
    finally:
        _close(parts)


async def in_thread(parts: Iterator[Any]) -> AsyncIterator[Any]:
    """Iterates over a plain generator in threads; it is closed when the step that it is in has ended."""
    try:
        while (part := await _finished(asyncio.to_thread(next, parts, _END))) is not _END:
            yield part
    finally:
        await _finished(asyncio.to_thread(_close, parts))


def _close(parts: Iterator[Any]) -> None:
    if inspect.isgenerator(parts):
        parts.close()


async def _finished(step: Awaitable[Any]) -> Any:
    """Awaits a step in a thread; if cancelled, ends only when the step has ended, because no thread can be stopped."""
    running = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # nobody asks for it any more
        raise
