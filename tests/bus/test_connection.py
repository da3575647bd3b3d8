"""The connection to a real NATS server: asking, hearing, losing it, and having it back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.nats import NatsServer
from tests.ports import free_ports
from tests.waiting import PATIENCE_S, until

from bester.bus.connection import Bus
from bester.bus.errors import BusDown, BusLost, NoResponders
from bester.bus.headers import header, header_block
from bester.bus.options import BusOptions, BusTimes
from bester.bus.requests import Answer
from bester.errors import BadConfiguration


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    yield server
    server.kill()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path / "nats")
    yield server
    server.kill()


@pytest.fixture
async def bus(shared: NatsServer) -> AsyncIterator[Bus]:
    made = Bus(BusOptions((shared.url,)), "test")
    await made.open()
    yield made
    await made.close()
    await made.close()


def answering(bus: Bus, subject: str, more: bytes = b"") -> None:
    bus.subscribe(subject, lambda _, reply, headers, data: bus.publish(reply, more + data, headers=headers))


async def changed(bus: Bus, wanted: bool) -> None:
    """Waits until the connection is up, or down."""
    await until(lambda: bus.up is wanted)


async def test_many_requests_under_way_have_their_own_answers(bus: Bus) -> None:
    answering(bus, "echo", b"<")
    futures = [bus.request("echo", str(number).encode()) for number in range(500)]
    assert [answer.data for answer in await asyncio.gather(*futures)] == [b"<%d" % n for n in range(500)]


async def test_headers_go_and_come(bus: Bus) -> None:
    answering(bus, "headers")
    answer = await bus.request("headers", b"x", header_block({"Nats-Expected": "5", "Other": "a: b"}))
    assert answer == Answer(b"NATS/1.0\r\nNats-Expected: 5\r\nOther: a: b\r\n\r\n", b"x")
    assert header(answer.headers, "Other") == "a: b"
    assert header(answer.headers, "Missing") is None


async def test_where_nobody_listens_is_known_at_once(bus: Bus) -> None:
    with pytest.raises(NoResponders):
        await bus.request("nobody", b"")
    answering(bus, "somebody")
    listening = bus.subscribe("once", lambda _, reply, headers, data: bus.publish(reply, b"once"))
    assert (await bus.request("once", b"")).data == b"once"
    bus.unsubscribe(listening)
    bus.unsubscribe(listening)
    with pytest.raises(NoResponders):
        await bus.request("once", b"")


async def test_of_a_queue_group_one_is_asked(bus: Bus, shared: NatsServer) -> None:
    other = Bus(BusOptions((shared.url,)), "other")
    await other.open()
    heard: list[bytes] = []
    done = asyncio.Event()

    def hear(subject: str, reply: str, headers: bytes, data: bytes) -> None:
        heard.append(data)
        if data == b"end":
            done.set()

    for one in (bus, other):
        one.subscribe("group", hear, "g")
    for one in (bus, other):
        with pytest.raises(NoResponders):
            await one.request("nobody", b"")  # now the server knows that it listens
    for number in range(100):
        bus.publish("group", b"%d" % number)
    bus.publish("group", b"end")
    async with asyncio.timeout(PATIENCE_S):
        await done.wait()
    await other.close()
    assert len(heard) == len(set(heard))


async def test_no_answer_in_time_means_that_nobody_knows(bus: Bus) -> None:
    bus.subscribe("silent", lambda subject, reply, headers, data: None)
    with pytest.raises(BusLost):
        await bus.request("silent", b"", timeout_s=0.01)


async def test_what_is_under_way_when_it_is_lost_has_no_outcome_and_new_things_are_refused(own: NatsServer) -> None:
    bus = Bus(BusOptions((own.url,)), "test")
    await bus.open()
    answering(bus, "echo")
    bus.subscribe("silent", lambda subject, reply, headers, data: None)
    waiting = bus.request("silent", b"", timeout_s=60.0)
    assert (await bus.request("echo", b"1")).data == b"1"
    own.kill()
    with pytest.raises(BusLost):
        await waiting
    assert not bus.up
    with pytest.raises(BusDown):
        bus.publish("echo", b"")
    with pytest.raises(BusDown):
        bus.request("echo", b"")
    answering(bus, "later")  # heard from when it is back
    own.start()
    await changed(bus, True)
    assert (await bus.request("echo", b"2")).data == b"2"
    assert (await bus.request("later", b"3")).data == b"3"
    assert bus.losses == 1
    await bus.close()


async def test_a_server_that_hangs_is_given_up(own: NatsServer) -> None:
    bus = Bus(BusOptions((own.url,), times=BusTimes(ping_s=0.05)), "test")
    await bus.open()
    own.pause()
    await changed(bus, False)
    own.go_on()
    await changed(bus, True)
    await bus.close()


async def test_a_large_message_goes_whole(bus: Bus) -> None:
    assert bus.max_payload == 4 * 1024 * 1024
    answering(bus, "large")
    data = bytes(range(256)) * 8192
    assert (await bus.request("large", data)).data == data


async def test_ten_thousand_subjects_are_light(bus: Bus) -> None:
    calls: list[str] = []
    listening = [bus.subscribe(f"account.{n}", lambda subject, *_: calls.append(subject)) for n in range(10_000)]
    bus.publish("account.7777", b"")
    with pytest.raises(NoResponders):
        await bus.request("account", b"")
    assert calls == ["account.7777"]
    for one in listening:
        bus.unsubscribe(one)


async def test_a_server_that_is_not_there_is_told_at_the_start() -> None:
    pytest.importorskip("nats")
    (port,) = free_ports(1)
    bus = Bus(BusOptions((f"nats://me:secret@127.0.0.1:{port}",), times=BusTimes(connect_s=0.3)), "test")
    with pytest.raises(
        BadConfiguration, match=rf"nats://127.0.0.1:{port} cannot be used.*check cluster\.nats"
    ) as error:
        await bus.open()
    assert "secret" not in str(error.value)
    await bus.close()


async def test_a_node_that_may_not_enter_is_told(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", 'authorization: {user: "bester", password: "sesame"}')
    try:
        for wrong in (BusOptions((server.url,)), BusOptions((server.url,), user="bester", password="x")):
            bus = Bus(wrong, "test")
            with pytest.raises(BadConfiguration, match=r"check cluster\.user"):
                await bus.open()
        bus = Bus(BusOptions((server.url,), user="bester", password="sesame"), "test")
        await bus.open()
        answering(bus, "echo")
        assert (await bus.request("echo", b"in")).data == b"in"
        await bus.close()
    finally:
        server.kill()
