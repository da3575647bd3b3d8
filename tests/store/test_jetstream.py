"""What the streams of a cluster do beside the contracts: several nodes at once, lifetimes, no room, no NATS."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest
from tests.nats import NatsServer, nats_cluster
from tests.ports import free_ports
from tests.waiting import until

from bester.bus.connection import Bus
from bester.bus.headers import header
from bester.bus.options import BusOptions
from bester.clock import SteadyClock
from bester.errors import BadConfiguration, Internal, MailboxFull, Overloaded, StorageFull
from bester.store.jetstream.accounts import JetStreamAccounts
from bester.store.jetstream.errors import SubjectTaken
from bester.store.jetstream.messages import JetStreamMessages
from bester.store.jetstream.names import Names
from bester.store.jetstream.partitions import Layout
from bester.store.jetstream.publishing import BatchLimits
from bester.store.jetstream.retrying import RetryTimes
from bester.store.jetstream.stream import Stream, StreamConfig
from bester.store.ports import Letter, MailboxBounds, Outgoing, Remembered

NOW = 1_000_000.0
WIDE = MailboxBounds(100_000, 100_000_000, 3600.0)
PLENTY = 10**9


async def connected(server: NatsServer) -> Bus:
    bus = Bus(BusOptions((server.url,)), "test")
    await bus.open()
    return bus


@pytest.fixture
async def buses(nats: NatsServer) -> AsyncIterator[list[Bus]]:
    """Two nodes' connections."""
    made = [await connected(nats) for _ in range(2)]
    yield made
    for bus in made:
        await bus.close()


@pytest.fixture
async def stores(buses: list[Bus], tmp_path: Path) -> AsyncIterator[list[JetStreamMessages]]:
    """The same store, as two nodes have it."""
    made = [JetStreamMessages(bus, Names(str(tmp_path))) for bus in buses]
    for store in made:
        await store.open()
    yield made
    for store in made:
        await store.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path / "nats")
    yield server
    server.kill()


def letter(id: str, data: bytes = b"{}") -> Letter:
    return Letter("alice", id, "text", data)


async def ids(store: JetStreamMessages) -> list[str]:
    return [one.delivery_id for one in await store.read_mailbox("alice", 0, 10_000, PLENTY, NOW)]


async def test_nodes_share_a_mailbox_and_a_repeat_of_another_node_is_there_once(
    stores: list[JetStreamMessages],
) -> None:
    one, other = stores
    assert await one.deposit([letter("a"), letter("b")], WIDE, NOW) == [None, None]
    assert await other.deposit([letter("a"), letter("c")], WIDE, NOW) == [None, None]
    assert await ids(one) == await ids(other) == ["a", "b", "c"]
    await one.remove_letters([("alice", "b")])
    assert await ids(other) == ["a", "c"]


async def test_a_letter_that_another_node_has_given_up_is_put_back(stores: list[JetStreamMessages]) -> None:
    one, other = stores
    assert await one.deposit([letter("a")], WIDE, NOW) == [None]
    await other.bury_letters([(letter("a"), 12)], "why", NOW)
    assert await ids(one) == []
    assert await one.deposit([letter("a")], WIDE, NOW) == [None]
    assert await ids(one) == await ids(other) == ["a"]


async def test_two_nodes_that_bring_the_same_at_the_same_time_put_it_once(stores: list[JetStreamMessages]) -> None:
    batches = [store.deposit([letter(f"d{n}") for n in range(50)], WIDE, NOW) for store in stores]
    assert await asyncio.gather(*batches) == [[None] * 50] * 2
    assert sorted(await ids(stores[0])) == sorted(f"d{n}" for n in range(50))


async def test_what_other_nodes_put_there_counts(buses: list[Bus], tmp_path: Path) -> None:
    hours = count(step=3600)
    one, other = [JetStreamMessages(bus, Names(str(tmp_path)), clock=lambda: float(next(hours))) for bus in buses]
    for store in (one, other):
        await store.open()
    bounds = MailboxBounds(3, 100, 3600.0)
    await one.deposit([letter("a"), letter("b")], bounds, NOW)
    results = await other.deposit([letter("c"), letter("d")], bounds, NOW)
    assert [type(result) for result in results] == [type(None), MailboxFull]
    await one.remove_letters([("alice", "a")])
    assert await other.deposit([letter("d", b"x" * 95)], bounds, NOW) == [None]
    (full,) = await one.deposit([letter("e", b"xx")], MailboxBounds(100, 100, 3600.0), NOW)
    assert isinstance(full, MailboxFull)


