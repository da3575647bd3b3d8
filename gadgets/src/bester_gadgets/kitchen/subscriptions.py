"""Keeps the subscriptions, and applies their rules to each reading.

The memory is what counts, and is changed at once; :meth:`Subscriptions.run` writes to the store what changed, all that
is waiting in one transaction. Only then an alarm is told, so that a restart neither forgets nor raises it anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec

from bester.clock import wall_time
from bester_gadgets.kitchen.asking import Principal, Problem
from bester_gadgets.kitchen.devices import Device, Reading
from bester_gadgets.kitchen.rules import Memory, Rule, step
from bester_gadgets.kitchen.store import Alarm, Change, Store, StoreError, Subscription

log = logging.getLogger("bester.kitchen")

MAX_IN_ALL = 100_000
RETRY_S = 1.0

Place = tuple[Principal, str]


class Subscriptions:
    """All subscriptions.

    Args:
        store: where they are kept.
        add_alarm: takes an alarm, and returns it as it is to be stored.
        stored: called when alarms that were added are on disk.
        max_each: how many one account may have.
    """

    def __init__(
        self, store: Store, add_alarm: Callable[[Alarm], Alarm], stored: Callable[[], None], max_each: int
    ) -> None:
        self._store = store
        self._add_alarm = add_alarm
        self._stored = stored
        self._max_each = max_each
        self._of_device: dict[str, dict[Principal, Subscription]] = {}
        self._of_account: dict[Principal, dict[str, Subscription]] = {}
        self._count = 0
        self._unsaved: dict[Place, dict[str, Alarm]] = {}
        self._wake = asyncio.Event()

    async def load(self) -> None:
        """Takes what is in the store.

        Raises:
            StoreError: it cannot be read.
        """
        found, alarms = await self._store.load()
        for who, device, subscription in found:
            missing = len(subscription.rules) - len(subscription.memories)
            subscription.memories += [Memory()] * missing
            self._set(who, device, subscription)
        for alarm in alarms:
            self._add_alarm(alarm)

    # -- who ------------------------------------------------------------------------------------------------------

    def of(self, who: Principal) -> dict[str, Subscription]:
        """Returns an account's subscriptions, by device."""
        return self._of_account.get(who, {})

    def for_state(self, device: str) -> list[Principal]:
        """Returns who wants a device's state."""
        return [who for who, subscription in self._of_device.get(device, {}).items() if subscription.state]

    def _set(self, who: Principal, device: str, subscription: Subscription | None) -> None:
        before = self._of_account.get(who, {}).get(device)
        if subscription is not None:
            self._of_account.setdefault(who, {})[device] = subscription
            self._of_device.setdefault(device, {})[who] = subscription
            self._count += before is None
        elif before is not None:
            self._count -= 1
            for table, outer, inner in ((self._of_account, who, device), (self._of_device, device, who)):
                entries: dict[Any, Subscription] = table[outer]  # type: ignore[index]
                del entries[inner]
                if not entries:
                    del table[outer]  # type: ignore[arg-type]

    async def subscribe(self, who: Principal, device: Device, rules: list[Rule], state: bool) -> Subscription:
        """Makes or replaces a subscription, and returns when it is on disk.

        Readings that are beyond a new rule make alarms.

        Raises:
            Problem: there are too many, or it cannot be stored.
        """
        before = self.of(who).get(device.name)
        if before is None and (len(self.of(who)) >= self._max_each or self._count >= MAX_IN_ALL):
            raise Problem("tooMany", f"an account may subscribe to {self._max_each} devices: unsubscribe from one")
        # The same rule again goes on as it is: whoever subscribes anew at each start is not told anew.
        known = dict(zip(before.rules, before.memories, strict=True)) if before is not None else {}
        made = Subscription(state, rules, [known.get(rule, Memory()) for rule in rules])
        self._set(who, device.name, made)
        alarms: list[Alarm] = []
        for name, reading in device.readings.items():
            alarms += self._step(who, device, made, name, reading)
        try:
            await self._store.put([Change(who, device.name, made, alarms)])
        except StoreError as error:
            log.error("a subscription was not stored: %s", error)
            if self.of(who).get(device.name) is made:
                self._set(who, device.name, before)
            raise Problem("notStored", "the subscription cannot be stored now", temporary=True) from error
        self._stored()
        return made

    async def unsubscribe(self, who: Principal, device: str | None, alarms: list[str]) -> list[str]:
        """Removes one subscription, or all of an account, and alarms by their ids; returns the devices.

        Raises:
            Problem: it cannot be stored.
        """
        names = [name for name in self.of(who) if device in (None, name)]
        for name in names:
            self._set(who, name, None)
            self._unsaved.pop((who, name), None)
        try:
            await self._store.put([Change(who, name, None) for name in names])
            await self._store.told(alarms)
        except StoreError as error:
            log.error("the end of a subscription was not stored: %s", error)
            raise Problem("notStored", "this ends with the next restart only: try again", temporary=True) from error
        return names

    # -- readings -------------------------------------------------------------------------------------------------

    def received(self, device: Device, name: str, reading: Reading) -> None:
        """Lets the rules see a reading."""
        for who, subscription in self._of_device.get(device.name, {}).items():
            if subscription.rules:
                before = subscription.memories
                alarms = list(self._step(who, device, subscription, name, reading))
                if alarms or subscription.memories != before:
                    self._unsaved.setdefault((who, device.name), {}).update((alarm.id, alarm) for alarm in alarms)
                    self._wake.set()

    def _step(
        self, who: Principal, device: Device, subscription: Subscription, name: str, reading: Reading
    ) -> Iterator[Alarm]:
        memories = subscription.memories
        for index, rule in enumerate(subscription.rules):
            if rule.reading != name:
                continue
            memory, event = step(rule, memories[index], reading.value)
            if memory is not memories[index]:
                memories = subscription.memories = [*memories[:index], memory, *memories[index + 1 :]]
            if event is not None:
                data = {
                    "device": device.name,
                    "event": event,
                    "rule": rule,
                    "reading": name,
                    "value": reading.value,
                    "time": datetime.fromtimestamp(wall_time(), UTC).isoformat(timespec="milliseconds"),
                }
                if reading.retained:
                    data["retained"] = True
                if name in device.settings.units:
                    data["unit"] = device.settings.units[name]
                raw = msgspec.Raw(msgspec.json.encode(data))
                yield self._add_alarm(Alarm(uuid4().hex, who, device.name, index, raw))

    async def run(self) -> None:
        """Writes what changed, until it is cancelled; then what is left."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self.save()
        finally:
            await self.save()

    async def save(self) -> None:
        """Writes what changed."""
        unsaved, self._unsaved = self._unsaved, {}
        changes = [
            Change(who, device, current, list(alarms.values()))
            for (who, device), alarms in unsaved.items()
            if (current := self.of(who).get(device)) is not None
        ]
        if not changes:
            return
        try:
            await self._store.put(changes)
        except StoreError as error:
            # They are told all the same; only a restart would not know of them.
            log.error("%s", error)
        self._stored()
