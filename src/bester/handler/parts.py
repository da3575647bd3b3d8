"""Sends what a function yields: each part as it comes where the sender takes parts, else all in one answer."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from msgspec import UNSET, Raw
from msgspec.structs import replace

from bester.handler.binding import replied
from bester.handler.registered import Call, Registered
from bester.protocol.commands import Command, Response, commands_in
from bester.protocol.refusals import Refuse
from bester.protocol.requests import Request
from bester.protocol.values import encode_data

MAX_COMMANDS = 10_000
"""The most commands that are collected for one answer."""
_COMMAND_BYTES = 100
"""What a command without its data takes in an answer, roughly."""

Send = Callable[[Response], Awaitable[None]]


class Credit:
    """How many more parts the sender of one request takes."""

    def __init__(self, parts: int) -> None:
        self._left = parts
        self._granted = asyncio.Event()

    def grant(self, parts: int) -> None:
        self._left += parts
        self._granted.set()

    async def take(self) -> None:
        """Waits until there is credit for one part, and uses it up."""
        while self._left <= 0:
            self._granted.clear()
            await self._granted.wait()
        self._left -= 1


async def send_parts(parts: AsyncIterator[Any], credit: Credit, send: Send) -> None:
    """Sends each part when there is credit for it; the iterator is closed in the end, however this ends."""
    async with closing(parts):
        async for part in parts:
            response = replied(part)
            if response is not None:
                await credit.take()
                await send(response)


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
    commands: list[Command] = []
    size = 0
    async with closing(parts):
        async for part in parts:
            for command in commands_in(replied(part)):
                data = getattr(command, "data", UNSET)
                if data is not UNSET:  # encoded now, because a function may yield the same object again, changed
                    encoded = encode_data(data)
                    command = replace(command, data=Raw(bytes(encoded)))
                    size += len(encoded)
                size += _COMMAND_BYTES
                commands.append(command)
            if len(commands) > MAX_COMMANDS or size > max_bytes:
                raise Refuse(
                    f"the answer has more than {MAX_COMMANDS:,} parts or {max_bytes:,} bytes; "
                    "it is without bounds for a sender that takes parts as they come",
                    code="tooManyParts",
                )
    return commands


@asynccontextmanager
async def closing(parts: AsyncIterator[Any]) -> AsyncIterator[AsyncIterator[Any]]:
    """Closes an iterator in the end, if it can be closed."""
    try:
        yield parts
    finally:
        if isinstance(parts, AsyncGenerator):
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
        raise
