"""Asking a stream's servers until they answer.

When the leader of a stream dies there is none for 4 to 9 s: what is written is refused at once, for nobody listens, and
other questions are never answered. One asker then tries again and again, as the scout of all; the others wait until it
has an answer, and then ask in their turn. So the servers that are electing are left in peace, and what waits goes on
within a fraction of a second after the election.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from bester.bus.connection import Bus
from bester.bus.errors import BusDown, BusLost, NoResponders
from bester.bus.requests import Answer
from bester.errors import Internal, Overloaded
from bester.protocol.values import decode_text

log = logging.getLogger("bester.jetstream")

FIRST_S = 2.0
"""How long an answer is waited for before it is asked again; an election takes longer."""
ONCE_S = 0.5
"""The same, where it is not asked again."""
SILENT_S = 1.0
"""How long it is then believed that nobody would answer."""
AGAIN_S = 0.25
"""How often a scout asks; an answer to an earlier question is as good."""
PATIENCE_S = 12.0
"""How long in all: an election, and a server that is slow after it."""
AWAY_S = 9.5
"""How long an election may take: what comes when nobody has answered for longer is refused at once."""
BACK_S = 3.0
"""How long a lost connection is waited for, by what was under way when it was lost."""

T = TypeVar("T")
Ask = Callable[[float], Awaitable[T]]
"""Asks; takes how many seconds an answer is waited for."""


class Away(Exception):
    """A server says that nobody can answer now: an election is going on."""


_SILENCE = (Away, BusLost, NoResponders)
_AWAY = frozenset({10006, 10007, 10008, 10009, 10041, 10118})
"""What servers answer while there is no leader of all streams, or one of them begins or ends to be a leader."""


def heard(answer: Answer) -> dict[str, Any]:
    """Returns what a server said.

    Raises:
        Away: it says that nobody can answer now.
    """
    found: dict[str, Any] = decode_text(answer.data)
    if found.get("error", {}).get("err_code") in _AWAY:
        raise Away(found["error"].get("description", ""))
    return found


class Asking:
    """How one stream is asked for one kind of thing.

    Args:
        bus: the connection.
        what: of which stream, for the log.
    """

    def __init__(self, bus: Bus, what: str) -> None:
        self._bus = bus
        self._what = what
        self._closed = False
        self._silent_until = 0.0
        self._scouting: asyncio.Future[None] | None = None
        self._away_since: float | None = None
        """Since when nobody has answered a scout."""

    def close(self) -> None:
        """Nothing more is asked."""
        self._closed = True

    @property
    def silent(self) -> bool:
        """Whether nobody answered a moment ago."""
        return self._scouting is not None or asyncio.get_running_loop().time() < self._silent_until

    async def once(self, ask: Ask[T]) -> T:
        """Asks for what can be done without.

        Raises:
            Overloaded: there is no answer now.
        """
        self.check_open()
        while not self.silent:
            try:
                return await ask(ONCE_S)
            except _SILENCE:
                if self._bus.up or not await self._bus.wait_until_up(BACK_S):
                    self._silent_until = asyncio.get_running_loop().time() + SILENT_S
        raise Overloaded("what this server keeps cannot be reached now")

    async def insist(self, ask: Ask[T], again_s: float = AGAIN_S) -> T:
        """Asks until there is an answer, for a while; not at all while NATS is away.

        Args:
            ask: may be called again, also while what it asked before is under way.
            again_s: how often it is.

        Raises:
            BusDown: NATS is away.
            Overloaded: there is no answer; what was asked for may have been done or not.
        """
        self.check_open()
        clock = asyncio.get_running_loop().time
        deadline = clock() + PATIENCE_S
        while True:
            if self._scouting is not None and self._bus.up:
                if self._away_since is not None and clock() - self._away_since > AWAY_S:
                    raise Overloaded("what this server keeps cannot be reached now")
                await asyncio.wait({self._scouting}, timeout=deadline - clock())
                self.check_open()
                if clock() >= deadline:
                    raise Overloaded("what this server keeps cannot be reached now")
            try:
                found = await ask(FIRST_S)
            except _SILENCE as error:
                if self._scouting is None:
                    return await self._scout(ask, again_s, deadline, error)
            else:
                self._away_since = None
                return found

    async def _scout(self, ask: Ask[T], again_s: float, deadline: float, why: Exception) -> T:
        """Asks for all, until there is an answer; the others may ask then."""
        loop = asyncio.get_running_loop()
        done = self._scouting = loop.create_future()
        began = loop.time()
        if self._away_since is None:
            self._away_since = began
        log.info("%s does not answer: %s", self._what, why or "it has no leader now")
        asked: set[asyncio.Future[T]] = set()
        try:
            while not self._closed and loop.time() < deadline:
                if not self._bus.up and not await self._bus.wait_until_up(BACK_S):
                    break
                asked.add(asyncio.ensure_future(ask(PATIENCE_S)))
                until = loop.time() + again_s
                while asked and (left := until - loop.time()) > 0:
                    answered, asked = await asyncio.wait(asked, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                    found = [one for one in answered if not isinstance(one.exception(), (*_SILENCE, BusDown))]
                    if found:
                        self._away_since = None
                        log.info("%s answers again, after %.1f s", self._what, loop.time() - began)
                        return found[0].result()
                await asyncio.sleep(max(0.0, until - loop.time()))
        finally:
            self._scouting = None
            done.set_result(None)
            for one in asked:
                one.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        self.check_open()
        raise Overloaded("what this server keeps cannot be reached now")

    def check_open(self) -> None:
        """Raises Internal if it is closed."""
        if self._closed:
            raise Internal("the store is closed")
