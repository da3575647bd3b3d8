"""Attempts to prove an account, and other work on passwords: who may have one checked, and when.

An attempt counts from when it begins, not from when it has failed: of one address, and of one account from one address,
no more are under way than could fail until the throttle's pause begins. Others wait for what becomes of them, in a fair
line; they are turned away as soon as there is a pause. So it does not matter how many come at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from bester.errors import BesterError, ShuttingDown, Throttled
from bester.server.accounts.fair_queue import FairQueue
from bester.server.accounts.throttle import Throttle
from bester.store.passwords import THREADS

MAX_WAITING = 1024
"""How many attempts may wait; beyond that, the addresses with the most in the line are turned away."""

MAX_TOKENS_WAITING = 20_000
"""How many checks of tokens may wait. They are short: all clients may come at once after a restart."""


class _Waiting(NamedTuple):
    address: str
    account: str
    granted: asyncio.Future[None]


class Attempts:
    """All attempts at one server.

    Args:
        throttle: counts failures.
        clock: seconds, which never go back.
    """

    def __init__(self, throttle: Throttle, clock: Callable[[], float]) -> None:
        self._throttle = throttle
        self._clock = clock
        self._costly: FairQueue[_Waiting] = FairQueue(MAX_WAITING)
        """Attempts that wait for a thread to hash a password."""
        self._cheap: FairQueue[_Waiting] = FairQueue(MAX_TOKENS_WAITING)
        """Attempts that cost no more than a look into the store: tokens."""
        self._hashing = 0
        self._closed = False

    def check(self, address: str, account: str) -> None:
        """Refuses an attempt during a pause.

        Raises:
            Throttled: there is.
        """
        wait_s = self._throttle.delay(address, account, self._clock())
        if wait_s > 0:
            raise _paused(wait_s)

    @asynccontextmanager
    async def permit(self, address: str, account: str, *, cheap: bool = False) -> AsyncIterator[None]:
        """Waits until an attempt may be made; failures and successes are told within the block, which must not nest.

        Raises:
            Throttled: there is a pause, or too many wait.
            ShuttingDown: the server has stopped.
        """
        if self._closed:
            raise ShuttingDown
        waiting = _Waiting(address, account, asyncio.get_running_loop().create_future())
        line = self._cheap if cheap else self._costly
        out = line.put(address, account, waiting)
        if out is not None:
            error = Throttled("too many logins at once; try again in some seconds")
            if out is waiting:
                raise error
            _refuse(out, error)
        self._go_on()
        granted = waiting.granted
        try:
            await granted
        except asyncio.CancelledError:
            line.remove(address, account, waiting)
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self._ended(waiting, cheap)
            raise
        try:
            yield
        finally:
            self._ended(waiting, cheap)

    def close(self) -> None:
        """Turns away all attempts that wait."""
        self._closed = True
        for line in (self._costly, self._cheap):
            while (waiting := line.take(lambda address, account: True)) is not None:
                _refuse(waiting, ShuttingDown())

    def _ended(self, one: _Waiting, cheap: bool) -> None:
        self._throttle.ended(one.address, one.account)
        if not cheap:
            self._hashing -= 1
        self._go_on()

    def _go_on(self) -> None:
        """Lets attempts begin that may."""
        while self._hashing < THREADS and (one := self._costly.take(self._is_ready)) is not None:
            if self._begin(one):
                self._hashing += 1
        while (one := self._cheap.take(self._is_ready)) is not None:
            self._begin(one)

    def _is_ready(self, address: str, account: str) -> bool:
        now = self._clock()
        return self._throttle.may_begin(address, account, now) or self._throttle.delay(address, account, now) > 0

    def _begin(self, one: _Waiting) -> bool:
        wait_s = self._throttle.delay(one.address, one.account, self._clock())
        if one.granted.done():
            return False  # it has just been cancelled
        if wait_s > 0:
            _refuse(one, _paused(wait_s))
            return False
        self._throttle.began(one.address, one.account)
        one.granted.set_result(None)
        return True


def _refuse(one: _Waiting, error: BesterError) -> None:
    if not one.granted.done():
        one.granted.set_exception(error)


def _paused(wait_s: float) -> Throttled:
    return Throttled(f"too many failures; try again in {max(1, round(wait_s))} s")
