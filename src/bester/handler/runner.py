"""Calls the functions of a registry, one request after the other."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from bester.handler.around import AT_ONCE
from bester.handler.binding import replied
from bester.handler.parts import Credit, collect, send_parts
from bester.handler.registered import Call, Registered
from bester.handler.registry import Registry
from bester.printable import escaped
from bester.protocol.commands import Response
from bester.protocol.refusals import Refuse
from bester.protocol.requests import Request
from bester.tracing import tracer

log = logging.getLogger("bester.handler")


def _start(call: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Starts a coroutine, at once where Python can: one that never waits is then done without a turn of the loop."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(call, loop=asyncio.get_running_loop(), eager_start=True)
    return asyncio.create_task(call)


class Runner:
    """Calls functions, and passes each outcome to ``answer`` or to ``fail``, which gets the reason of a refusal.

    A plain function is called at once, without a task. ``outstanding`` counts the tasks of all other functions.

    Args:
        registry: the functions.
        answer: takes the last answer to a request.
        fail: takes a request that has none.
        max_answer_bytes: how large an answer may be in which the parts of a generator are collected.
        send_part: takes an answer that is not the last; None if there can only be one.
    """

    def __init__(
        self,
        registry: Registry,
        answer: Callable[[Request, Response], None],
        fail: Callable[[Request, Refuse | None], None],
        max_answer_bytes: int,
        send_part: Callable[[Request, Response], Awaitable[None]] | None = None,
    ) -> None:
        self._find: Callable[[str], Registered | None] = registry.get
        if (found := tracer()) is not None:
            from bester.handler.traced import traced  # needs OpenTelemetry

            self._find = traced(found, registry.get)
        self._answer = answer
        self._fail = fail
        self._max_answer_bytes = max_answer_bytes
        self._send_part = send_part
        self._tasks: dict[asyncio.Task[None], Request] = {}
        self._streams: dict[str, Call] = {}
        """What is called for the types whose functions yield parts."""
        self._credits: dict[str, Credit] = {}
        """Of requests that are answered in parts, by their ids."""

    def handle(self, request: Request) -> None:
        """Handles a request, now or in a task; never raises."""
        found = self._find(request.type)
        if found is None:
            log.warning("asked for the type %r, which is not handled here", request.type)
            self._fail(request, None)
            return
        if found.asynchronous:
            self._spawn(self._stream(request.type, found) if found.streams else found.call, request)
            return
        try:
            response = found.call(request)
            if type(response) in AT_ONCE:
                self._answer(request, response)
            elif hasattr(response, "__await__"):  # of a lambda, a partial
                self._spawn(lambda _: response, request)
            else:
                self._answer(request, replied(response))
        except Exception as error:
            self._failed(request, error)

    def _spawn(self, call: Call, request: Request) -> None:
        task = _start(self._wait(call, request))
        if not task.done():
            self._tasks[task] = request
            task.add_done_callback(self._tasks.pop)

    async def _wait(self, call: Call, request: Request) -> None:
        try:
            response = await call(request)
            self._answer(request, response if type(response) in AT_ONCE else replied(response))
        except asyncio.CancelledError:
            self._fail(request, None)
            raise
        except Exception as error:
            self._failed(request, error)

    def _failed(self, request: Request, error: Exception) -> None:
        if isinstance(error, Refuse):
            log.info(
                "%s was refused: %s%s", request.type, f"{error.code}: " if error.code else "", escaped(error.message)
            )
            self._fail(request, error)
        else:
            log.error("the handler of %s failed", request.type, exc_info=error)
            self._fail(request, None)

    # -- parts ------------------------------------------------------------------------------------------------

    def _stream(self, type: str, found: Registered) -> Call:
        known = self._streams.get(type)
        if known is None:
            call = self._sending_parts(found)
            known = self._streams[type] = call if found.around is None else found.around(call)
        return known

    def _sending_parts(self, found: Registered) -> Call:
        async def call(request: Request) -> Response:
            send_part = self._send_part
            if request.parts is None or send_part is None:
                return await collect(found.call(request), self._max_answer_bytes)
            credit = self._credits[request.request_id] = Credit(request.parts)
            try:
                await send_parts(found.call(request), credit, lambda part: send_part(request, part))
                return None
            finally:
                del self._credits[request.request_id]

        return call

    def grant(self, request_id: str, parts: int) -> None:
        """Takes note that the sender of a request takes more parts."""
        credit = self._credits.get(request_id)
        if credit is not None:
            credit.grant(parts)

    def give_up(self, request_id: str) -> None:
        """Cancels the function that handles a request, unless it runs in a thread; the request then fails."""
        for task, request in self._tasks.items():
            if request.request_id == request_id:
                found = self._find(request.type)
                if found is not None and not found.thread:
                    asyncio.get_running_loop().call_soon(task.cancel)  # once it has begun, or it would not answer
                return

    # -- to end -----------------------------------------------------------------------------------------------

    @property
    def outstanding(self) -> int:
        return len(self._tasks)

    async def finish(self, timeout_s: float | None) -> None:
        """Waits until nothing is outstanding; at the time limit the outstanding requests are cancelled, and fail."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        await self.cancel()

    async def cancel(self) -> None:
        """Cancels the outstanding requests."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
