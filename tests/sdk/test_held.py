"""What a client asks of a server besides messages: what is held for its account, and what handlers say of types."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from bester import Handler, Hold, Refused, Request, TypeDescription
from bester.sync import Client
from bester.testing import LocalServer


class Order(msgspec.Struct):
    dish: str


@pytest.fixture(scope="module")
def place() -> Iterator[LocalServer]:
    config = {
        "handlers": {
            "typeMap": {"order": {"validate": True}},
            "guards": [{"guard": "watch", "for": {"types": ["chat"]}, "onFailure": "reject"}],
        }
    }
    handler = Handler()
    taken: list[object] = []

    @handler.on("watch")
    def watch() -> Hold:
        return Hold("g")

    @handler.on("chat")
    def chat(message: Request) -> None:
        taken.append(message.data)

    @handler.on("taken")
    def tell() -> list[object]:
        return taken

    @handler.on("order", version="2", samples=[{"dish": "pizza"}])
    def order(order: Order) -> Order:
        """Orders a dish."""
        return order

    for number in range(120):
        handler.on(f"z{number:03}")(tell)
    with LocalServer(config) as place:
        place.attach(handler)
        yield place


def test_the_blocking_client_decides_about_what_is_held(place: LocalServer) -> None:
    t, g = place.client("t"), place.client("g")
    for text in ("one", "two", "three"):
        assert [one.status for one in t.send("chat", text).results] == ["held"]
    found = g.held.list()["held"]
    assert [(one["data"], one["from"]["user"]) for one in found] == [('"one"', "t"), ('"two"', "t"), ('"three"', "t")]
    assert g.held.list(after=found[0]["id"], limit=1)["held"] == found[1:2]
    assert g.held.refuse([found[1]["id"]]) == 1
    assert g.held.release(user="t", always=True) == 2
    assert g.held.list() == {"held": [], "trusted": [{"user": "t"}]}
    with pytest.raises(Refused, match="badArguments"):
        g.held.release()


def test_a_client_reads_what_handlers_say(place: LocalServer) -> None:
    t: Client = place.client("t")
    [order] = t.describe("order")
    assert isinstance(order, TypeDescription)
    assert (order.type, order.description, order.version, order.validates) == ("order", "Orders a dish.", "2", True)
    assert order.samples == [{"dish": "pizza"}]
    assert isinstance(order.request, dict)
    assert order.request["$defs"]["Order"]["required"] == ["dish"]
    every = t.describe()
    assert [one.type for one in every] == sorted(["chat", "order", "taken", "watch", *(f"z{n:03}" for n in range(120))])
    with pytest.raises(Refused, match="nobody serves this type"):
        t.describe("nothing")
