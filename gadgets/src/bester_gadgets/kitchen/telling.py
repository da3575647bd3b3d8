"""Tells subscribers: states, of which only the newest counts, and alarms, of which none may be lost.

The *messenger* pushes. A device that changes many times within the interval makes one push, with the newest readings.
An alarm stays in the store until a good report says that the server has it; after a restart it is told again, with the
same ``id``. Of one rule at most two alarms wait, so that "raised" and "cleared" are both told; beyond that the newest
takes the place of the last, and says how many it stands for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Protocol

import msgspec

from bester import ClientError, Command, Report, SendClients, SendServers
from bester.timeouts import within
from bester_gadgets.kitchen.access import Unknown
from bester_gadgets.kitchen.asking import Principal
from bester_gadgets.kitchen.store import Alarm, Store, StoreError

log = logging.getLogger("bester.kitchen")

PUSH_TIMEOUT_S = 15.0
GRACE_S = 0.5
RETRY_FIRST_S = 0.2
RETRY_MAX_S = 30.0
AT_ONCE = 32
MAX_WAITING_OF_A_RULE = 2
MAX_RESTING = 10_000
MAX_TO = 1000
"""Accounts in one command."""

Key = tuple[Principal, str, int]


class Push(Protocol):
    """Pushes as :meth:`bester.Handler.push` does."""

    def __call__(self, command: list[Command], *, timeout: float) -> Awaitable[Report]:
        """Pushes; see there."""
        ...


def addressed(type: str, kind: str, data: object, to: Iterable[Principal], *, transient: bool = False) -> list[Command]:
    """Returns the commands that tell something to accounts, here and at other servers' kitchens."""
    here: list[str] = []
    there: dict[str, list[str]] = {}
    for who in to:
        (there.setdefault(who.server, []) if who.server else here).append(who.user)
    told = type if kind == "answer" else f"{type}.{kind}"
    commands: list[Command] = [
        SendClients(here[start : start + MAX_TO], data, told, transient) for start in range(0, len(here), MAX_TO)
    ]
    commands += [
        SendServers([server], {"tell": data, "kind": kind, "users": users[start : start + MAX_TO]}, type, transient)
        for server, users in there.items()
        for start in range(0, len(users), MAX_TO)
    ]
    return commands


