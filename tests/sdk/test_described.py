"""What handlers say of their types, from functions to the command ``describe``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Struct
from pydantic import BaseModel, Field
from tests.server.peers import result, stage

from bester import Handler, Reply, Request, SendClients, Sender
from bester.handler.described import descriptions, schema_of
from bester.protocol.descriptions import MAX_BYTES


class Order(Struct, forbid_unknown_fields=True):
    """What a guest wants."""

    pizza: Literal["Funghi", "Margherita"]
    count: Annotated[int, Meta(ge=1, description="How many.")] = 1


class Receipt(BaseModel):
    number: int = Field(ge=0)


class Menu(BaseModel):
    receipts: list[Receipt]


@dataclass
class Plain:
    x: int


def a_handler(address: str | None = None) -> Handler:
    handler = Handler(address)

    @handler.on("order", version="1.2", samples=[Order("Funghi", 2), {"pizza": "Margherita"}])
    async def order(order: Order, sender: Sender) -> Receipt | SendClients | None:
        """Orders a pizza.

        It takes a while.
        """
        return Receipt(number=order.count)

    @handler.on("count")
    async def count(upto: int) -> AsyncIterator[Plain]:
        for x in range(upto):
            yield Plain(x)

    @handler.on("menu", samples=[Receipt(number=1)])
    def menu(menu: Menu) -> list[int]:
        return []

    @handler.on("raw")
    def raw(request: Request) -> Reply:
        return Reply(request.raw)

    @handler.on("documented")
    def documented(request: Request) -> Reply:
        """Says it again."""
        return Reply(request.raw)

    return handler


async def test_functions_describe_their_types() -> None:
    async with stage() as play:
        handler = a_handler(str(play.running.handlers_path))
        async with handler:
            rows = {row["type"]: row for row in await result(await play.connect("control"), "describe")}
    order = rows["order"]
    assert order["description"] == "Orders a pizza.\n\nIt takes a while."
    assert (order["version"], order["parts"]) == ("1.2", None)
    assert order["samples"] == [{"pizza": "Funghi", "count": 2}, {"pizza": "Margherita"}]
    definition = order["request"]["$defs"]["Order"]
    assert definition["properties"]["count"] == {
        "type": "integer",
        "minimum": 1,
        "description": "How many.",
        "default": 1,
    }
    assert (definition["required"], definition["description"]) == (["pizza"], "What a guest wants.")
    assert order["answer"]["properties"]["number"]["minimum"] == 0
    assert rows["count"]["request"] == {"type": "integer"}
    assert rows["count"]["answer"] is None
    assert rows["count"]["parts"]["$defs"]["Plain"].keys() == {"title", "type", "properties", "required"}
    assert rows["menu"]["request"]["properties"]["receipts"]["items"] == {"$ref": "#/$defs/Receipt"}
    assert rows["menu"]["samples"] == [{"number": 1}]
    assert [rows["raw"][name] for name in ("description", "request", "answer")] == [None, None, None]
    assert rows["documented"]["description"] == "Says it again."


def test_only_what_is_worth_it_is_said() -> None:
    assert list(descriptions(a_handler().registry)) == ["order", "count", "menu", "documented"]


@pytest.mark.parametrize("kind", [Any, object, None, complex])
def test_annotations_without_a_schema(kind: Any) -> None:
    assert schema_of(kind) is None


def test_what_is_too_large_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    handler = Handler()
    large = Literal.__getitem__(tuple(f"{number:0100}" for number in range(1000)))

    def choose(data: int) -> int:
        """Chooses."""
        return data

    choose.__annotations__ = {"data": large, "return": "int"}
    handler.on("choose", samples=["x" * MAX_BYTES])(choose)
    said = descriptions(handler.registry)["choose"]
    assert (said.description, said.request, said.samples) == ("Chooses.", None, [])
    assert "without its samples" in caplog.text
    assert "without its request" in caplog.text
    many = Handler()
    for number in range(12):
        many.on(f"t{number}", samples=["x" * 60_000])(lambda message: None)
    assert len(descriptions(many.registry)) == 8


@pytest.mark.parametrize(
    ("more", "kind"),
    [({"samples": [1] * 17}, ValueError), ({"version": "1" * 129}, ValueError), ({"samples": [asyncio]}, TypeError)],
)
def test_what_cannot_be_said_is_told_at_once(more: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        Handler().on("t", **more)(lambda message: None)
