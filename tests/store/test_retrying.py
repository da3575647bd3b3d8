"""Requests to a stream's servers while these do not answer, or say that they cannot."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.nats import NatsServer
from tests.waiting import PATIENCE_S, until

from bester.bus.connection import Bus
from bester.bus.options import BusOptions
from bester.errors import Internal, Overloaded
from bester.store.jetstream.errors import WrongLastSequence
from bester.store.jetstream.retrying import Retrier, RetryTimes
from bester.store.jetstream.stream import StoredMessage, Stream, StreamConfig

AWAY = {"error": {"code": 503, "err_code": 10008, "description": "JetStream system temporarily unavailable"}}
NONE = {"error": {"code": 404, "err_code": 10037, "description": "no message found"}}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A NATS server without JetStream: a test says what that answers."""
    server = NatsServer(tmp_path_factory.mktemp("plain"), jetstream=False)
    yield server
    server.kill()


@pytest.fixture
async def bus(plain: NatsServer) -> AsyncIterator[Bus]:
    made = Bus(BusOptions((plain.url,)), "test")
    await made.open()
    yield made
    await made.close()


def answering(bus: Bus, subject: str, answer: Callable[[bytes], bytes | None]) -> None:
    def heard(_: str, reply: str, headers: bytes, data: bytes) -> None:
        said = answer(data)
        if said is not None:
            bus.publish(reply, said)

    bus.subscribe(subject, heard)


def in_turn(bus: Bus, subject: str, *answers: Any) -> list[bytes]:
    """Answers one after the other; None is silence. Returns what is asked."""
    asked: list[bytes] = []
    left = list(answers)

    def next_one(data: bytes) -> bytes | None:
        asked.append(data)
        return json.dumps(one).encode() if (one := left.pop(0)) is not None else None

    answering(bus, subject, next_one)
    return asked


def page_of(bus: Bus, stream: str, *data: bytes) -> None:
    """Answers what is asked of any replica."""

    def heard(_: str, reply: str, headers: bytes, asked: bytes) -> None:
        for number, one in enumerate(data, 1):
            block = f"NATS/1.0\r\nNats-Subject: {stream}.a\r\nNats-Sequence: {number}\r\n\r\n"
            bus.publish(reply, one, headers=block.encode())
        bus.publish(reply, b"", headers=b"NATS/1.0 204 EOB\r\n\r\n" if data else b"NATS/1.0 404 Not Found\r\n\r\n")

    bus.subscribe(f"$JS.API.DIRECT.GET.{stream}", heard)


def message(subject: str, position: int) -> dict[str, Any]:
    return {"message": {"subject": subject, "seq": position, "data": "eA=="}}


async def test_one_caller_probes_until_there_is_an_answer(bus: Bus) -> None:
    asked: list[int] = []
    retrier = Retrier(bus, "it")

    def ask(number: int) -> Callable[[float], Any]:
        async def it(timeout_s: float) -> bytes:
            asked.append(number)
            return (await bus.request("late", b"%d" % number, timeout_s=timeout_s)).data

        return it

    waiting = [asyncio.ensure_future(retrier.repeat(ask(number))) for number in range(20)]
    await until(lambda: asked.count(0) >= 3)
    assert asked[:20] == list(range(20))
    assert set(asked[20:]) == {0}  # the others leave it to the first
    waiting.append(asyncio.ensure_future(retrier.repeat(ask(20))))
    with pytest.raises(Overloaded):
        await retrier.try_once(ask(21))
    assert 21 not in asked
    answering(bus, "late", lambda data: data)
    async with asyncio.timeout(PATIENCE_S):
        assert await asyncio.gather(*waiting) == [b"%d" % number for number in range(21)]
    assert asked.index(20) > asked.index(0, 22)


async def test_a_late_answer_to_an_earlier_question_counts(bus: Bus) -> None:
    replies: list[str] = []
    retrier = Retrier(bus, "it", RetryTimes(answer_s=0.05))

    def heard(_: str, reply: str, headers: bytes, data: bytes) -> None:
        replies.append(reply)
        if len(replies) == 4:
            bus.publish(replies[1], b"second")

    bus.subscribe("slow", heard)

    async def ask(timeout_s: float) -> bytes:
        return (await bus.request("slow", b"", timeout_s=timeout_s)).data

    assert await retrier.repeat(ask, 0.02) == b"second"