async def test_nats_removes_what_has_expired(stores: list[JetStreamMessages]) -> None:
    store = stores[0]
    await store.deposit([letter("short")], MailboxBounds(100, PLENTY, 1.0), NOW)
    await store.deposit([letter("long")], WIDE, NOW)
    await until(lambda: store.mailbox_size("alice"), lambda size: size.messages == 1)
    assert await ids(store) == ["long"]
    assert await store.expire_letters(NOW + 10**9, 100) == 0


async def test_all_nodes_count_by_the_clock_of_nats(
    stores: list[JetStreamMessages], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    now = []
    for store, by_s in zip(stores, (-5e8, 5e8), strict=True):
        with monkeypatch.context() as setting:
            setting.setattr(time, "time", lambda by_s=by_s: real() + by_s)
            clock = SteadyClock()
            await store.restore_clock(clock)
            now.append(clock.now() - real())
            assert clock.recent_jump() is None
    assert all(abs(one) < 5 for one in now)
    assert [
        record.getMessage().partition(" s off")[0] for record in caplog.records if record.name == "bester.clock"
    ] == [
        "this machine's system clock is -500000000",
        "this machine's system clock is +500000000",
    ]


async def test_many_letters_are_counted_without_their_data(stores: list[JetStreamMessages]) -> None:
    one, other = stores
    await one.deposit([letter(f"d{n}", b"x" * 10) for n in range(2500)], WIDE, NOW)
    size = await other.mailbox_size("alice")
    assert (size.messages, size.bytes) == (2500, 25_000)


async def test_the_outbox_and_the_memory_are_shared(stores: list[JetStreamMessages]) -> None:
    one, other = stores
    message = Outgoing("host:1", "m", "text", b"{}", 0)
    (position,) = await one.enqueue([message], NOW)
    assert await other.enqueue([message], NOW) == [position]
    record = Remembered(b"k" * 16, b"d" * 16, b"report")
    await one.remember([record], NOW)
    await other.remember([Remembered(b"k" * 16, b"d" * 16, b"another")], NOW)
    assert await other.recall(b"k" * 16) == record


async def test_of_two_nodes_that_make_one_account_one_does(buses: list[Bus], tmp_path: Path) -> None:
    stores = [JetStreamAccounts(bus, Names(str(tmp_path))) for bus in buses]
    for store in stores:
        await store.open()
    made = await asyncio.gather(
        *(store.add("alice", f"${n}") for n, store in enumerate(stores)), return_exceptions=True
    )
    assert sum(result is None for result in made) == 1
    changes = [store.set_roles("alice", (f"r{n}",)) for n, store in enumerate(stores) for _ in range(10)]
    await asyncio.gather(*changes)
    for store in stores:
        await store.close()


async def test_nats_that_goes_away_fails_at_once_and_works_again_when_it_is_back(
    own: NatsServer, tmp_path: Path
) -> None:
    bus = await connected(own)
    store = JetStreamMessages(bus, Names(str(tmp_path)))
    await store.open()
    assert await store.deposit([letter("a")], WIDE, NOW) == [None]
    own.kill()
    await until(lambda: not bus.up)
    for failing in (store.deposit([letter("b")], WIDE, NOW), store.has_mail("alice"), store.recall(b"k" * 16)):
        with pytest.raises(Overloaded):
            await failing
    own.start()
    await until(lambda: bus.up)
    assert await store.deposit([letter("b"), letter("c")], WIDE, NOW) == [None, None]
    assert await ids(store) == ["a", "b", "c"]
    await store.close()
    await bus.close()


async def test_what_was_under_way_when_nats_died_is_asked_again(own: NatsServer, tmp_path: Path) -> None:
    bus = await connected(own)
    store = JetStreamMessages(bus, Names(str(tmp_path)))
    await store.open()
    putting = asyncio.ensure_future(store.deposit([letter(f"d{n}") for n in range(100)], WIDE, NOW))
    own.kill()
    own.start()
    assert await putting == [None] * 100
    assert await ids(store) == [f"d{n}" for n in range(100)]
    await store.close()
    await bus.close()


async def test_no_room_is_told(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", max_store="1MB")
    bus = await connected(server)
    try:
        stream = Stream(bus, StreamConfig("FULL", "full.>"))
        await stream.open()
        results = await asyncio.gather(
            *(stream.publish(f"full.{number}", b"x" * 100_000) for number in range(50)), return_exceptions=True
        )
        assert isinstance(results[0], int)
        assert isinstance(results[-1], StorageFull)
    finally:
        await bus.close()
        server.kill()


async def test_more_replicas_than_servers_are_refused(buses: list[Bus]) -> None:
    with pytest.raises(BadConfiguration, match=r"cluster\.replicas"):
        await Stream(buses[0], StreamConfig("MANY", "many.>", replicas=3)).open()


async def test_a_nats_without_jetstream_is_told(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", jetstream=False)
    bus = await connected(server)
    try:
        with pytest.raises(BadConfiguration, match="is it on"):
            await Stream(bus, StreamConfig("NONE", "none.>"), RetryTimes(total_s=0.1)).open()
    finally:
        await bus.close()
        server.kill()


async def test_a_closed_stream_says_so(buses: list[Bus]) -> None:
    stream = Stream(buses[0], StreamConfig("CLOSED", "closed.>", refuse_new=True))
    await stream.open()
    await stream.publish("closed.a", b"")
    with pytest.raises(SubjectTaken):
        await stream.publish("closed.a", b"")
    stream.close()
    with pytest.raises(Internal, match="closed"):
        await stream.last_message("closed.a")


async def test_three_servers_keep_what_two_of_them_have(tmp_path: Path) -> None:
    servers = nats_cluster(tmp_path)
    bus = Bus(BusOptions(tuple(server.url for server in servers)), "test")
    await bus.open()
    store = JetStreamMessages(bus, Names("three"), Layout(replicas=3, partitions=2))
    accounts = JetStreamAccounts(bus, Names("three"), Layout(replicas=3, partitions=2))
    try:
        await store.open()
        await accounts.open()
        await accounts.add("alice", "$hash")
        assert await store.deposit([letter(f"d{n}") for n in range(50)], WIDE, NOW) == [None] * 50
        answer = await bus.request(
            f"$JS.API.STREAM.INFO.{accounts.accounts.stream_of(Names.token('alice')).name}", b"{}"
        )
        leader = json.loads(answer.data)["cluster"]["leader"]
        next(server for server in servers if server.folder.name == leader).kill()
        async with asyncio.timeout(3.5):  # an election takes 4 s at least: nobody who logs in waits for it
            assert await accounts.find("alice") is not None
            assert await store.has_mail("alice")
            assert not await store.has_mail("bob")
        await accounts.set_password("alice", "$other")
        changed = await accounts.find("alice")
        assert changed is not None
        assert changed.password_hash == "$other"
        assert await store.deposit([letter(f"e{n}") for n in range(50)], WIDE, NOW) == [None] * 50
        found = await ids(store)
        assert found[:50] == [f"d{n}" for n in range(50)]
        assert sorted(found[50:]) == sorted(f"e{n}" for n in range(50))  # those under way may have changed places
        assert await accounts.exists(["alice", "bob"]) == {"alice"}
    finally:
        await bus.close()
        for server in servers:
            server.kill()


@pytest.mark.parametrize(("first", "then"), [(1, 4), (4, 1), (4, 8), (8, 4)])
async def test_nodes_with_another_number_of_partitions_do_not_start(
    buses: list[Bus], tmp_path: Path, first: int, then: int
) -> None:
    names = Names(str(tmp_path))
    await JetStreamMessages(buses[0], names, Layout(partitions=first)).open()
    await JetStreamMessages(buses[1], names, Layout(partitions=first)).open()
    with pytest.raises(BadConfiguration, match=r"cluster\.partitions"):
        await JetStreamMessages(buses[1], names, Layout(partitions=then)).open()


async def test_partitions_share_the_accounts(buses: list[Bus], tmp_path: Path) -> None:
    store = JetStreamMessages(buses[0], Names(str(tmp_path)), Layout(partitions=4))
    await store.open()
    names = [f"user{number}" for number in range(40)]
    letters = [Letter(name, "d1", "text", b"{}") for name in names]
    assert await store.deposit(letters, WIDE, NOW) == [None] * 40
    there = [(await stream.state())["messages"] for stream in store.letters.streams]
    assert sum(there) == 40
    assert min(there) > 0
    assert [one.username for one in await store.mailbox_sizes(limit=100)] == sorted(names)


async def written(stream: Stream, subject: str) -> list[tuple[str, bool]]:
    """What a stream has, and whether each was written as one with others."""
    page = await stream.page(subject, 0, 1000)
    return [(one.data.decode(), header(one.headers, "Nats-Batch-Id") is not None) for one in page]


async def test_what_gathers_is_written_as_one_where_each_takes_long(buses: list[Bus], tmp_path: Path) -> None:
    names = Names(str(tmp_path))
    config = StreamConfig(names.stream("MAIL"), names.subject("mail", "*"), refuse_new=True, allow_ttl=True)
    stream = Stream(buses[0], config, limits=BatchLimits(cost_s=0.0, measured=10**9))
    await stream.open()
    stream.publisher.message_s = 1.0

    def put(name: str, **headers: str) -> asyncio.Future[int]:
        return stream.publish(names.subject("mail", name), name.encode(), headers)

    alone = put("first")
    await asyncio.sleep(0)  # it is on its way
    positions = await asyncio.gather(alone, *(put(str(number)) for number in range(20)))
    assert positions == list(range(positions[0], positions[0] + 21))
    everything = await written(stream, names.subject("mail", "*"))
    assert everything == [("first", False), *((str(number), True) for number in range(20))]

    # One of them is there already: the others are written all the same, each once, and in their order.
    results = await asyncio.gather(*(put(name) for name in ("a", "b", "7", "c")), return_exceptions=True)
    assert [type(result) for result in results] == [int, int, SubjectTaken, int]
    assert [name for name, _ in await written(stream, names.subject("mail", "*"))][21:] == ["a", "b", "c"]
    # The same one twice, and one whose lifetime is its own.
    repeated = await asyncio.gather(put("x"), put("x"), put("y", **{"Nats-TTL": "60s"}), return_exceptions=True)
    assert [type(result) for result in repeated] == [int, SubjectTaken, int]

    stream.close()
    stream = Stream(buses[0], config, limits=BatchLimits(cost_s=0.0, measured=10**9, bytes=3))
    await stream.open()
    stream.publisher.message_s = 1.0
    await asyncio.gather(*(put(f"p{number}") for number in range(5)))
    assert [name for name, _ in await written(stream, names.subject("mail", "*"))][26:] == [f"p{n}" for n in range(5)]
    stream.close()


async def test_what_is_written_as_one_fails_as_one_without_nats(own: NatsServer, tmp_path: Path) -> None:
    bus = await connected(own)
    stream = Stream(bus, StreamConfig("S", "s.*"))
    await stream.open()
    stream.publisher.message_s = 1.0
    own.kill()
    results = await asyncio.gather(*(stream.publish(f"s.{n}", b"") for n in range(100)), return_exceptions=True)
    assert all(isinstance(result, Overloaded) for result in results)
    await bus.close()


async def test_a_stream_waits_for_nats_servers_that_have_just_met(tmp_path: Path) -> None:
    ports = free_ports(3)
    routes = [[port, *(other for other in ports if other != port)] for port in ports]
    servers = [NatsServer(tmp_path / f"nats{number}", "", routes[number], wait=False) for number in (0, 1)]
    for server in servers:
        server.wait_ready()
    bus = Bus(BusOptions(tuple(server.url for server in servers)), "test")
    await bus.open()
    stream = Stream(bus, StreamConfig("MET", "met.>", replicas=3))
    try:
        other = json.dumps({"name": "OTHER", "subjects": ["other"], "num_replicas": 3}).encode()
        said = await bus.request("$JS.API.STREAM.CREATE.OTHER", other)
        assert b"no suitable peers" in said.data
        opening = asyncio.create_task(stream.open())
        servers.append(NatsServer(tmp_path / "nats2", "", routes[2], wait=False))
        await opening
    finally:
        await bus.close()
        for server in servers:
            server.kill()
