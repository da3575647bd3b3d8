"""The contract of leases: what only one node of a server does at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count

import pytest
from tests.nats import NatsServer
from tests.waiting import until

from bester.bus.connection import Bus
from bester.bus.options import BusOptions
from bester.errors import Internal
from bester.store.jetstream.leases import JetStreamLeases
from bester.store.jetstream.names import Names
from bester.store.ports import Lease, LeaseStore

LONG_S = 600
_numbers = count(1)


@pytest.fixture
async def bus(nats: NatsServer) -> AsyncIterator[Bus]:
    made = Bus(BusOptions((nats.url,)), "test")
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def store(bus: Bus) -> AsyncIterator[LeaseStore]:
    made = JetStreamLeases(bus, Names(f"leases{next(_numbers)}"))
    await made.open()
    yield made
    await made.close()
    await made.close()


async def taken(store: LeaseStore, name: str, node: str) -> Lease:
    """Waits until a node gets a lease that another one lets end."""
    return await until(lambda: store.take(name, node, LONG_S), lambda lease: lease.node == node)


async def test_the_first_node_has_the_lease_and_the_others_learn_who(store: LeaseStore) -> None:
    found = await asyncio.gather(*(store.take("b.example", f"n{number}", LONG_S) for number in range(20)))
    assert len({(lease.node, lease.version) for lease in found}) == 1
    assert (await store.take("c.example", "n99", LONG_S)).node == "n99"
    assert [(lease.name, lease.node) for lease in await store.list()] == [
        ("b.example", found[0].node),
        ("c.example", "n99"),
    ]


async def test_it_ends_by_itself_and_goes_on_as_long_as_it_is_renewed(store: LeaseStore) -> None:
    kept, left = await store.take("kept", "a", 1), await store.take("left", "a", 1)
    lease = await store.renew(kept, LONG_S)
    assert lease is not None
    assert lease.version > kept.version
    assert (await store.take("left", "b", LONG_S)) == left
    assert (await taken(store, "left", "b")).version > left.version
    assert (await store.take("kept", "b", LONG_S)) == lease
    assert await store.renew(left, LONG_S) is None


async def test_one_that_has_ended_is_not_renewed_before_it_is_taken(store: LeaseStore) -> None:
    lease = await store.take("x", "a", 1)
    await until(store.list, lambda leases: not leases)
    assert await store.renew(lease, LONG_S) is None
    assert await store.list() == []


async def test_it_is_given_back_by_who_has_it_alone(store: LeaseStore) -> None:
    first = await store.take("x", "a", LONG_S)
    await store.give_back(first)
    await store.give_back(first)
    second = await store.take("x", "b", LONG_S)
    assert second.node == "b"
    await store.give_back(first)
    assert await store.list() == [second]


async def test_an_answer_that_was_lost_does_no_harm(store: LeaseStore) -> None:
    first = await store.take("x", "a", LONG_S)
    again = await store.take("x", "a", LONG_S)
    assert (again.node, again.version > first.version) == ("a", True)
    renewed = await store.renew(first, LONG_S)  # of an older version, as if the newer one's answer had not come
    assert renewed is not None
    assert renewed.version > again.version
    assert await store.list() == [renewed]


async def test_they_are_there_for_another_connection(store: LeaseStore, bus: Bus, nats: NatsServer) -> None:
    other = Bus(BusOptions((nats.url,)), "other")
    await other.open()
    name = f"leases{next(_numbers)}"
    here, there = JetStreamLeases(bus, Names(name)), JetStreamLeases(other, Names(name))
    await here.open()
    await there.open()
    try:
        lease = await here.take("d:é", "a", LONG_S)
        assert await there.take("d:é", "b", LONG_S) == lease
        assert await there.list() == [lease]
        await here.close()
        with pytest.raises(Internal):
            await here.take("d:é", "a", LONG_S)
    finally:
        await there.close()
        await other.close()


async def test_many_are_listed(store: LeaseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bester.store.jetstream.leases.PAGE", 7)
    names = [f"{number:03}" for number in range(30)]
    await asyncio.gather(*(store.take(name, "a", LONG_S) for name in reversed(names)))
    assert [lease.name for lease in await store.list()] == names
