"""Kitchens of two servers: an account of one subscribes to a device of the other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from gadgets.tests.kitchen.hands import OVEN, PATIENCE_S, Guest, kitchen
from gadgets.tests.two import two_servers

from bester import Handler, SendServers

HOT = {"reading": "temperature", "above": 200, "hysteresis": 5}


async def asked(guest: Guest, op: str, **more: Any) -> Any:
    """Asks the kitchen at j.example, and returns its answer."""
    report = await guest.tell({"op": op, "at": "j.example"} | more)
    assert report.good, report
    answer = await guest.told("kitchen")
    assert answer.pop("at") == "j.example"
    return answer


async def test_from_one_server_to_the_other(tmp_path: Path) -> None:
    oven = OVEN | {"see": ["server:l.example"], "command": ["server:l.example"]}
    devices = {"oven": oven, "safe": {"topic": "home/safe"}}
    async with (
        two_servers(tmp_path) as (here, there),
        kitchen(here, tmp_path / "j.db", devices=devices, servers=["l.example"]) as (at_j, hands),
        kitchen(there, tmp_path / "l.db", servers=["j.example"]),
        Guest(there.url("g")) as g,
        Guest(here.url("g")) as namesake,
    ):
        assert [one["device"] for one in (await asked(g, "list"))["devices"]] == ["oven"]
        assert (await namesake.about("list"))["devices"][0]["device"] == "safe"
        await asked(g, "subscribe", device="oven", state=True, rules=[HOT])
        assert (await g.told("kitchen.state"))["at"] == "j.example"
        hands.say("home/oven", {"temperature": 230})
        told = [await g.next(), await g.next()]
        told.sort(key=lambda one: one.type)
        assert [one.type for one in told] == ["kitchen.alarm", "kitchen.state"]
        assert (told[0].data["event"], told[0].data["at"]) == ("raised", "j.example")
        assert await asked(g, "command", device="oven", set={"target": 100})
        assert hands.sent == [("home/oven/set", b'{"target":100}')]
        assert (await asked(g, "command", device="safe", set={"x": 1}))["error"]["code"] == "kitchen.unknownDevice"
        # The account of the same name at j.example is another one.
        assert (await namesake.about("subscriptions"))["devices"] == []
        assert [one["device"] for one in (await asked(g, "subscriptions"))["devices"]] == ["oven"]
        async with asyncio.timeout(PATIENCE_S):
            while at_j.messenger._alarms:
                await asyncio.sleep(0.005)
        assert (await asked(g, "unsubscribe"))["devices"] == ["oven"]


async def test_a_server_that_is_not_among_those_of_the_settings(tmp_path: Path) -> None:
    """It proves its name, and may not speak to this kitchen all the same."""
    async with two_servers(tmp_path) as (here, there), kitchen(here, servers=["k.example"]) as (_, hands):
        handler = Handler(there.handlers_path)
        handler.on("kitchen")(lambda message: SendServers(["j.example"], message.data))
        async with handler, Guest(there.url("t")) as t, Guest(here.url("g")) as g:
            forged = [
                {"ask": {"op": "command", "device": "oven", "set": {"target": 100}}, "user": "g"},
                {"tell": {"device": "oven", "event": "raised"}, "kind": "alarm", "users": ["g"]},
            ]
            for data in forged:
                report = await t.tell(data)
                assert [one.status for one in report.results] == ["failed"]
                assert report.error is not None
                assert report.error.code == "serverRefused"
            assert hands.sent == []
            assert (await g.about("list"))["op"] == "list"  # and nothing came before it


async def test_a_neighbour_says_only_what_kitchens_say(tmp_path: Path) -> None:
    async with two_servers(tmp_path) as (here, there), kitchen(here, servers=["l.example"]) as (_, hands):
        handler = Handler(there.handlers_path)
        handler.on("kitchen")(lambda message: SendServers(["j.example"], message.data))
        async with handler, Guest(there.url("t")) as t, Guest(here.url("g")) as g:
            wrong: list[Any] = [
                None,
                {"ask": {"op": "list"}},
                {"ask": {"op": "list"}, "user": "\n"},
                {"tell": 5, "kind": "alarm", "users": ["g"]},
                {"tell": {}, "kind": "chat", "users": ["g"]},
                {"tell": {}, "kind": "alarm", "users": "g"},
            ]
            for data in wrong:
                assert not (await t.tell(data)).good
            # What it says of where it comes from is not believed.
            assert (await t.tell({"tell": {"at": "bank.example"}, "kind": "alarm", "users": ["g"]})).good
            assert await g.told("kitchen.alarm") == {"at": "l.example"}
            assert hands.sent == []
