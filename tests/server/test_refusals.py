"""Handlers that refuse messages, and say why (docs/protocol.md, section 3.2)."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import msgspec
import pydantic
import pytest
from tests.server.linked import QUICK, Sender, bad, good, grant, linked
from tests.server.peers import BAD, Wire, classic, result, stage
from tests.server.test_links import open_link
from tests.waiting import PATIENCE_S

from bester import Client, Handler, HandlerError, ReceivedMessage, Refuse, Refused, Request, Response
from bester.protocol.framing import frame
from bester.protocol.refusals import MAX_REASON, MAX_TEXT

SOLD_OUT = {"code": "shop.soldOut", "message": "sold out until noon", "temporary": True}
TOLD = {"code": "handlerError", "reason": "shop.soldOut", "message": "sold out until noon", "temporary": True}
PLAIN = {"code": "handlerError", "message": "the handler answered with a status other than 0", "temporary": False}


async def refuse(handler: Wire, error: Any = SOLD_OUT) -> None:
    """Refuses the next request."""
    request = await handler.get()
    handler.send({"header": {"id": request["header"]["id"], "status": "1", "error": error}})


ERRORS: dict[str, tuple[Any, dict[str, object]]] = {
    "whole": (SOLD_OUT, TOLD),
    "a text alone": ({"message": "no"}, PLAIN | {"message": "no"}),
    "a code alone": ({"code": "no"}, PLAIN | {"reason": "no"}),
    "only temporary": ({"temporary": True}, PLAIN | {"temporary": True}),
    "more than that": (SOLD_OUT | {"trace": [1]}, TOLD),
    "nothing": (None, PLAIN),
    "a text": ("no", PLAIN),
    "a list": ([SOLD_OUT], PLAIN),
    "a code with a space": ({"code": "sold out"}, PLAIN),
    "a code in another script": ({"code": "ausverkäuft"}, PLAIN),
    "an empty code": ({"code": ""}, PLAIN),
    "a number as code": ({"code": 5, "message": "no"}, PLAIN | {"message": "no"}),
    "the longest code": ({"code": "x" * MAX_REASON}, PLAIN | {"reason": "x" * MAX_REASON}),
    "a longer code": ({"code": "x" * (MAX_REASON + 1)}, PLAIN),
    "a code of the server's": ({"code": "unknownAccount"}, PLAIN | {"reason": "unknownAccount"}),
    "a number as text": ({"message": 5}, PLAIN),
    "an empty text": ({"message": ""}, PLAIN),
    "a long text": ({"message": "x" * 20_000}, PLAIN | {"message": "x" * MAX_TEXT}),
    "what a terminal acts on": ({"message": "a\x1b[2J\nb\u202e"}, PLAIN | {"message": "a [2J b "}),
    "a truth that is none": ({"temporary": 1}, PLAIN),
}


@pytest.mark.parametrize("case", ERRORS)
async def test_what_the_sender_is_told(case: str) -> None:
    error, told = ERRORS[case]
    async with stage(classic("old")) as play:
        attached, listening, wire = await play.attach("chat"), await play.listen("old"), await play.login()
        wire.ask("chat", "1")
        await refuse(attached, error)
        assert (await wire.report("1"))["error"] == told
        wire.ask("old", "2")
        there = await listening.accept()
        await there.get()
        there.send({"header": {"status": 1, "error": error}, "data": None})
        assert (await wire.report("2"))["error"] == told
        types = {one["type"]: one for one in await result(await play.connect("control"), "listHandlers")}
        assert types["chat"]["lastError"] == types["old"]["lastError"]


async def test_an_error_with_the_status_of_success_is_passed_over() -> None:
    async with stage() as play:
        handler, wire = await play.attach("chat"), await play.login()
        wire.ask("chat", "1")
        id = (await handler.get())["header"]["id"]
        handler.send({"header": {"id": id, "status": "0", "command": {"type": "done"}, "error": SOLD_OUT}})
        await wire.good("1")


async def test_the_last_of_a_chain_is_heard_by_whoever_began_it() -> None:
    async with stage() as play:
        order, shop, wire = await play.attach("order"), await play.attach("shop"), await play.login()
        wire.ask("order", "1")
        order.answer(await order.get(), {"type": "sendHandler", "data": "shop"})
        await refuse(shop)
        assert (await wire.report("1"))["error"] == TOLD
        command = {"type": "sendHandler", "data": "shop"}
        order.send({"header": {"messageType": "push", "id": "p", "command": command}, "payload": {"data": 1}})
        await refuse(shop)
        assert (await order.report("p"))["error"] == TOLD


async def test_a_temporary_refusal_of_a_once_message_is_not_remembered_and_another_one_is() -> None:
    async with stage() as play:
        handler, wire = await play.attach("chat"), await play.login()
        message = {"header": {"once": True}, "payload": {"type": "chat", "id": "1", "data": 1}}
        lasting = {"code": "shop.closed", "message": "for ever"}
        for error in (SOLD_OUT, lasting):
            wire.send(message)
            await refuse(handler, error)
            assert (await wire.report("1"))["error"]["reason"] == error["code"]
        wire.send(message)
        assert (await wire.report("1"))["error"]["reason"] == "shop.closed", "it is not asked again"


async def test_another_server_on_a_link_is_told_and_quotes_it() -> None:
    async with stage() as play:
        handler, link = await play.attach("chat"), await open_link(play)
        link.send(linked("chat", "1"))
        await refuse(handler)
        assert (await link.report("1"))["error"] == TOLD


async def test_what_another_server_s_handler_says_is_quoted_and_tried_again_where_it_is_temporary() -> None:
    async with stage({"federation": QUICK}) as play:
        other = await play.listen("other")
        sender = await Sender.on(play)
        await sender.send("x", transient=True)
        there = await grant(other)
        there.send({"header": BAD, "payload": {"id": (await there.get())["payload"]["id"], "error": TOLD}})
        [one] = (await sender.wire.report())["results"]
        quoted = "the other server reported handlerError: shop.soldOut: sold out until noon"
        assert one["error"] == {"code": "serverRefused", "message": quoted, "temporary": False}
        await sender.send("y")
        message = await there.get()
        bad(there, message, "handlerError", temporary=True)
        assert (await there.get())["payload"]["id"] == message["payload"]["id"]
        good(there, message)
        assert await sender.outcomes(1) in ([("y", "sent")], [("y", "queued")])


async def test_operators_see_it() -> None:
    async with stage() as play:
        handler, wire, control = await play.attach("chat"), await play.login(), await play.connect("control")
        wire.ask("chat", "1")
        await refuse(handler)
        await wire.bad("1")
        [receipt] = (await result(control, "trace"))["receipts"]
        assert (receipt["outcome"], receipt["message"]) == ("handlerError", "shop.soldOut: sold out until noon")
        [cause] = (await result(control, "why"))["causes"]
        assert cause["last"]["message"] == "shop.soldOut: sold out until noon"
        [type] = await result(control, "listHandlers")
        assert type["lastError"] == "handlerError: shop.soldOut: sold out until noon"


# -- the library -------------------------------------------------------------------------------------------------------


class Size(msgspec.Struct):
    cm: int


class Order(msgspec.Struct):
    dish: str
    sizes: list[Size] = []


class Width(pydantic.BaseModel):
    cm: int


class Dish(pydantic.BaseModel):
    name: str
    size: Width


BAD_ORDER = "Expected `int`, got `str` - at `$.sizes[1].cm`"
BAD_DISH = "Input should be a valid integer, unable to parse string as an integer - at `$.size.cm`"
SECRET = "secret"


def refuses(message: Request) -> Response:
    match message.data:
        case "why":
            raise Refuse("sold out until noon", code="shop.soldOut", temporary=True)
        case "text":
            raise HandlerError("no")
        case "nothing":
            raise Refuse
        case "long":
            raise Refuse("x" * 3_000_000)
        case "lone surrogate":
            raise Refuse("a\ud800b")
        case "code":
            raise Refuse("no", code="sold out")
        case "bug":
            raise ValueError(SECRET)
        case "other":
            msgspec.json.decode(b'"secret"', type=int)
        case Decimal():
            return None
        case {"dish": _}:
            message.read(Order)
        case {"name": _}:
            message.read(Dish)
        case _:
            message.read(list[Dish])
    return None


RAISED: dict[str, tuple[Any, dict[str, object]]] = {
    "why": ("why", TOLD),
    "text": ("text", PLAIN | {"message": "no"}),
    "nothing": ("nothing", PLAIN),
    "long": ("long", PLAIN | {"message": "x" * MAX_TEXT}),
    "what JSON does not take": ("lone surrogate", PLAIN | {"message": "a b"}),
    "no code": ("code", PLAIN),
    "bug": ("bug", PLAIN),
    "another decoder": ("other", PLAIN),
    "a struct": (
        {"dish": "pizza", "sizes": [{"cm": 30}, {"cm": "large"}]},
        PLAIN | {"reason": "badPayload", "message": BAD_ORDER},
    ),
    "a model": ({"name": "pizza", "size": {"cm": "x"}}, PLAIN | {"reason": "badPayload", "message": BAD_DISH}),
    "models": (
        [{"name": "pizza", "size": {"cm": 1}}, {"name": "pizza"}],
        PLAIN | {"reason": "badPayload", "message": "Field required - at `$.size` - at `$[1]`"},
    ),
}


@pytest.mark.parametrize("form", ["attached", "classic"])
async def test_what_a_handler_of_the_library_raises(form: str) -> None:
    async with stage(classic("chat")) as play:
        path = play.folder / "chat"
        handler = Handler(classic=path) if form == "classic" else Handler(play.running.handlers_path)
        handler.on("chat")(refuses)
        async with handler, Client(play.running.url("t")) as client:
            for case, (data, told) in RAISED.items():
                report = await client.send("chat", data, timeout=PATIENCE_S)
                assert report.error is not None, case
                assert report.error.as_json() == told, case
                assert SECRET not in repr(report)
            with pytest.raises(Refused, match=r"sold out until noon \(handlerError: shop.soldOut\)") as refused:
                await client.ask("chat", "why")
            assert (refused.value.code, refused.value.reason, refused.value.temporary) == (
                "handlerError",
                "shop.soldOut",
                True,
            )
            assert (await client.send("chat", [{"name": "pizza", "size": {"cm": 1}}])).good
            assert (await client.send("chat", msgspec.Raw(b"1e400"))).good
            report = await client.send("chat", msgspec.Raw(b'{"sizes": [1e9999999999999999999]}'))
            assert report.error is not None
            assert (report.error.reason, report.error.temporary) == ("badPayload", False)
            assert report.error.message.startswith("data.sizes[0] is a number that Python cannot hold")


def test_what_a_client_reads() -> None:
    message = ReceivedMessage("chat", raw=msgspec.Raw(b'{"name": "pizza", "size": {"cm": 30}}'))
    assert message.read(Dish) == Dish(name="pizza", size=Width(cm=30))
    for kind in (Width, list[Width], Size):
        with pytest.raises(msgspec.ValidationError) as error:
            message.read(kind)
        assert not isinstance(error.value, Refuse)


async def test_a_classic_handler_s_request_that_is_no_json() -> None:
    async with stage(classic("chat")) as play:
        handler = Handler(classic=play.folder / "chat")
        handler.on("chat")(refuses)
        async with handler:
            wire = play.keep(Wire(*await asyncio.open_unix_connection(play.folder / "chat")))
            wire.writer.write(frame(b"{"))
            answer = json.loads(await wire.body())
            assert answer["header"]["error"]["code"] == "badPayload"
