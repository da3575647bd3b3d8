"""Repeats requests to a stream's servers until they answer.

When the leader of a stream dies there is none for 4 to 9 s: published messages are refused at once, because they have
no subscriber, and other requests are never answered. One caller then probes: it repeats its request. The others wait
until it has an answer, and then send theirs. So requests do not burden the servers during the election, and waiting
callers continue within a fraction of a second after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from bester.bus.connection import Bus
from bester.bus.errors import BusDown, BusLost, NoResponders
from bester.bus.requests import Answer
from bester.errors import Internal, Overloaded
from bester.protocol.values import decode_text
from bester.store.jetstream.errors import NoLeader

log = logging.getLogger("bester.jetstream")

T = TypeVar("T")
Request = Callable[[float], Awaitable[T]]
"""Sends a request; its argument is how many seconds to wait for the answer."""


@dataclass(frozen=True, slots=True)
class RetryTimes:
    """Time limits of requests, in seconds; shorter in tests."""

    answer_s: float = 2.0
    """The wait for the answer to a first request."""
    single_s: float = 0.5
    """The wait for the answer to a request that is not repeated."""
    unresponsive_s: float = 1.0
    """After such a request failed, others of its kind fail at once for this long."""
    pause_s: float = 0.25
    """The pause between the requests of a probe; an answer to an earlier one counts."""
    total_s: float = 12.0
    """The wait in all: an election, and a server that is slow after it."""
    election_s: float = 9.5
    """An election may take this long: new requests fail at once if no server has answered for longer."""
    reconnect_s: float = 3.0
    """The wait for the connection to NATS, of requests that were in flight when it was lost."""


TIMES = RetryTimes()
_UNANSWERED = (NoLeader, BusLost, NoResponders)
_NO_LEADER = frozenset({10006, 10007, 10008, 10009, 10041, 10118})
"""The errors of servers while JetStream has no leader, or while a stream's leader changes."""


def decode_answer(answer: Answer) -> dict[str, Any]:
    """Returns a server's answer.

    Raises:
        NoLeader: the answer says that no server can answer now.
    """
    found: dict[str, Any] = decode_text(answer.data)
    if found.get("error", {}).get("err_code") in _NO_LEADER:
        raise NoLeader(found["error"].get("description", ""))
    return found


def unreachable() -> Overloaded:
    """Returns the error of an unanswered request."""
    return Overloaded("what this server keeps cannot be reached now")


class Retrier:
    """Repeats requests of one kind to one stream.

    Args:
        bus: the connection.
        what: names the stream, and the kind of request, in the log.
        times: the time limits.
    """

    def __init__(self, bus: Bus, what: str, times: RetryTimes = TIMES) -> None:
        self._bus = bus
        self._what = what
        self.times = times
        self._closed = False
        self._unresponsive_until = 0.0
        self._probe: asyncio.Future[None] | None = None
        """Resolved when the caller that probes has an answer, or gives up."""
        self._unanswered_since: float | None = None
        """When the first of the unanswered probes began."""

    def close(self) -> None:
        """Fails all requests, from now on."""
        self._closed = True

    @property
    def unresponsive(self) -> bool:
        """Whether the servers failed to answer a moment ago."""
        return self._probe is not None or asyncio.get_running_loop().time() < self._unresponsive_until

    async def try_once(self, request: Request[T]) -> T:
        """Sends a request without repeating it.

        Raises:
            Overloaded: there is no answer now.
        """
        self.check_open()
        while not self.unresponsive:
            try:
                return await request(self.times.single_s)
            except _UNANSWERED:
                if self._bus.up or not await self._bus.wait_until_up(self.times.reconnect_s):
                    self._unresponsive_until = asyncio.get_running_loop().time() + self.times.unresponsive_s
        raise unreachable()

    async def repeat(self, request: Request[T], pause_s: float | None = None) -> T:
        """Repeats a request until there is an answer, within a time limit; sends nothing while NATS is away.

        Args:
            request: may be sent again, also while an earlier one is under way.
            pause_s: the pause between two of them; None: :attr:`RetryTimes.pause_s`.

        Raises:
            BusDown: NATS is away.
            Overloaded: there is no answer; the request may have had its effect or not.
        """
        self.check_open()
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.times.total_s
        while True:
            if self._probe is not None and self._bus.up:
                if self._unanswered_since is not None and clock() - self._unanswered_since > self.times.election_s:
                    raise unreachable()
                await asyncio.wait({self._probe}, timeout=deadline - clock())
                self.check_open()
                if clock() >= deadline:
                    raise unreachable()
            try:
                found = await request(self.times.answer_s)
            except _UNANSWERED as error:
                if self._probe is None:
                    pause_s = self.times.pause_s if pause_s is None else pause_s
                    return await self._repeat_as_probe(request, pause_s, deadline, error)
            else:
                self._unanswered_since = None
                return found

    async def _repeat_as_probe(self, request: Request[T], pause_s: float, deadline: float, why: Exception) -> T:
        loop = asyncio.get_running_loop()
        done = self._probe = loop.create_future()
        began = loop.time()
        if self._unanswered_since is None:
            self._unanswered_since = began
        log.info("%s does not answer: %s", self._what, why or "it has no leader now")
        sent: list[asyncio.Future[T]] = []
        try:
            while not self._closed and loop.time() < deadline:
                if not self._bus.up and not await self._bus.wait_until_up(self.times.reconnect_s):
                    break
                sent.append(asyncio.ensure_future(request(self.times.total_s)))
                until = loop.time() + pause_s
                while sent and (remaining_s := until - loop.time()) > 0:
                    await asyncio.wait(sent, timeout=remaining_s, return_when=asyncio.FIRST_COMPLETED)
                    answered = [one for one in sent if one.done()]
                    sent = [one for one in sent if not one.done()]
                    found = [one for one in answered if not isinstance(one.exception(), (*_UNANSWERED, BusDown))]
                    if found:
                        self._unanswered_since = None
                        log.info("%s answers again, after %.1f s", self._what, loop.time() - began)
                        return found[0].result()
                await asyncio.sleep(max(0.0, until - loop.time()))
        finally:
            self._probe = None
            done.set_result(None)
            for one in sent:
                one.cancel()
            await asyncio.gather(*sent, return_exceptions=True)
        self.check_open()
        raise unreachable()

    def check_open(self) -> None:
        """Raises Internal if it is closed."""
        if self._closed:
            raise Internal("the store is closed")