async def test_it_is_given_up_at_last_and_when_it_is_closed(bus: Bus) -> None:
    async def ask(timeout_s: float) -> bytes:
        return (await bus.request("nobody", b"", timeout_s=timeout_s)).data

    retrier = Retrier(bus, "it", RetryTimes(total_s=0.1))
    results = await asyncio.gather(*(retrier.repeat(ask, 0.02) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [Overloaded] * 3
    with pytest.raises(Overloaded):
        await retrier.try_once(ask)
    assert retrier.unresponsive
    retrier = Retrier(bus, "it", RetryTimes(total_s=60.0))
    waiting = [asyncio.ensure_future(retrier.repeat(ask, 0.02)) for _ in range(3)]
    await asyncio.sleep(0)
    retrier.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [Internal] * 3


async def test_servers_away_for_longer_than_an_election_are_not_waited_for(bus: Bus) -> None:
    asked = 0

    async def ask(timeout_s: float) -> bytes:
        nonlocal asked
        asked += 1
        return (await bus.request("late", b"", timeout_s=timeout_s)).data

    retrier = Retrier(bus, "it", RetryTimes(election_s=0.05))
    probe = asyncio.ensure_future(retrier.repeat(ask, 0.02))
    await until(lambda: asked >= 8)
    async with asyncio.timeout(1.0):
        with pytest.raises(Overloaded):
            await retrier.repeat(ask, 0.02)
    bus.subscribe("late", lambda subject, reply, headers, data: bus.publish(reply, b"here"))
    async with asyncio.timeout(PATIENCE_S):
        assert await probe == b"here"
        assert await retrier.repeat(ask, 0.02) == b"here"


async def test_the_caller_that_probes_may_give_up(bus: Bus) -> None:
    asked = asyncio.Event()

    async def ask(timeout_s: float) -> bytes:
        asked.set()
        return (await bus.request("given.up", b"", timeout_s=timeout_s)).data

    retrier = Retrier(bus, "it")
    first = asyncio.ensure_future(retrier.repeat(ask))
    await asked.wait()
    second = asyncio.ensure_future(retrier.repeat(ask))
    await asyncio.sleep(0.01)
    first.cancel()
    answering(bus, "given.up", lambda data: b"here")
    async with asyncio.timeout(PATIENCE_S):
        assert await second == b"here"


async def test_what_servers_say_while_they_elect_is_no_answer(bus: Bus) -> None:
    stream = Stream(bus, StreamConfig("AWAY", "away.*"))
    asked = in_turn(bus, "$JS.API.STREAM.MSG.GET.AWAY", AWAY, AWAY, message("away.x", 7))
    assert await stream.last_message("away.x") == StoredMessage("away.x", 7, b"", b"x")
    assert len(asked) == 3


async def test_another_write_to_the_same_subject_is_waited_for(bus: Bus) -> None:
    stream = Stream(bus, StreamConfig("BUSY", "busy.*"))
    in_process = {"error": {"err_code": 10164, "description": "wrong last sequence"}}
    wrong = {"error": {"err_code": 10071, "description": "wrong last sequence: 3"}}
    asked = in_turn(bus, "busy.x", in_process, in_process, wrong)
    with pytest.raises(WrongLastSequence):
        await stream.publish("busy.x", b"")
    assert len(asked) == 3


async def test_the_leader_says_where_a_page_ends(bus: Bus) -> None:
    """Not the replica, however often it is asked; others may write all the time."""
    stream = Stream(bus, StreamConfig("BEHIND", "behind.*", replicas=3))
    page_of(bus, "BEHIND")
    asked = in_turn(bus, "$JS.API.STREAM.MSG.GET.BEHIND", NONE, message("behind.a", 4), NONE)
    assert await stream.page("behind.*", 2, 10) == []
    assert json.loads(asked[0]) == {"next_by_subj": "behind.*", "seq": 3}
    assert await stream.page("behind.*", 2, 10) == [StoredMessage("behind.a", 4, b"", b"x")]
    assert await stream.page("behind.*", 2, 10, from_leader=False) == []


async def test_while_there_is_no_leader_a_replica_is_believed_where_that_will_do(bus: Bus) -> None:
    stream = Stream(bus, StreamConfig("LED", "led.*", replicas=3))
    page_of(bus, "LED", b"x")
    asked = in_turn(bus, "$JS.API.STREAM.MSG.GET.LED", None, message("LED.a", 2))
    known, sure = await stream.last_known_message("LED.a")
    assert known is not None
    assert (known.sequence, known.data, sure) == (1, b"x", False)
    assert stream.unresponsive
    assert await stream.last_known_message("LED.a") == (known, False)
    assert len(asked) == 1  # that nobody answers is known for a moment


async def test_what_no_replica_knows_only_the_leader_can_deny(bus: Bus) -> None:
    stream = Stream(bus, StreamConfig("DENY", "deny.*", replicas=3))
    page_of(bus, "DENY")
    in_turn(bus, "$JS.API.STREAM.MSG.GET.DENY", AWAY, AWAY, message("deny.a", 2))
    assert await stream.last_known_message("deny.a") == (StoredMessage("deny.a", 2, b"", b"x"), True)


async def test_a_page_may_be_believed_too(bus: Bus, tmp_path: Path) -> None:
    stream = Stream(bus, StreamConfig("PAGED", "paged.*", replicas=3))
    page_of(bus, "PAGED")
    in_turn(bus, "$JS.API.STREAM.MSG.GET.PAGED", AWAY)
    assert await stream.page("paged.*", 0, 10, from_leader=False) == []