class Messenger:
    """Pushes what is to be told; :meth:`run` does it, everything else only says what is due.

    Args:
        push: tells the server.
        store: where alarms wait.
        type: of the kitchen.
        interval_s: between two pushes of one device, or two alarms of one rule.
        state: returns a device's state as it is told, and those to tell it to, who may see it.
        may_see: says whether somebody may still see a device.
        gone: called with an account that the server does not know any more.
    """

    def __init__(
        self,
        push: Push,
        store: Store,
        type: str,
        interval_s: float,
        *,
        state: Callable[[str], Awaitable[tuple[Any, list[Principal]]]],
        may_see: Callable[[Principal, str], Awaitable[bool]],
        gone: Callable[[Principal], Awaitable[None]],
    ) -> None:
        self._push = push
        self._store = store
        self._type = type
        self._interval_s = interval_s
        self._state = state
        self._may_see = may_see
        self._gone = gone
        self._stale: dict[str, float] = {}
        """Devices whose state is to be told, and when that is due."""
        self._told_at: dict[str, float] = {}
        self._alarms: dict[Key, deque[Alarm]] = {}
        self._due: dict[Key, float] = {}
        self._pauses: dict[Key, float] = {}
        self._wake = asyncio.Event()

    # -- what is due ----------------------------------------------------------------------------------------------

    def changed(self, device: str) -> None:
        """A device has a new state."""
        if device not in self._stale:
            self._stale[device] = self._told_at.get(device, 0.0) + self._interval_s
            self._wake.set()

    def add(self, alarm: Alarm) -> Alarm:
        """Takes an alarm; returns it as it is to be stored, which may be in the place of the last of its rule."""
        waiting = self._alarms.setdefault((alarm.who, alarm.device, alarm.rule), deque())
        if len(waiting) >= MAX_WAITING_OF_A_RULE + 1:  # the first may be on its way
            last = waiting.pop()
            alarm = Alarm(last.id, alarm.who, alarm.device, alarm.rule, alarm.data, last.missed + 1)
        waiting.append(alarm)
        return alarm

    def wake(self) -> None:
        """Notes that the alarms that were added are stored, and may be told."""
        self._wake.set()

    def forget(self, who: Principal, device: str | None = None) -> list[str]:
        """Drops the alarms of an account, or only of one device; returns their ids."""
        found = [key for key in self._alarms if key[0] == who and device in (None, key[1])]
        return [alarm.id for key in found for alarm in self._drop(key)]

    def _drop(self, key: Key) -> Iterable[Alarm]:
        self._due.pop(key, None)
        self._pauses.pop(key, None)
        return self._alarms.pop(key, ())

    # -- telling --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Tells, until it is cancelled."""
        while True:
            self._wake.clear()
            now = time.monotonic()
            devices = [device for device, due in self._stale.items() if due <= now][:AT_ONCE]
            keys = [key for key in self._alarms if self._due.get(key, 0.0) <= now][:AT_ONCE]
            if devices or keys:
                await self._finished([*map(self._tell_state, devices), *map(self._tell_alarm, keys)])
                continue
            next_due = min([*self._stale.values(), *(self._due.get(key, 0.0) for key in self._alarms)], default=None)
            try:
                async with within(None if next_due is None else next_due - now):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _finished(self, telling: list[Coroutine[Any, Any, None]]) -> None:
        """Waits for what is being told; cancelled, for a little longer, so that it need not be told again."""
        told = asyncio.gather(*telling)
        try:
            await asyncio.shield(told)
        except asyncio.CancelledError:
            await asyncio.wait([told], timeout=GRACE_S)
            told.cancel()
            await asyncio.gather(told, return_exceptions=True)
            raise

    async def _tell_state(self, device: str) -> None:
        self._told_at[device] = time.monotonic()
        self._stale.pop(device, None)
        data, to = await self._state(device)
        if not to:
            return
        commands = addressed(self._type, "state", data, to, transient=True)
        try:
            report = await self._push(commands, timeout=PUSH_TIMEOUT_S)
        except (ClientError, TimeoutError):
            self.changed(device)  # nobody is harmed by the newest state twice
            return
        for result in report.results:
            if result.error is not None and result.error.code == "unknownAccount":
                await self._forgotten(Principal(result.to))

    async def _tell_alarm(self, key: Key) -> None:
        alarm = self._alarms[key][0]
        try:
            if not await self._may_see(alarm.who, alarm.device):
                await self._done(key, alarm)
                return
            data = (
                msgspec.json.decode(alarm.data) | {"id": alarm.id} | ({"missed": alarm.missed} if alarm.missed else {})
            )
            report = await self._push(addressed(self._type, "alarm", data, [alarm.who]), timeout=PUSH_TIMEOUT_S)
        except (ClientError, TimeoutError, Unknown) as error:
            self._later(key, str(error))
            return
        if report.good:
            await self._done(key, alarm)
            return
        codes = {result.error.code for result in report.results if result.error is not None}
        if report.error is not None and report.error.temporary:
            self._later(key, report.error.message)
        elif "unknownAccount" in codes:
            await self._forgotten(alarm.who)
        else:
            log.warning("an alarm for %s cannot be told: %s", alarm.who.user, report.error)
            await self._done(key, alarm)

    async def _forgotten(self, who: Principal) -> None:
        log.info("%s has no account any more: its subscriptions are dropped", who.user)
        await self._gone(who)

    def _rest(self, key: Key) -> None:
        """A rule that was told of is not told of again before the interval is over."""
        now = time.monotonic()
        self._due[key] = now + self._interval_s
        if len(self._due) > MAX_RESTING:
            self._due = {key: due for key, due in self._due.items() if due > now or key in self._alarms}

    def _later(self, key: Key, why: str) -> None:
        pause_s = self._pauses[key] = min(self._pauses.get(key, RETRY_FIRST_S / 2) * 2, RETRY_MAX_S)
        self._due[key] = time.monotonic() + pause_s
        log.debug("an alarm for %s waits %.1f s: %s", key[0].user, pause_s, why)

    async def _done(self, key: Key, alarm: Alarm) -> None:
        waiting = self._alarms.get(key)
        if waiting and waiting[0] is alarm:
            waiting.popleft()
            if not waiting:
                del self._alarms[key]
            self._pauses.pop(key, None)
            self._rest(key)
        try:
            await self._store.told([alarm.id])
        except StoreError as error:
            log.error("an alarm was told and may be told again: %s", error)
