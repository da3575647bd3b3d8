"""The contract of every store for what is held for consent, over each driver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from bester.bus.connection import Bus
from bester.bus.options import BusOptions
from bester.store.held import OPERATORS, HeldBounds, HeldHead, HeldMessage, HeldStore
from bester.store.jetstream.messages import JetStreamMessages
from bester.store.jetstream.names import Names
from bester.store.messages import SqliteMessages
from bester.store.ports import MessageStore

NOW = 1_000_000.0
WIDE = HeldBounds(messages=1000, bytes=1_000_000, total=10_000)

Reopen = Callable[[], Awaitable[MessageStore]]


@pytest.fixture(params=["sqlite", "jetstream"])
async def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Reopen]:
    """Closes the store, if it is open, and opens it again."""
    stores: list[MessageStore] = []
    bus: Bus | None = None
    if request.param == "jetstream":
        bus = Bus(BusOptions((request.getfixturevalue("nats").url,)), "test")
        await bus.open()

    async def opened() -> MessageStore:
        for store in stores:
            await store.close()
        made: MessageStore
        made = SqliteMessages(tmp_path / "bester.db") if bus is None else JetStreamMessages(bus, Names(str(tmp_path)))
        await made.open()
        stores.append(made)
        return made

    yield opened
    for store in stores:
        await store.close()
    if bus is not None:
        await bus.close()


@pytest.fixture
async def store(reopen: Reopen) -> HeldStore:
    return await reopen()


def message(id: str, holder: str = "g", server: str | None = "s.example", data: bytes = b'{"a": 1}') -> HeldMessage:
    head = HeldHead("chat", f"tag of {id}", None, server, server is not None, 1, "guard", "00-trace")
    return HeldMessage(id, holder, head, data)


async def hold(store: HeldStore, *messages: HeldMessage, bounds: HeldBounds = WIDE, now: float = NOW) -> list[str]:
    return [str(one) for one in await store.hold(messages, bounds, now)]


async def held(store: HeldStore, holder: str = "g") -> list[str]:
    return [one.message.id for one in await store.list_held(holder, 0, 100)]


async def released(store: HeldStore) -> list[str]:
    return [one.message.id for one in await store.released(0, 100)]


async def positions(store: HeldStore, *ids: str, holder: str = "g") -> list[int]:
    return [one.position for one in await store.list_held(holder, 0, 100) if one.message.id in ids]


async def test_what_is_held_is_kept(reopen: Reopen) -> None:
    store = await reopen()
    assert await hold(store, message("a"), message("b", OPERATORS), message("c", data=b"null")) == ["held"] * 3
    store = await reopen()
    first, second = await store.list_held("g", 0, 100)
    assert (first.message, first.created) == (message("a"), NOW)
    assert second.message == message("c", data=b"null")
    assert await store.list_held("g", first.position, 100) == [second]
    assert await store.list_held("g", 0, 1) == [first]
    assert await held(store, OPERATORS) == ["b"]
    assert await held(store, "nobody") == []
    assert await store.count_held() == (1, 2)
    assert await released(store) == []


async def test_a_message_is_held_once(store: HeldStore) -> None:
    await hold(store, message("a"))
    assert await hold(store, message("a")) == ["held"]
    assert await held(store) == ["a"]


async def test_what_is_released_stays_until_it_is_handled(reopen: Reopen) -> None:
    store = await reopen()
    await hold(store, message("a"), message("b"), message("c", OPERATORS), message("d"))
    chosen = await positions(store, "d", "a")
    assert await store.release_held("h", chosen) == 0  # another's
    assert await store.release_held("g", [*chosen, 10**9]) == 2
    assert await store.release_held("g", chosen) == 0
    store = await reopen()
    assert await held(store) == ["b"]
    assert await released(store) == ["a", "d"]
    assert await store.count_held() == (1, 1)
    first, second = await store.released(0, 100)
    assert first.message == message("a")
    assert await store.released(first.position, 100) == [second]
    await store.remove_held([first.position, 10**9])
    assert await released(store) == ["d"]


async def test_what_is_refused_is_gone(store: HeldStore) -> None:
    await hold(store, message("a"), message("b"), message("c", server="t.example"))
    assert await store.refuse_held("h", await positions(store, "a")) == 0
    assert await store.refuse_held("g", [*await positions(store, "a"), 10**9]) == 1
    assert await held(store) == ["b", "c"]
    assert await store.refuse_sender("g", "server:s.example") == 1
    assert await held(store) == ["c"]
    assert await released(store) == []


async def test_a_holder_releases_all_of_a_sender(store: HeldStore) -> None:
    await hold(store, message("a"), message("b", "h"), message("c", server="t.example"), message("d"))
    assert await store.release_sender("g", "server:s.example", always=False, now=NOW) == 2
    assert await released(store) == ["a", "d"]
    assert await store.trusted("g") == []
    assert await hold(store, message("e")) == ["held"]
    assert await held(store) == ["c", "e"]


async def test_what_a_trusted_sender_sends_passes(reopen: Reopen) -> None:
    store = await reopen()
    await hold(store, message("a"))
    assert await store.release_sender("g", "server:s.example", always=True, now=NOW) == 1
    assert await hold(store, message("b")) == ["held"]  # behind the one that is released
    assert (await held(store), await released(store)) == ([], ["a", "b"])
    await store.remove_held([one.position for one in await store.released(0, 100)])
    store = await reopen()
    assert await hold(store, message("c"), message("d", "h"), message("e", server=None)) == ["passes", "held", "held"]
    assert await store.trusted("g") == ["server:s.example"]
    assert await store.release_sender("g", "user:t", always=True, now=NOW) == 0
    assert await store.trusted("g") == ["server:s.example", "user:t"]
    assert await store.refuse_sender("g", "server:s.example") == 0
    assert await store.trusted("g") == ["user:t"]
    assert await hold(store, message("f")) == ["held"]


async def test_what_is_held_is_bounded(store: HeldStore) -> None:
    few = HeldBounds(messages=2, bytes=1000, total=3)
    assert await hold(store, message("a"), message("b"), message("c"), bounds=few) == ["held", "held", "full"]
    assert await hold(store, message("d", "h"), message("e", "h"), bounds=few) == ["held", "full"]
    await store.release_held("g", await positions(store, "a"))
    assert await hold(store, message("f"), bounds=few) == ["full"]  # as long as it is not handled
    small = HeldBounds(messages=100, bytes=20, total=100)
    assert await hold(store, message("x", "i"), message("y", "i"), bounds=small) == ["held", "held"]
    assert await hold(store, message("z", "i"), bounds=small) == ["full"]


async def test_what_is_held_too_long_is_removed(store: HeldStore) -> None:
    await hold(store, message("a"), message("b"), message("c"), now=NOW)
    await hold(store, message("d"), now=NOW + 10)
    await store.release_held("g", await positions(store, "b"))
    assert await store.expire_held(NOW, 10) == 0
    assert await store.expire_held(NOW + 5, 1) == 1
    assert await store.expire_held(NOW + 5, 10) == 1
    assert (await held(store), await released(store)) == (["d"], ["b"])


async def test_what_is_held_goes_with_its_account(store: HeldStore) -> None:
    await hold(store, message("a"), message("b", "h"))
    await store.release_sender("g", "server:s.example", always=True, now=NOW)
    assert await store.clear_held("g") == 1
    assert (await released(store), await store.trusted("g"), await held(store, "h")) == ([], [], ["b"])


async def test_nobody_inherits_the_trust_in_an_account(store: HeldStore) -> None:
    for sender in ("user:t", "server:s.example"):
        await store.release_sender("g", sender, always=True, now=NOW)
    await store.clear_held("t")
    assert await store.trusted("g") == ["server:s.example"]


def test_who_a_sender_is() -> None:
    head = HeldHead("chat", "", "k.example", "j.example", True, 0, "guard")
    assert head.sender == "user:k.example"
    assert message("a", server=None).head.sender == ""
