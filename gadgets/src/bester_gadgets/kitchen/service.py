"""The kitchen itself: answers what is asked, and lets the other parts know what came."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import msgspec

from bester import Command as Answer
from bester import Handler, Informer, Refuse, Reply, Request, SendClients, SendServers
from bester.errors import InvalidName
from bester.protocol import names
from bester_gadgets.kitchen import asking
from bester_gadgets.kitchen.access import Access, Unknown
from bester_gadgets.kitchen.asking import Principal, Problem
from bester_gadgets.kitchen.devices import Device, Devices, Reading
from bester_gadgets.kitchen.settings import Allowed, KitchenSettings
from bester_gadgets.kitchen.source import Source, SourceAway
from bester_gadgets.kitchen.store import Store
from bester_gadgets.kitchen.subscriptions import Subscriptions
from bester_gadgets.kitchen.telling import Messenger, addressed
from bester_gadgets.rates import Rates
from bester_gadgets.running import serve

MAX_ANSWER_BYTES = 512 * 1024
KINDS = ("answer", "state", "alarm")


class Kitchen:
    """One kitchen on one server.

    Args:
        settings: see docs/kitchen.md.
        source: where the devices are.
        store: what outlives the process.
        handler: not started; its type is registered here.
        informer: of the same server.
    """

    def __init__(
        self, settings: KitchenSettings, source: Source, store: Store, handler: Handler, informer: Informer
    ) -> None:
        self.settings = settings
        self.source = source
        self.handler = handler
        self.access = Access(informer)
        self.devices = Devices(settings, self._changed)
        self.messenger = Messenger(
            handler.push,
            store,
            settings.type,
            settings.interval,
            state=self._state_for_subscribers,
            may_see=self._may_see,
            gone=self._gone,
        )
        self.subscriptions = Subscriptions(
            store, self.messenger.add, self.messenger.wake, settings.limits.subscriptions
        )
        rate = settings.limits.asks_per_s
        self._rates = Rates(rate, max(rate, 1.0) * 2)
        handler.on(settings.type, dry_run=False)(self.handle)

    async def run(self) -> None:
        """Serves until a signal.

        Raises:
            StoreError: the store cannot be read.
            Refused: the server does not want this handler.
        """
        await self.subscriptions.load()
        await serve(
            [self.handler],
            self.source.run(self.devices.filters, self.devices.receive),
            self.subscriptions.run(),
            self.messenger.run(),
        )

    # -- from devices ---------------------------------------------------------------------------------------------

    def _changed(self, device: Device, name: str, reading: Reading) -> None:
        self.subscriptions.received(device, name, reading)
        self.messenger.changed(device.name)

    async def _state_for_subscribers(self, name: str) -> tuple[Any, list[Principal]]:
        device = self.devices.get(name)
        wanting = self.subscriptions.for_state(name)
        if device is None or not wanting:
            return None, []
        found = []
        for who in wanting:
            try:
                if await self.access.may(who, device.settings.see):
                    found.append(who)
            except Unknown:
                continue  # the next state comes soon enough
        return self._state(device), found

    async def _may_see(self, who: Principal, name: str) -> bool:
        device = self.devices.get(name)
        if device is not None:
            return await self.access.may(who, device.settings.see)
        discover = self.settings.discover  # it may not have been found again yet
        return discover is not None and await self.access.may(who, discover.see)

    async def _gone(self, who: Principal) -> None:
        try:
            await self.subscriptions.unsubscribe(who, None, self.messenger.forget(who))
        except Problem:
            return  # it is logged there, and tried again with the next alarm

    # -- from clients and other kitchens --------------------------------------------------------------------------

    async def handle(self, request: Request) -> Answer | list[Answer]:
        """Answers a message of the kitchen's type.

        Raises:
            Refuse: it is not from somebody who may speak to a kitchen; a Problem: it cannot be answered.
        """
        sender = request.sender
        if request.scope == "client" and sender.user:
            ask = asking.read_ask(request.raw)
            if ask.at:
                return self._forwarded(sender.user, ask)
            return Reply(await self.answer(Principal(sender.user), ask))
        if request.scope == "server" and sender.verified and sender.server:
            if sender.server not in self.settings.servers:
                raise Refuse("this kitchen does not know that server", code="kitchen.unknownServer")
            return await self._between(sender.server, request)
        raise Refuse("asked by neither an account nor a server that proves its name", code="kitchen.notAllowed")

    def _forwarded(self, user: str, ask: asking.AnyAsk) -> Answer:
        server = ask.at.lower()
        if server not in self.settings.servers:
            raise Problem("unknownServer", f"this kitchen does not ask that of {server}; it knows {self._servers()}")
        self._throttle(Principal(user))
        there = asking.Asked(msgspec.structs.replace(ask, at=""), user)
        return SendServers([server], there, self.settings.type, transient=True)

    def _servers(self) -> str:
        return ", ".join(self.settings.servers) or "no other server"

    async def _between(self, server: str, request: Request) -> Answer | list[Answer]:
        said = asking.read_between(request.raw)
        if isinstance(said, asking.Told):
            return self._told(server, said)
        try:
            who = Principal(names.username(said.user), server)
        except InvalidName as error:
            raise Problem("badAsk", error.message) from error
        ask = msgspec.structs.replace(said.ask, at="")
        try:
            answer = await self.answer(who, ask)
        except Problem as problem:
            answer = msgspec.Raw(_json(_head(ask) | problem.as_answer()))
        return addressed(self.settings.type, "answer", answer, [who], transient=True)

    def _told(self, server: str, told: asking.Told) -> Answer:
        data = msgspec.json.decode(told.tell)
        if told.kind not in KINDS or not isinstance(data, dict):
            raise Problem("badAsk", "not something that a kitchen tells")
        type = self.settings.type if told.kind == "answer" else f"{self.settings.type}.{told.kind}"
        return SendClients(told.users, data | {"at": server}, type, transient=told.kind != "alarm")

    def _throttle(self, who: Principal) -> None:
        wait_s = self._rates.take((who.server, "" if who.server else who.user))
        if wait_s:
            raise Problem("throttled", f"too many: wait {wait_s:.1f} s", temporary=True)

    async def answer(self, who: Principal, ask: asking.AnyAsk) -> msgspec.Raw:
        """Returns what is told to who asks, as JSON.

        Raises:
            Problem: it cannot be answered.
        """
        self._throttle(who)
        try:
            answer = await self._answer(who, ask)
        except Unknown as error:
            raise Problem("unavailable", str(error), temporary=True) from error
        raw = _json(_head(ask) | answer)
        if len(raw) > MAX_ANSWER_BYTES:
            raise Problem("tooLarge", "the answer is too large: ask for one device")
        return msgspec.Raw(raw)

    async def _answer(self, who: Principal, ask: asking.AnyAsk) -> dict[str, Any]:
        match ask:
            case asking.List():
                return {"devices": [await self._described(who, device) for device in await self._seen(who)]}
            case asking.State(device=None):
                return {"devices": [self._state(device) for device in await self._seen(who)]}
            case asking.State(device=str(name)):
                return {"devices": [self._state(await self._visible(who, name))]}
            case asking.Subscribe():
                return await self._subscribe(who, ask)
            case asking.Unsubscribe():
                ids = self.messenger.forget(who, ask.device)
                return {"devices": await self.subscriptions.unsubscribe(who, ask.device, ids)}
            case asking.Subscriptions():
                mine = self.subscriptions.of(who).items()
                return {"devices": [{"device": name, "state": one.state, "rules": one.rules} for name, one in mine]}
            case asking.Command():
                return await self._command(who, ask)
        raise AssertionError(ask)

    async def _seen(self, who: Principal) -> list[Device]:
        return [device for device in self.devices if await self.access.may(who, device.settings.see)]

    async def _visible(self, who: Principal, name: str) -> Device:
        device = self.devices.get(name)
        # What somebody may not see does not exist for them.
        if device is None or not await self.access.may(who, device.settings.see):
            raise Problem("unknownDevice", f"there is no device {name[:64]!r}; the op list tells which there are")
        return device

    async def _described(self, who: Principal, device: Device) -> dict[str, Any]:
        settings = device.settings
        described: dict[str, Any] = {"device": device.name, "kind": settings.kind, "title": settings.title}
        found = {key: one for key, one in described.items() if one}
        found["readings"] = {name: settings.units.get(name, "") for name in {**settings.topics, **device.readings}}
        if settings.set and await self.access.may(who, settings.command):
            found["set"] = {
                key: allowed.model_dump(by_alias=True, exclude_none=True, exclude={"topic"})
                for key, allowed in settings.set.items()
            }
        return found

    def _state(self, device: Device) -> dict[str, Any]:
        now = time.monotonic()
        readings: dict[str, Any] = {}
        for name, reading in device.readings.items():
            told: dict[str, Any] = {"value": reading.value}
            if reading.retained:
                told["retained"] = True
            else:
                told["ageS"] = round(now - reading.at, 1)
            if name in device.settings.units:
                told["unit"] = device.settings.units[name]
            readings[name] = told
        return {"device": device.name, "readings": readings, "reachable": self.source.connected}

    async def _subscribe(self, who: Principal, ask: asking.Subscribe) -> dict[str, Any]:
        device = await self._visible(who, ask.device)
        most = self.settings.limits.rules
        if len(ask.rules) > most:
            raise Problem("tooMany", f"a subscription has at most {most} rules")
        state = ask.state if ask.state is not None else not ask.rules
        if not state and not ask.rules:
            raise Problem("badAsk", "neither state nor rules: that would tell nothing")
        made = await self.subscriptions.subscribe(who, device, ask.rules, state)
        if state:
            self.messenger.changed(device.name)
        return {"device": device.name, "state": made.state, "rules": made.rules}

    async def _command(self, who: Principal, ask: asking.Command) -> dict[str, Any]:
        device = await self._visible(who, ask.device)
        settings = device.settings
        if not await self.access.may(who, settings.command):
            raise Problem("notAllowed", f"you may not command the {device.name}")
        if not ask.set:
            raise Problem("badCommand", "set is empty")
        together: dict[str, Any] = {}
        messages: list[tuple[str, bytes]] = []
        for key, value in ask.set.items():
            allowed = settings.set.get(key)
            if allowed is None:
                raise Problem("badCommand", f"{device.name} has no {key[:64]!r}; allowed: {', '.join(settings.set)}")
            check(f"{device.name}.{key}", allowed, value)
            if allowed.topic is None:
                together[key] = value
            else:
                messages.append((allowed.topic, value.encode() if isinstance(value, str) else _json(value)))
        if together:
            assert settings.command_topic is not None
            messages.append((settings.command_topic, _json(together)))
        try:
            await asyncio.gather(*(self.source.publish(topic, payload) for topic, payload in messages))
        except SourceAway as error:
            raise Problem("deviceUnreachable", f"{error}; try again later", temporary=True) from error
        return {"device": device.name, "set": ask.set}


def check(what: str, allowed: Allowed, value: object) -> None:
    """Does nothing if a command's value is allowed.

    Raises:
        Problem: it is not; the text says what is.
    """
    if allowed.values is not None:
        if any(type(value) is type(one) and value == one for one in allowed.values):
            return
        wanted = "one of " + ", ".join(json.dumps(one, ensure_ascii=False) for one in allowed.values)
    elif allowed.max_length is not None:
        if isinstance(value, str) and len(value) <= allowed.max_length:
            return
        wanted = f"a text of at most {allowed.max_length} characters"
    else:
        assert allowed.min is not None
        assert allowed.max is not None
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and allowed.min <= value <= allowed.max:  # type: ignore[operator]
            return
        wanted = f"a number from {allowed.min:g} to {allowed.max:g}"
    raise Problem("badCommand", f"{what}: allowed is {wanted}")


def _head(ask: asking.AnyAsk) -> dict[str, Any]:
    """Returns the members that every answer begins with."""
    head: dict[str, Any] = {"op": type(ask).__struct_config__.tag}
    return head if ask.id is None else head | {"id": ask.id}


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)
