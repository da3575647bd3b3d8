"""The registry of the functions that handle types, and the runner that calls them."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

from bester.handler.registered import Registered
from bester.printable import escaped
from bester.protocol.commands import KINDS, Response
from bester.protocol.names import RESERVED_TYPES
from bester.protocol.refusals import Refuse
from bester.protocol.requests import Request
from bester.tracing import tracer

Function = Callable[[Request], Response] | Callable[[Request], Awaitable[Response]]
"""A handler's function: ``def`` (called in the event loop, so it must be quick) or ``async def``."""

_AT_ONCE = KINDS | {list, tuple, type(None)}

log = logging.getLogger("bester.handler")


HandlerError = Refuse
"""The former name of :class:`Refuse`, from before senders were told of refusals."""


class Registry:
    """The types of one handler, and their functions."""

    def __init__(self) -> None:
        self._functions: dict[str, Registered] = {}
        self.get = self._functions.get
        """Returns a type's function, or None."""

    def add(self, type: str, function: Function, thread: bool, dry_run: bool = True) -> None:
        """Registers a function as the handler of a type.

        Raises:
            ValueError: the type has a function already, or belongs to the protocol.
        """
        if not type or type in RESERVED_TYPES:
            raise ValueError(f"the type {type!r} cannot be handled: it is empty, or belongs to the protocol")
        if type in self._functions:
            raise ValueError(f"the type {type!r} has a function already")
        asynchronous = inspect.iscoroutinefunction(function)
        call = cast("Callable[[Request], Any]", function)
        if thread:
            if asynchronous:
                raise ValueError("thread=True is for a plain function, not for a coroutine function")
            call, asynchronous = _in_thread(call), True
        self._functions[type] = Registered(call, asynchronous, dry_run)

    @property
    def types(self) -> list[str]:
        return list(self._functions)

    @property
    def dry_types(self) -> list[str]:
        """The types whose functions are called in dry runs."""
        return [type for type, registered in self._functions.items() if registered.dry_run]


def _in_thread(function: Callable[[Request], Any]) -> Callable[[Request], Awaitable[Any]]:
    def call(request: Request) -> Awaitable[Any]:
        return asyncio.to_thread(function, request)

    return call


def _start(call: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Starts a coroutine, at once where Python can: one that never waits is then done without a turn of the loop."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(call, loop=asyncio.get_running_loop(), eager_start=True)
    return asyncio.create_task(call)


class Runner:
    """Calls functions, and passes each outcome to ``answer`` or to ``fail``, which gets the reason of a refusal.

    A plain function is called at once, without a task. ``outstanding`` counts the tasks of all other functions.
    """

    def __init__(
        self,
        registry: Registry,
        answer: Callable[[Request, Response], None],
        fail: Callable[[Request, Refuse | None], None],
    ) -> None:
        self._find: Callable[[str], Registered | None] = registry.get
        if (found := tracer()) is not None:
            from bester.handler.traced import traced  # needs OpenTelemetry

            self._find = traced(found, registry.get)
        self._answer = answer
        self._fail = fail
        self._tasks: dict[asyncio.Task[None], None] = {}

    def handle(self, request: Request) -> None:
        """Handles a request, now or in a task; never raises."""
        found = self._find(request.type)
        if found is None:
            log.warning("asked for the type %r, which is not handled here", request.type)
            self._fail(request, None)
            return
        if found.asynchronous:
            self._spawn(found.call, request)
            return
        try:
            response = found.call(request)
            if type(response) in _AT_ONCE or not inspect.isawaitable(response):
                self._answer(request, response)
            else:  # a plain function that calls a coroutine function: a lambda, a partial
                self._spawn(lambda _: response, request)
        except Exception as error:
            self._failed(request, error)

    def _spawn(self, call: Callable[[Request], Any], request: Request) -> None:
        task = _start(self._wait(call, request))
        if not task.done():
            self._tasks[task] = None
            task.add_done_callback(self._tasks.pop)

    async def _wait(self, call: Callable[[Request], Any], request: Request) -> None:
        try:
            self._answer(request, await call(request))
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
