"""The engine: simulated time, and the event loop that the servers' real code runs on.

Two kinds of events are in one heap: functions of the simulation, and the timers of asyncio. What asyncio calls "soon"
is called before the next event. Then every processor that was given work in this event ends its turn.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Protocol, TypeVarTuple

_Args = TypeVarTuple("_Args")


class Worker(Protocol):
    """A processor that was given work in the present event."""

    def end_turn(self) -> None:
        """Called once, when the event is over."""


class Engine(asyncio.BaseEventLoop):
    """A loop without I/O whose time jumps from event to event.

    While it is entered, ``asyncio.get_running_loop`` returns it, also outside of :meth:`advance`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.events = 0
        """How many there were."""
        self.worked: list[Worker] = []
        """Those whose turn ends with this event; each adds itself once."""
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._number = 0
        self._over = False
        """Whether the world has ended; tasks that wait then are dropped."""
        self._ready: deque[asyncio.Handle] = deque()

    def __enter__(self) -> Engine:
        asyncio._set_running_loop(self)
        return self

    def __exit__(self, *error: object) -> None:
        self._over = True
        asyncio._set_running_loop(None)

    # -- the simulation's side -----------------------------------------------------------------------------------

    def at(self, when: float, function: Callable[..., object], *args: Any) -> None:
        """Calls a function at a time; of several at one time, in the order in which they were asked for."""
        self._number = number = self._number + 1
        heapq.heappush(self._heap, (when, number, function, args))

    def settle(self) -> None:
        """Calls what is to be called soon, and lets the processors end their turns, until nothing is left."""
        ready, worked = self._ready, self.worked
        while ready or worked:
            while ready:
                ready.popleft()._run()
            if worked:
                self.worked = []
                for worker in worked:
                    worker.end_turn()
                worked = self.worked

    def advance(self, until: float) -> None:
        """Lets all happen up to a time."""
        self.settle()
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= until:
            self.now, _, function, args = pop(heap)
            self.events += 1
            function(*args)
            if self._ready or self.worked:
                self.settle()
        self.now = max(self.now, until)

    # -- asyncio's side ------------------------------------------------------------------------------------------

    def time(self) -> float:
        return self.now

    def is_closed(self) -> bool:
        return self._over

    def call_soon(
        self, callback: Callable[[*_Args], object], *args: *_Args, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Args], object],
        *args: *_Args,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.at(when, self._due, handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Args], object],
        *args: *_Args,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **more: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        return asyncio.Task(coro, loop=self, **more)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._over:
            raise RuntimeError(context["message"]) from context.get("exception")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays in the heap, and is passed over."""

    def _due(self, handle: asyncio.TimerHandle) -> None:
        if not handle.cancelled():
            handle._run()
