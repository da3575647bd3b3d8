"""A kitchen on a real server: what it answers, tells and keeps, and to whom it says no."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gadgets.tests.kitchen.hands import OVEN, PATIENCE_S, Guest, kitchen

from bester import Client
from bester.core.metrics import Drop
from bester.testing import server
from bester_gadgets.kitchen.asking import Principal

HOT = {"reading": "temperature", "above": 200, "hysteresis": 5}


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


async def until_stored(found: Any) -> None:
    """Returns when no alarm waits any more."""
    await until(lambda: not found.messenger._alarms)


async def test_what_there_is_and_what_it_said_last() -> None:
    async with server() as s, kitchen(s) as (_, hands), Guest(s.url("g")) as g:
        [listed] = (await g.about("list"))["devices"]
        assert listed["device"] == "oven"
        assert listed["set"] == {"target": {"min": 50, "max": 250}, "mode": {"values": ["grill", "fan", 3]}}
        assert (await g.about("state", device="oven", id="7"))["id"] == "7"
        hands.say("home/oven", {"temperature": 21.5}, retained=True)
        hands.say("home/oven", {"door": "open"})
        [told] = (await g.about("state"))["devices"]
        readings = told["readings"]
        assert told["reachable"] is True
        assert readings["temperature"] == {"value": 21.5, "unit": "°C", "retained": True}
        assert readings["door"].pop("ageS") >= 0
        assert readings["door"] == {"value": "open"}


async def test_an_alarm_of_a_retained_value_says_so() -> None:
    async with server() as s, kitchen(s) as (_, hands), Guest(s.url("g")) as g:
        await g.about("subscribe", device="oven", rules=[HOT])
        hands.say("home/oven", {"temperature": 250}, retained=True)
        assert (await g.told("kitchen.alarm"))["retained"] is True
        hands.say("home/oven", {"temperature": 20})
        assert "retained" not in await g.told("kitchen.alarm")


async def test_states_are_pushed_and_the_newest_counts() -> None:
    async with (
        server() as s,
        kitchen(s, interval=0.05) as (_, hands),
        Guest(s.url("g")) as g,
        Guest(s.url("t")) as t,
    ):
        await g.about("subscribe", device="oven")
        assert (await g.told("kitchen.state"))["readings"] == {}
        for value in range(1001):
            hands.say("home/oven", {"temperature": value})
        seen: list[Any] = []
        while not seen or seen[-1] != 1000:
            seen.append((await g.told("kitchen.state"))["readings"]["temperature"]["value"])
        assert len(seen) <= 3
        await g.about("unsubscribe", device="oven")
        hands.say("home/oven", {"temperature": 0})
        await t.about("subscribe", device="oven")
        assert (await t.told("kitchen.state"))["readings"]["temperature"]["value"] == 0
        assert (await g.about("subscriptions"))["devices"] == []


async def test_an_alarm_is_told_once_and_so_is_its_end() -> None:
    async with server() as s, kitchen(s) as (found, hands), Guest(s.url("g")) as g:
        answer = await g.about("subscribe", device="oven", rules=[HOT, {"reading": "door", "equals": "open"}])
        assert answer["state"] is False
        for value in (190, 201, 199, 203, 196, 195, 190):
            hands.say("home/oven", {"temperature": value})
        hands.say("home/oven", {"door": "open"})
        told = [await g.told("kitchen.alarm") for _ in range(3)]
        told.sort(key=lambda one: one["reading"], reverse=True)
        assert [(one["event"], one["value"]) for one in told] == [("raised", 201), ("cleared", 195), ("raised", "open")]
        assert told[0]["rule"] == HOT
        assert told[0]["unit"] == "°C"
        assert len({one["id"] for one in told}) == 3
        await until_stored(found)
        # The same rule again goes on where it is, and one that holds already is told at once.
        await g.about("subscribe", device="oven", rules=[{"reading": "door", "equals": "open"}, {**HOT, "above": 100}])
        assert (await g.told("kitchen.alarm"))["value"] == 190


async def test_a_rule_that_changes_all_the_time_does_not_flood() -> None:
    async with server() as s, kitchen(s, interval=0.05) as (_, hands), Guest(s.url("g")) as g:
        await g.about("subscribe", device="oven", rules=[{"reading": "n", "changes": True}])
        for value in range(1000):
            hands.say("home/oven", {"n": value})
        told: list[Any] = []
        while not told or told[-1]["value"] != 999:
            told.append(await g.told("kitchen.alarm"))
        assert len(told) <= 3
        assert sum(one.get("missed", 0) for one in told) + len(told) == 999


async def test_alarms_wait_for_those_who_are_away_and_states_do_not() -> None:
    async with server() as s, kitchen(s) as (found, hands):
        async with Guest(s.url("g")) as g:
            await g.about("subscribe", device="oven", rules=[HOT], state=True)
        hands.say("home/oven", {"temperature": 230})
        await until_stored(found)
        drops = s.daemon.runtime.exchange.batch.counters.drops
        await until(lambda: drops.get(Drop.RECIPIENT_AWAY) == 1)  # the state
        async with Guest(s.url("g")) as g:
            assert (await g.told("kitchen.alarm"))["value"] == 230
            assert (await g.about("list"))["op"] == "list"


async def test_restarts_of_kitchen_and_server(tmp_path: Path) -> None:
    path = tmp_path / "kitchen.db"
    async with server() as s:
        async with kitchen(s, path) as (_, hands), Guest(s.url("g")) as g:
            await g.about("subscribe", device="oven", rules=[HOT])
            hands.say("home/oven", {"temperature": 210})
            assert (await g.told("kitchen.alarm"))["event"] == "raised"
        async with kitchen(s, path) as (found, hands), Guest(s.url("g")) as g:
            hands.say("home/oven", {"temperature": 211})  # raised already
            hands.say("home/oven", {"temperature": 20})
            assert (await g.told("kitchen.alarm"))["event"] == "cleared"
            assert [one["device"] for one in (await g.about("subscriptions"))["devices"]] == ["oven"]
            await until_stored(found)
            # The server goes away, and what happens meanwhile is told by the next process to the next server.
            await s.daemon.stop()
            hands.say("home/oven", {"temperature": 240})
    async with server() as s:
        async with Client(s.url("g")):
            pass  # the account is made
        async with kitchen(s, path), Guest(s.url("g")) as g:
            alarm = await g.told("kitchen.alarm")
            assert (alarm["event"], alarm["value"]) == ("raised", 240)


@pytest.mark.parametrize("what", [{"rules": [HOT]}, {"state": True}], ids=["alarms", "states"])
async def test_an_account_that_is_gone_is_not_told_for_ever(what: dict[str, Any]) -> None:
    async with server() as s, kitchen(s) as (found, hands):
        async with Guest(s.url("g")) as g:
            await g.about("subscribe", device="oven", **what)
        await s.daemon.accounts.remove("g")
        hands.say("home/oven", {"temperature": 300})
        await until(lambda: not found.subscriptions.of(Principal("g")))
        # Whoever makes an account of this name anew has not subscribed.
        async with Guest(s.url("g")) as g:
            assert (await g.about("subscriptions"))["devices"] == []


async def test_commands_go_to_devices_within_their_range() -> None:
    async with server() as s, kitchen(s) as (_, hands), Guest(s.url("g")) as g:
        answer = await g.about("command", device="oven", set={"target": 180, "mode": "fan"})
        assert answer == {"op": "command", "device": "oven", "set": {"target": 180, "mode": "fan"}}
        assert sorted(hands.sent) == [("home/oven/mode", b"fan"), ("home/oven/set", b'{"target":180}')]
        await g.about("command", device="oven", set={"mode": 3})
        assert hands.sent.pop() == ("home/oven/mode", b"3")
        for wrong in ({"target": 251}, {"target": True}, {"target": "180"}, {"mode": "boil"}, {"x": 1}, {}):
            assert await g.code("command", device="oven", set=wrong) == ("badCommand", False)
        assert len(hands.sent) == 2
        hands.connected = False
        assert await g.code("command", device="oven", set={"target": 180}) == ("deviceUnreachable", True)
        assert (await g.about("state", device="oven"))["devices"][0]["reachable"] is False


async def test_who_may_see_and_command() -> None:
    devices = {
        "oven": OVEN | {"see": ["role:cook", "g"], "command": ["role:cook"]},
        "safe": {"topic": "home/safe", "see": ["server:k.example"]},
    }
    async with server() as s, kitchen(s, devices=devices) as (found, hands):
        await s.daemon.accounts.add("cook", "secret", ("cook",))
        # A username may look like something else.
        async with (
            Guest(s.url("cook")) as cook,
            Guest(s.url("g")) as g,
            Guest(s.url("t")) as t,
            Guest(s.url("role:cook")) as fake,
            Guest(s.url("server:k.example")) as other,
        ):
            assert [len((await one.about("list"))["devices"]) for one in (cook, g, t, fake, other)] == [1, 1, 0, 0, 0]
            for one in (t, fake, other):
                assert await one.code("state", device="oven") == ("unknownDevice", False)
                assert await one.code("subscribe", device="oven") == ("unknownDevice", False)
                assert await one.code("command", device="oven", set={"target": 100}) == ("unknownDevice", False)
            assert await g.code("command", device="oven", set={"target": 100}) == ("notAllowed", False)
            assert "set" not in (await g.about("list"))["devices"][0]
            await cook.about("command", device="oven", set={"target": 100})
            assert len(hands.sent) == 1
            await cook.about("subscribe", device="oven", rules=[HOT])
        # Who may not see it any more is not told any more.
        await s.daemon.accounts.set_roles("cook", ())
        found.access._roles.clear()
        hands.say("home/oven", {"temperature": 300})
        await until_stored(found)
        async with Guest(s.url("cook")) as cook:
            assert await cook.code("state", device="oven") == ("unknownDevice", False)


async def test_roles_that_are_not_known_now() -> None:
    async with server() as s, kitchen(s, devices={"oven": OVEN | {"see": ["role:cook"]}}) as (found, _):
        found.access._informer._connection._path = "/nowhere/at/all"
        await found.access._informer.close()
        async with Guest(s.url("g")) as g:
            assert await g.code("list") == ("unavailable", True)


async def test_asks_that_are_wrong_or_too_many() -> None:
    limits = {"subscriptions": 1, "rules": 2, "asksPerSecond": 0.5}
    devices = dict.fromkeys(("oven", "fridge"), OVEN)
    async with server() as s:
        async with kitchen(s, devices=devices, limits=limits | {"asksPerSecond": 1000}), Guest(s.url("g")) as g:
            for wrong in (None, 5, {}, {"op": "x"}, {"op": "list", "more": 1}, {"op": "state", "device": 5}):
                assert await g.refused(wrong) == ("badAsk", False)
            assert await g.code("list", id="x" * 129) == ("badAsk", False)
            assert await g.code("subscribe", device="oven", state=False) == ("badAsk", False)
            assert await g.code("subscribe", device="oven", rules=[{"above": 1, "below": 1}]) == ("badAsk", False)
            assert await g.code("subscribe", device="oven", rules=[HOT, HOT, HOT]) == ("tooMany", False)
            await g.about("subscribe", device="oven", rules=[HOT])
            await g.about("subscribe", device="oven", rules=[HOT])
            assert await g.code("subscribe", device="fridge") == ("tooMany", False)
            assert (await g.about("unsubscribe"))["devices"] == ["oven"]
            assert await g.code("state", device="x", at="k.example") == ("unknownServer", False)
        async with kitchen(s, limits=limits), Guest(s.url("g")) as g:
            for _ in range(2):
                await g.about("list")
            assert await g.code("list") == ("throttled", True)


async def test_an_answer_that_is_too_large_is_not_tried() -> None:
    devices = {f"d{number}": {"topic": f"home/{number}"} for number in range(20)}
    async with server() as s, kitchen(s, devices=devices, limits={"payload": 60_000}) as (_, hands):
        for number in range(20):
            hands.say(f"home/{number}", "x" * 50_000)
        async with Guest(s.url("g")) as g:
            assert await g.code("state") == ("tooLarge", False)
            assert len((await g.about("state", device="d1"))["devices"]) == 1


async def test_what_is_not_from_an_account_is_refused() -> None:
    """A server that proves nothing, and a handler's message."""
    async with server() as s, kitchen(s, servers=["k.example"]) as (_, hands):
        reader, writer = await asyncio.open_unix_connection(s.folder / "clients")
        forged = {"ask": {"op": "command", "device": "oven", "set": {"target": 100}}, "user": "g"}
        body = json.dumps(
            {"header": {"scope": "server", "server": "k.example"}, "payload": {"type": "kitchen", "data": forged}}
        ).encode()
        writer.write(len(body).to_bytes(4, "little") + body)
        size = int.from_bytes(await reader.readexactly(4), "little")
        assert json.loads(await reader.readexactly(size))["payload"]["error"]["code"] == "handlerError"
        writer.close()
        await writer.wait_closed()
        async with Guest(s.url("g")) as g:
            # A client that speaks as kitchens do among themselves is no kitchen.
            told = {"tell": {"device": "oven", "event": "raised"}, "kind": "alarm", "users": ["t"]}
            for data in (forged, told):
                assert await g.refused(data) == ("badAsk", False)
        assert hands.sent == []


async def test_a_dry_run_does_nothing() -> None:
    async with server() as s, kitchen(s) as (_, hands), Client(s.url("g"), features=["route"]) as g:
        ask = {"op": "command", "device": "oven", "set": {"target": 100}}
        report = await g.send("kitchen", ask, dry_run=True, timeout=PATIENCE_S)
        assert [step.status for step in report.route] == ["notAsked"]
        assert hands.sent == []


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    import sqlite3

    from bester_gadgets.kitchen.store import Store, StoreError

    path = tmp_path / "kitchen.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="another version"):
        Store(path)
    path.write_bytes(b"no database at all, but long enough to be one" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store(path)
