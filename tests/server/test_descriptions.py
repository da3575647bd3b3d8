"""What handlers say of their types, and what is refused for it (docs/protocol.md, section 6.9)."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from tests.server.logged import as_before
from tests.server.peers import Stage, Wire, attaching, refused, result, stage
from tests.server.reloading import reloading
from tests.waiting import until

from bester.config import ConfigError, parse
from bester.server.handlers import descriptions

PIZZA = {
    "type": "object",
    "required": ["pizza"],
    "properties": {"pizza": {"type": "string", "maxLength": 9}, "count": {"maximum": 5}},
}
STRICT = {"handlers": {"typeMap": {"order": {"validate": True}}}}
DONE = {"type": "done"}


async def attach(play: Stage, *types: str, name: str = "", **described: Any) -> Wire:
    wire = await play.connect("handlers")
    wire.send(attaching(*types, name=name, describe={types[0]: described} if described else None))
    await wire.good("a")
    return wire


WRONG: dict[str, tuple[Any, str]] = {
    "no object": (5, "describe: Expected `object | null`, got `int`"),
    "a list": ([], "describe: Expected `object | null`, got `array`"),
    "a lone surrogate": ({"order": {"description": "\ud800"}}, "describe.order: a lone surrogate escape"),
    "another type": ({"other": {}}, "describe: 'other' is none of the types that attach"),
    "no description": ({"order": 5}, "describe.order: Expected `object`, got `int`"),
    "a number": ({"order": {"description": 5}}, "describe.order.description: Expected `str | null`, got `int`"),
    "a version": ({"order": {"version": "1" * 129}}, "describe.order.version: has more than 128 characters"),
    "no samples": ({"order": {"samples": {}}}, "describe.order.samples: Expected `array`, got `object`"),
    "many samples": ({"order": {"samples": [1] * 17}}, "describe.order.samples: has 17; at most 16 are allowed"),
    "too large": (
        {"order": {"description": "x" * 65_536}},
        "describe.order: has 65555 bytes; at most 65536 are allowed",
    ),
    "no schema": ({"order": {"answer": "string"}}, "describe.order.answer: a JSON Schema is an object, true or false"),
    "an unknown type": (
        {"order": {"request": {"properties": {"a": {"type": "objec"}}}}},
        "describe.order.request.properties",
    ),
    "a reference": ({"order": {"parts": {"$ref": "#/$defs/none"}}}, "describe.order.parts: "),
    "a reference to a file": ({"order": {"request": {"$ref": "file:///etc/passwd"}}}, "describe.order.request: "),
    "a reference to the network": ({"order": {"request": {"$ref": "http://127.0.0.1:1/"}}}, "describe.order.request: "),
    "no pattern": ({"order": {"request": {"pattern": "(a"}}}, "describe.order.request.pattern: "),
    "a name in quotes": ({"a b": {"request": 1}}, "describe['a b'].request: "),
}


@pytest.mark.parametrize("case", WRONG)
async def test_descriptions_that_are_refused(case: str) -> None:
    described, text = WRONG[case]
    async with stage() as play:
        wire = await play.connect("handlers")
        wire.send(attaching("order", "a b", describe=described))
        error = (await wire.report("a"))["error"]
        assert error["code"] == "badArguments"
        assert error["message"].startswith(text), error
        assert len(error["message"]) < 400
        await wire.closed()
        assert not play.runtime.exchange.dispatcher.types


async def test_without_the_extra_only_the_form_is_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("bester.schemas.validator.find_spec", lambda name: None)
    monkeypatch.setattr("bester.config.checks.find_spec", lambda name: None)
    async with stage() as play:
        await attach(play, "order", request={"type": "objec"})
        wire = await play.connect("handlers")
        wire.send(attaching("order", describe={"order": {"request": 5}}))
        assert await wire.bad("a") == "badArguments"
    tree = {"network": {"unix": {"address": "s"}}} | STRICT
    with pytest.raises(ConfigError, match=r"typeMap\.order\.validate.* -m pip install .*jsonschema-rs"):
        parse(json.dumps(tree), tmp_path)


async def test_the_newest_handler_counts_and_an_earlier_one_after_it() -> None:
    async with stage() as play:
        root, control = await play.admin(), await play.connect("control")
        first = await attach(play, "order", name="first", description="old", version="1", request=PIZZA)
        second = await attach(play, "order", name="second", version="2", samples=[{"pizza": 1e300}])
        plain = await attach(play, "order", name="plain")
        for asking in (root, control):
            (row,) = await result(asking, "describe", type="order")
            assert (row["version"], row["description"], row["request"]) == ("2", None, None)
            assert (row["handler"], row["versions"], row["samples"]) == ("second", ["1", "2"], [{"pizza": 1e300}])
            assert row["since"] > 1e9
        second.send({"payload": {"type": "detach", "id": "d"}})
        await second.good("d")
        (row,) = await result(control, "describe", type="order")
        assert (row["version"], row["versions"], row["request"]) == ("1", ["1"], PIZZA)
        assert [(one["type"], one["version"]) for one in await result(control, "listHandlers")] == [("order", "1")]
        await first.leave()
        await until(lambda: not play.server.descriptions.of("order"))
        (row,) = await result(control, "describe")
        assert (row["type"], row["version"], row["handler"], row["versions"]) == ("order", None, None, [])
        await plain.leave()
        await until(lambda: not play.runtime.exchange.dispatcher.types)
        assert await result(control, "describe") == []
        assert await refused(control, "describe", type="order") == "badArguments"


async def test_clients_see_what_they_may_send() -> None:
    types = {"open": {}, "closed": {"allow": ["servers"]}, "ours": {"allow": ["role:cook"]}}
    async with stage({"handlers": {"typeMap": types}}) as play:
        for name in types:
            await attach(play, name, description=f"the {name} one")
        client = await play.login("t")
        rows = await result(client, "describe")
        assert [row["description"] for row in rows] == ["the open one"]
        assert "handler" not in rows[0]
        assert await refused(client, "describe", type="closed") == "notAllowed"
        assert await refused(client, "describe", limit=0) == "badArguments"
        assert await refused(client, "describe", limit=101) == "badArguments"
        await play.server.accounts.set_roles("t", ("cook",))
        assert [row["type"] for row in await result(client, "describe", after="open")] == ["ours"]
        root = await play.admin()
        assert [row["type"] for row in await result(root, "describe", limit=2)] == ["closed", "open"]


FAULTS: list[tuple[bytes, str]] = [
    (b'{"pizza": 5}', 'data.pizza: the value is not of type "string"'),
    (b"{}", 'data: "pizza" is a required property'),
    (b"null", 'data: the value is not of type "object"'),
    (b'{"pizza": "%b"}' % (b"\\ud800" * 10), "data: a lone surrogate escape cannot be judged"),
    (b'{"pizza": "a", "count": 1e999999}', "data.count: the value is greater than the maximum of 5"),
]


@pytest.mark.parametrize(("data", "text"), FAULTS)
async def test_what_does_not_fit_is_refused(data: bytes, text: str) -> None:
    async with stage(STRICT) as play:
        handler, client = await attach(play, "order", request=PIZZA), await play.login()
        client.send(b'{"payload": {"type": "order", "id": "1", "data": %b}}' % data)
        error = (await client.report("1"))["error"]
        assert (error["code"], error["temporary"]) == ("badPayload", False)
        assert error["message"].startswith(text), error
        client.ask("order", "2", {"pizza": "x", "n": 10**30})
        handler.answer(await handler.get(), DONE)
        await client.good("2")


async def test_a_fault_is_told_in_a_bounded_text() -> None:
    async with stage(STRICT) as play:
        await attach(play, "order", request={"properties": {"a": False}, "additionalProperties": False})
        client = await play.login()
        client.ask("order", "1", {"x" * 5000: 1})
        assert len((await client.report("1"))["error"]["message"]) <= 300


async def test_without_a_schema_nothing_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with stage(STRICT) as play:
        control = await play.connect("control")
        handler, client = await attach(play, "order", description="anything"), await play.login()
        assert "nothing is refused" in caplog.text
        assert (await result(control, "describe"))[0]["validates"] is False
        client.ask("order", "1", 5)
        handler.answer(await handler.get(), DONE)
        await client.good("1")
        await attach(play, "order", request=False)
        assert (await result(control, "listHandlers"))[0]["validates"] is True
        client.ask("order", "2", 5)
        assert await client.bad("2") == "badPayload"


async def test_a_reload_switches_it() -> None:
    with as_before():
        async with reloading() as play:
            handler, client = await attach(play, "order", request=PIZZA), await play.login()
            route = play.runtime.exchange.dispatcher.types["order"]
            assert route.gate is None
            await play.reload(**STRICT)
            client.ask("order", "1", 5)
            assert await client.bad("1") == "badPayload"
            await play.reload()
            assert route.gate is None
            client.ask("order", "2", 5)
            handler.answer(await handler.get(), DONE)
            await client.good("2")


async def test_numbers_that_python_cannot_hold_are_no_samples() -> None:
    async with stage() as play:
        wire = await play.connect("handlers")
        wire.send(
            b'{"header": {"scope": "handler"}, "payload": {"type": "attach", "id": "a", "data": {"types": ["order"], '
            b'"describe": {"order": {"samples": [1e99999]}}}}}'
        )
        assert await wire.bad("a") == "badArguments"


async def test_a_costly_schema_is_told(caplog: pytest.LogCaptureFixture) -> None:
    costly = {"items": {"anyOf": [{"const": number} for number in range(2000)]}}
    async with stage(STRICT) as play:
        handler = await attach(play, "order", request=costly)
        t = await play.login("t")
        t.ask("order", "1", [1999] * 30_000)
        handler.answer(await handler.get(), DONE)
        await t.good("1")
    assert "type 'order': to validate a message of " in caplog.text


async def test_descriptions_are_bounded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async with stage() as play:
        text = "x" * 65_000
        many = {f"t{number}": {"description": text} for number in range(11)}
        wire = await play.connect("handlers")
        wire.send(attaching(*many, describe=many))
        assert await wire.bad("a") == "badArguments"
        monkeypatch.setattr(descriptions, "MAX_KEPT_BYTES", 100_000)
        first = await attach(play, "order", description=text)
        await attach(play, "other", description=text)
        assert "descriptions are left out" in caplog.text
        assert play.server.descriptions.of("other") == []
        await first.leave()
        await until(lambda: not play.server.descriptions.of("order"))
        await attach(play, "other", description=text)
        assert len(play.server.descriptions.of("other")) == 1
