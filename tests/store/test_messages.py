"""The contract of every message store, over each driver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import blake2b
from pathlib import Path

import pytest

from bester.bus.connection import Bus
from bester.bus.options import BusOptions
from bester.errors import Internal, MailboxFull
from bester.store import once
from bester.store.jetstream.messages import JetStreamMessages
from bester.store.jetstream.names import Names
from bester.store.jetstream.partitions import Layout
from bester.store.messages import SqliteMessages
from bester.store.ports import (
    Letter,
    MailboxBounds,
    MailboxLetter,
    MailboxSize,
    MessageStore,
    Outgoing,
    Queued,
    QueueSize,
    Remembered,
    account_of,
    account_queue,
)

NOW = 1_000_000.0
WIDE = MailboxBounds(messages=100_000, bytes=100_000_000, lifetime_s=3600.0)
PLENTY = 1_000_000_000

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
        if bus is None:
            made = SqliteMessages(tmp_path / "bester.db")
        else:
            made = JetStreamMessages(bus, Names(str(tmp_path)), Layout(partitions=3))
        await made.open()
        stores.append(made)
        return made

    yield opened
    for store in stores:
        await store.close()
        await store.close()
    if bus is not None:
        await bus.close()


@pytest.fixture
async def store(reopen: Reopen) -> MessageStore:
    return await reopen()


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[MessageStore]:
    """The embedded store, for what only it does: elsewhere NATS removes what has expired, and may know more."""
    made = SqliteMessages(tmp_path / "bester.db")
    await made.open()
    yield made
    await made.close()


def letter(username: str, id: str, data: bytes = b"{}", type: str = "text") -> Letter:
    return Letter(username, id, type, data)


async def mailbox(store: MessageStore, username: str, now: float = NOW, after: int = 0) -> list[MailboxLetter]:
    return await store.read_mailbox(username, after, 100_000, PLENTY, now)


async def ids(store: MessageStore, username: str, now: float = NOW) -> list[str]:
    return [kept.delivery_id for kept in await mailbox(store, username, now)]


async def size(store: MessageStore, username: str) -> tuple[int, int]:
    found = await store.mailbox_size(username)
    assert found.username == username
    return found.messages, found.bytes


# -- mailboxes --------------------------------------------------------------------------------------------------------


async def test_letters_are_kept_as_they_came_and_in_order(store: MessageStore) -> None:
    data = [b'{"a":1}', b'"\xc3\xa9"', b"null", b" [1, 2] ", b'"\\u0000"']
    letters = [letter("alice", f"d{n}", one, f"type{n}") for n, one in enumerate(data)]
    assert await store.deposit(letters, WIDE, NOW) == [None] * 5
    kept = await mailbox(store, "alice")
    assert [(one.delivery_id, one.type, one.data) for one in kept] == [
        (one.delivery_id, one.type, one.data) for one in letters
    ]
    positions = [one.position for one in kept]
    assert positions == sorted(set(positions))
    assert await mailbox(store, "bob") == []
    assert await mailbox(store, "alice", after=positions[1]) == kept[2:]


async def test_nothing_is_nothing(store: MessageStore) -> None:
    assert await store.deposit([], WIDE, NOW) == []
    assert await store.enqueue([], NOW) == []
    await store.remove_letters([])
    await store.remove_letters([("alice", "d")])
    await store.remove_sent([])
    await store.remove_sent([1])
    await store.remember([], NOW)
    assert await store.clear_mailbox("alice") == 0
    assert await store.expire_letters(NOW, 10) == 0
    assert await store.revive([], NOW) == 0
    assert not await store.has_mail("alice")
    assert await size(store, "alice") == (0, 0)
    assert await store.mailbox_sizes() == []
    assert await store.queue_sizes() == []
    assert await store.find_queued(1) is None


async def test_of_a_repeat_there_is_one(store: MessageStore) -> None:
    assert (
        await store.deposit([letter("alice", "a"), letter("alice", "a"), letter("bob", "a")], WIDE, NOW) == [None] * 3
    )
    assert (
        await store.deposit([letter("alice", "b", b"12345"), letter("alice", "a", b"other")], WIDE, NOW) == [None] * 2
    )
    kept = await mailbox(store, "alice")
    assert [(one.delivery_id, one.data) for one in kept] == [("a", b"{}"), ("b", b"12345")]
    assert await size(store, "alice") == (2, 7)
    assert await size(store, "bob") == (1, 2)


async def test_a_mailbox_holds_so_many(store: MessageStore) -> None:
    bounds = MailboxBounds(3, PLENTY, 3600.0)
    results = await store.deposit([letter("alice", f"a{n}") for n in range(5)] + [letter("bob", "b")], bounds, NOW)
    assert [type(one) for one in results] == [type(None)] * 3 + [MailboxFull] * 2 + [type(None)]
    (again,) = await store.deposit([letter("alice", "a0")], bounds, NOW)
    assert again is None  # it is there
    (more,) = await store.deposit([letter("alice", "a5")], bounds, NOW)
    assert isinstance(more, MailboxFull)
    await store.remove_letters([("alice", "a0")])
    assert await store.deposit([letter("alice", "a6")], bounds, NOW) == [None]
    assert await ids(store, "alice") == ["a1", "a2", "a6"]
    assert await size(store, "alice") == (3, 6)
    assert await ids(store, "bob") == ["b"]


async def test_a_mailbox_holds_so_much(store: MessageStore) -> None:
    bounds = MailboxBounds(100, 10, 3600.0)
    letters = [letter("alice", "6", b"x" * 6), letter("alice", "5", b"x" * 5), letter("alice", "4", b"x" * 4)]
    results = await store.deposit([*letters, letter("bob", "11", b"x" * 11)], bounds, NOW)
    assert [type(one) for one in results] == [type(None), MailboxFull, type(None), MailboxFull]
    assert await ids(store, "alice") == ["6", "4"]
    assert await size(store, "alice") == (2, 10)
    assert not await store.has_mail("bob")
    assert [one.username for one in await store.mailbox_sizes()] == ["alice"]


async def test_repeats_in_a_batch_that_does_not_fit_are_counted_once(store: MessageStore) -> None:
    bounds = MailboxBounds(2, PLENTY, 3600.0)
    batch = [letter("alice", one) for one in ("a", "a", "b", "a", "c", "b")]
    results = await store.deposit(batch, bounds, NOW)
    assert [type(one) for one in results] == [type(None)] * 4 + [MailboxFull, type(None)]
    assert await size(store, "alice") == (2, 4)


async def test_a_page_is_bounded_by_number_and_bytes(store: MessageStore) -> None:
    await store.deposit([letter("alice", f"d{n}", b"x" * 100) for n in range(10)], WIDE, NOW)
    first = await store.read_mailbox("alice", 0, 4, PLENTY, NOW)
    assert [one.delivery_id for one in first] == ["d0", "d1", "d2", "d3"]
    second = await store.read_mailbox("alice", first[-1].position, 100, 250, NOW)
    assert [one.delivery_id for one in second] == ["d4", "d5"]
    assert len(await store.read_mailbox("alice", 0, 100, 300, NOW)) == 3
    assert len(await store.read_mailbox("alice", 0, 100, 1, NOW)) == 1
    paged: list[str] = []
    after = 0
    while page := await store.read_mailbox("alice", after, 3, PLENTY, NOW):
        paged += [one.delivery_id for one in page]
        after = page[-1].position
    assert paged == [f"d{n}" for n in range(10)]


async def test_what_was_taken_is_gone(store: MessageStore) -> None:
    await store.deposit([letter("alice", f"d{n}", b"x" * n) for n in range(1, 5)] + [letter("bob", "d1")], WIDE, NOW)
    await store.remove_letters([("alice", "d1"), ("alice", "d3"), ("alice", "d3"), ("alice", "?"), ("nobody", "d1")])
    assert await ids(store, "alice") == ["d2", "d4"]
    assert await size(store, "alice") == (2, 6)
    assert await ids(store, "bob") == ["d1"]
    assert await store.has_mail("alice")
    await store.remove_letters([("alice", "d2"), ("alice", "d4")])
    assert not await store.has_mail("alice")
    assert await store.mailbox_sizes() == [MailboxSize("bob", 1, 2)]
    assert await store.deposit([letter("alice", "d1")], WIDE, NOW) == [None]
    assert await ids(store, "alice") == ["d1"]


async def test_positions_never_come_back(reopen: Reopen) -> None:
    store = await reopen()
    seen = 0
    for _ in range(3):
        await store.deposit([letter("alice", "d"), letter("bob", "d")], WIDE, NOW)
        (kept,) = await mailbox(store, "alice")
        (sent,) = await store.enqueue([message("m")], NOW)
        assert kept.position > seen
        assert sent > seen
        seen = max(kept.position, sent)
        await store.remove_letters([("alice", "d"), ("bob", "d")])
        await store.remove_sent([sent])
        seen = min(kept.position, sent)
        store = await reopen()


async def test_letters_that_have_expired_are_passed_over(store: MessageStore) -> None:
    short, long = MailboxBounds(100, PLENTY, 10.0), MailboxBounds(100, PLENTY, 100.0)
    await store.deposit([letter("alice", "long1")], long, NOW)
    await store.deposit([letter("alice", "short")], short, NOW)
    await store.deposit([letter("alice", "long2")], long, NOW + 1)
    assert await ids(store, "alice", NOW + 9.5) == ["long1", "short", "long2"]
    assert await ids(store, "alice", NOW + 10) == ["long1", "long2"]
    (_, last) = await store.read_mailbox("alice", 0, 2, PLENTY, NOW + 10)
    assert last.delivery_id == "long2"


async def test_letters_expire(embedded: MessageStore) -> None:
    store = embedded
    short, long = MailboxBounds(100, PLENTY, 10.0), MailboxBounds(100, PLENTY, 100.0)
    await store.deposit([letter("alice", "long1")], long, NOW)
    await store.deposit([letter("alice", "short"), letter("bob", "short")], short, NOW)
    await store.deposit([letter("alice", "long2")], long, NOW + 1)
    assert await ids(store, "alice", NOW + 9.5) == ["long1", "short", "long2"]
    assert await ids(store, "alice", NOW + 10) == ["long1", "long2"]
    assert await store.expire_letters(NOW + 9.5, 10) == 0
    assert await store.expire_letters(NOW + 10, 10) == 2
    assert await size(store, "alice") == (2, 4)
    assert not await store.has_mail("bob")
    assert await ids(store, "alice") == ["long1", "long2"]
    assert await store.expire_letters(NOW + 1000, 10) == 2
    assert await store.mailbox_sizes() == []


async def test_expired_letters_go_in_steps(embedded: MessageStore) -> None:
    store = embedded
    await store.deposit([letter("alice", f"d{n}") for n in range(25)], WIDE, NOW)
    assert [await store.expire_letters(NOW + 3600, 10) for _ in range(4)] == [10, 10, 5, 0]


async def test_a_mailbox_is_cleared(store: MessageStore) -> None:
    await store.deposit([letter("alice", "a"), letter("alice", "b"), letter("bob", "a")], WIDE, NOW)
    assert await store.clear_mailbox("alice") == 2
    assert await store.clear_mailbox("alice") == 0
    assert not await store.has_mail("alice")
    assert await ids(store, "alice") == []
    assert await ids(store, "bob") == ["a"]


async def test_mailboxes_are_listed_by_pages(store: MessageStore) -> None:
    names = ["a", "a.b", "ab", "z", "é", "山田"]
    await store.deposit([letter(name, "d", b"x" * n) for n, name in enumerate(names, 1)], WIDE, NOW)
    expected = [MailboxSize(name, 1, n) for n, name in enumerate(names, 1)]
    assert await store.mailbox_sizes() == expected
    assert await store.mailbox_sizes("a.b", 2) == expected[2:4]
    assert await store.mailbox_sizes("山田") == []


async def test_batches_that_are_asked_for_at_once_take_effect_in_their_order(store: MessageStore) -> None:
    bounds = MailboxBounds(1000, PLENTY, 3600.0)
    batches = [[letter("alice", f"{batch}-{n}") for n in range(50)] for batch in range(30)]
    results = await asyncio.gather(*(store.deposit(batch, bounds, NOW) for batch in batches))
    assert [one is None for result in results for one in result] == [True] * 1000 + [False] * 500
    assert await ids(store, "alice") == [f"{batch}-{n}" for batch in range(20) for n in range(50)]
    deposit, taken = store.deposit([letter("bob", "d")], bounds, NOW), store.remove_letters([("bob", "d")])
    await asyncio.gather(deposit, taken)
    assert not await store.has_mail("bob")


async def test_mailboxes_are_there_after_a_restart(reopen: Reopen) -> None:
    store = await reopen()
    await store.deposit([letter("alice", "a", b"123"), letter("alice", "b")], WIDE, NOW)
    before = await mailbox(store, "alice")
    store = await reopen()
    assert await mailbox(store, "alice") == before
    assert await size(store, "alice") == (2, 5)
    assert await store.deposit([letter("alice", "a")], WIDE, NOW) == [None]
    assert await size(store, "alice") == (2, 5)


# -- the outbox -------------------------------------------------------------------------------------------------------


def message(id: str, destination: str = "host:1", data: bytes = b"{}") -> Outgoing:
    return Outgoing(destination, id, "text", data, 3, "00-trace-01")


async def waiting(store: MessageStore, destination: str = "host:1", now: float = NOW) -> list[str]:
    return [one.message.message_id for one in await store.read_outbox(destination, 0, 1000, PLENTY, now)]


async def test_messages_are_queued_as_they_came_and_in_order(store: MessageStore) -> None:
    sent = [message("a"), message("b", "unix:/x", b'"\\u0000"'), message("c")]
    positions = await store.enqueue(sent, NOW)
    assert positions == sorted(set(positions))
    assert await store.read_outbox("host:1", 0, 10, PLENTY, NOW) == [
        Queued(positions[0], sent[0], NOW, 0, 0.0, "", False),
        Queued(positions[2], sent[2], NOW, 0, 0.0, "", False),
    ]
    assert await store.find_queued(positions[1]) == Queued(positions[1], sent[1], NOW, 0, 0.0, "", False)
    assert [one.position for one in await store.read_outbox("host:1", positions[0], 10, PLENTY, NOW)] == [positions[2]]
    assert await waiting(store, "nowhere:1") == []


async def test_what_is_queued_already_keeps_its_place(store: MessageStore) -> None:
    first, second = await store.enqueue([message("a"), message("b")], NOW)
    again = await store.enqueue([message("c"), message("a", data=b"other"), message("b"), message("c")], NOW + 1)
    assert again[1:3] == [first, second]
    assert again[0] == again[3] > second
    assert await waiting(store) == ["a", "b", "c"]
    (other,) = await store.enqueue([message("a", "host:2")], NOW)
    assert other not in again
    found = await store.find_queued(first)
    assert found is not None
    assert (found.message.data, found.created) == (b"{}", NOW)


async def test_a_dead_letter_that_comes_again_waits_in_its_place(store: MessageStore) -> None:
    first, second, third = await store.enqueue([message(one) for one in "abc"], NOW)
    await store.note_failures([(first, NOW + 50, "x: y"), (second, NOW + 50, "x: y")])
    await store.bury([(first, "no"), (third, "no")])
    assert await store.enqueue([message("a", data=b"other")], NOW + 1) == [first]  # alone, so that all are there
    (fourth, again) = await store.enqueue([message("d"), message("a")], NOW + 2)
    assert again == first
    assert fourth > third
    assert await store.find_queued(first) == Queued(first, message("a"), NOW + 1, 0, 0.0, "", False)
    assert await store.find_queued(second) == Queued(second, message("b"), NOW, 1, NOW + 50, "x: y", False)
    assert await waiting(store) == ["a", "d"]
    assert await store.queue_sizes() == [QueueSize("host:1", 3, 1, 8, NOW)]
    assert [one.position for one in await store.list_queue(dead=True)] == [third]


async def test_a_page_of_the_outbox_is_bounded(store: MessageStore) -> None:
    await store.enqueue([message(f"m{n}", data=b"x" * 100) for n in range(6)], NOW)
    assert len(await store.read_outbox("host:1", 0, 4, PLENTY, NOW)) == 4
    assert len(await store.read_outbox("host:1", 0, 10, 299, NOW)) == 2
    assert len(await store.read_outbox("host:1", 0, 10, 1, NOW)) == 1


async def test_what_was_sent_is_gone(store: MessageStore) -> None:
    positions = await store.enqueue([message(one) for one in "abc"], NOW)
    await store.remove_sent([positions[0], positions[2], 10**9])
    assert await waiting(store) == ["b"]
    (new,) = await store.enqueue([message("a")], NOW)
    assert new > positions[2]


async def test_failures_are_noted_and_who_steps_aside_is_passed_over(store: MessageStore) -> None:
    a, b = await store.enqueue([message("a"), message("b")], NOW)
    await store.note_failures([(a, 0.0, "serverUnreachable: gone"), (b, NOW + 5, "internal: oops"), (10**9, 0.0, "")])
    await store.note_failures([(b, NOW + 7, "internal: again")])
    assert await waiting(store) == ["a"]
    assert await waiting(store, now=NOW + 7) == ["a", "b"]
    found = await store.find_queued(b)
    assert found == Queued(b, message("b"), NOW, 2, NOW + 7, "internal: again", False)
    found = await store.find_queued(a)
    assert found is not None
    assert (found.tries, found.last_error) == (1, "serverUnreachable: gone")


async def test_only_one_destinations_messages_are_given_up(store: MessageStore) -> None:
    await store.enqueue([message("a"), message("b", "x.example"), message("c", "x.example")], NOW)
    assert await store.give_up_before(NOW + 1, "serverUnreachable: gave up", 1, "x.example") == 1
    assert await store.give_up_before(NOW + 1, "serverUnreachable: gave up", 9, "x.example") == 1
    assert await store.give_up_before(NOW + 1, "serverUnreachable: gave up", 9, "y.example") == 0
    assert [one.message.message_id for one in await store.list_queue(dead=True)] == ["b", "c"]
    assert await waiting(store) == ["a"]


async def test_the_dead_do_not_block_and_can_be_revived(store: MessageStore) -> None:
    a, b, c, d = await store.enqueue([message(one) for one in "abcd"], NOW)
    await store.note_failures([(a, 0.0, "x: y"), (c, NOW + 50, "x: y")])
    await store.bury([(a, "serverRefused: no"), (10**9, "")])
    assert await waiting(store) == ["b", "d"]
    dead = await store.find_queued(a)
    assert dead == Queued(a, message("a"), NOW, 1, 0.0, "serverRefused: no", True)
    assert await store.revive([a, b, c, 10**9], NOW + 9) == 2  # b waits anyway
    assert await waiting(store, now=NOW + 9) == ["a", "b", "c", "d"]
    assert await store.find_queued(a) == Queued(a, message("a"), NOW + 9, 0, 0.0, "", False)
    assert await store.find_queued(c) == Queued(c, message("c"), NOW + 9, 0, 0.0, "", False)
    assert d > c


async def test_the_oldest_are_given_up_in_steps(store: MessageStore) -> None:
    old = await store.enqueue([message(f"old{n}") for n in range(5)], NOW)
    await store.enqueue([message("new")], NOW + 10)
    await store.bury([(old[0], "before")])
    assert [await store.give_up_before(NOW + 10, "serverUnreachable: gave up", 3) for _ in range(3)] == [3, 1, 0]
    assert await waiting(store) == ["new"]
    dead = await store.list_queue(dead=True)
    assert [one.position for one in dead] == old
    assert [one.last_error for one in dead] == ["before"] + ["serverUnreachable: gave up"] * 4


async def test_queues_are_told_by_destination(store: MessageStore) -> None:
    (a, _, _) = await store.enqueue([message("a", "b:1"), message("b", "b:1", b"12345"), message("c", "a:1")], NOW + 5)
    await store.enqueue([message("d", "b:1")], NOW + 7)
    await store.bury([(a, "no")])
    assert await store.queue_sizes() == [
        QueueSize("a:1", 1, 0, 2, NOW + 5),
        QueueSize("b:1", 2, 1, 9, NOW + 5),
    ]
    (c,) = [one.position for one in await store.list_queue("a:1")]
    await store.bury([(c, "no")])
    assert (await store.queue_sizes())[0] == QueueSize("a:1", 0, 1, 2, 0.0)


async def test_the_operator_lists_the_outbox(store: MessageStore) -> None:
    p = await store.enqueue([message("a", "x:1"), message("b", "y:1"), message("c", "x:1"), message("d", "x:1")], NOW)
    await store.bury([(p[2], "no")])
    await store.note_failures([(p[3], NOW + 1000, "later: x")])

    async def listed(*args: object, **more: object) -> list[int]:
        return [one.position for one in await store.list_queue(*args, **more)]  # type: ignore[arg-type]

    assert await listed() == p
    assert await listed("x:1") == [p[0], p[2], p[3]]
    assert await listed("x:1", dead=False) == [p[0], p[3]]
    assert await listed(dead=True) == [p[2]]
    assert await listed("y:1", True) == []
    assert await listed(after=p[1], limit=1) == [p[2]]
    assert await listed("x:1", None, p[0], 1) == [p[2]]


async def test_letters_become_dead_letters_of_their_account(reopen: Reopen) -> None:
    store = await reopen()
    queue = account_queue("alice")
    assert (account_of(queue), account_of("host:1")) == ("alice", None)
    await store.deposit([letter("alice", "d1", b"1"), letter("alice", "d2", b"22")], WIDE, NOW)
    await store.enqueue([message("m1")], NOW)
    for _ in range(2):  # the second time, where the first was cut off before it was known
        await store.bury_letters([(letter("alice", "d1", b"1"), 12), (letter("alice", "d3"), 13)], "why", NOW + 1)
        store = await reopen()
        assert await ids(store, "alice") == ["d2"]
        assert await size(store, "alice") == (1, 2)
        first, second = await store.list_queue(queue)
        assert (first.message, first.tries, first.dead) == (Outgoing(queue, "d1", "text", b"1", 0), 12, True)
        assert (first.created, first.last_error, second.message.message_id) == (NOW + 1, "why", "d3")
        assert await store.read_outbox(queue, 0, 10, PLENTY, NOW) == []
        assert [(one.destination, one.waiting, one.dead) for one in await store.queue_sizes()] == [
            (queue, 0, 2),
            ("host:1", 1, 0),
        ]
    await store.remove_sent([first.position])
    assert [row.message.message_id for row in await store.list_queue(queue)] == ["d3"]


async def test_the_outbox_is_there_after_a_restart(reopen: Reopen) -> None:
    store = await reopen()
    a, b = await store.enqueue([message("a"), message("b")], NOW)
    await store.note_failures([(a, 5.0, "x: y")])
    await store.bury([(b, "no")])
    before = await store.list_queue()
    store = await reopen()
    assert await store.list_queue() == before
    assert await store.enqueue([message("a")], NOW) == [a]


# -- once -------------------------------------------------------------------------------------------------------------


def record(number: int, report: bytes = b"report") -> Remembered:
    key = blake2b(str(number).encode(), digest_size=16).digest()
    return Remembered(key, key[::-1], report)


async def test_what_is_remembered_is_recalled(store: MessageStore) -> None:
    assert await store.recall(record(1).key) is None
    written = asyncio.ensure_future(store.remember([record(1), record(2, b"\x00")], NOW))
    await asyncio.sleep(0)  # it has been called, and is not on disk
    assert store.may_recall(record(1).key)
    await written
    assert store.may_recall(record(1).key)
    assert await store.recall(record(1).key) == record(1)
    assert await store.recall(record(2).key) == record(2, b"\x00")
    assert await store.recall(record(3).key) is None


async def test_the_first_record_stays(store: MessageStore) -> None:
    await store.remember([record(1, b"first"), record(1, b"second")], NOW)
    await store.remember([record(1, b"third"), record(2)], NOW)
    assert await store.recall(record(1).key) == record(1, b"first")
    assert await store.recall(record(2).key) == record(2)


async def test_nearly_all_unknown_keys_are_known_to_be_unknown(embedded: MessageStore) -> None:
    store = embedded
    assert not store.may_recall(record(1).key)
    known = [record(number) for number in range(5000)]
    await store.remember(known, NOW)
    assert all(store.may_recall(one.key) for one in known)
    assert sum(store.may_recall(record(number).key) for number in range(10_000, 20_000)) < 100


async def test_the_old_are_forgotten(store: MessageStore) -> None:
    for number in range(10):
        await store.remember([record(number)], NOW + number)
    await store.forget_before(NOW + 3, 1000)
    assert [await store.recall(record(n).key) is not None for n in range(10)] == [False] * 3 + [True] * 7
    await store.forget_before(NOW, 4)
    assert [await store.recall(record(n).key) is not None for n in range(10)] == [False] * 6 + [True] * 4
    assert all(store.may_recall(record(n).key) for n in range(6, 10))
    await store.forget_before(NOW, 0)
    assert await store.recall(record(9).key) is None
    await store.remember([record(0)], NOW)
    assert await store.recall(record(0).key) == record(0)


async def test_many_are_forgotten_at_once(store: MessageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "STEP", 100)
    await store.remember([record(number) for number in range(1000)], NOW)
    await store.forget_before(NOW, 250)
    left = [await store.recall(record(number).key) for number in range(1000)]
    assert sum(one is not None for one in left) == 250
    await store.forget_before(NOW + 1, 250)
    assert await store.recall(next(one.key for one in left if one is not None)) is None


async def test_what_is_remembered_is_there_after_a_restart(reopen: Reopen, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await reopen()
    await store.remember([record(number) for number in range(1000)], NOW)
    monkeypatch.setattr(once, "STEP", 100)
    store = await reopen()
    # Whatever has been looked through by now, a key that is known is never taken for unknown.
    assert all(store.may_recall(record(number).key) for number in range(1000))
    await store.remember([record(1000)], NOW)
    assert await store.recall(record(999).key) == record(999)
    assert all(store.may_recall(record(number).key) for number in range(1001))


# -- the store --------------------------------------------------------------------------------------------------------


async def test_a_closed_store_says_so(store: MessageStore) -> None:
    await store.close()
    with pytest.raises(Internal, match="closed"):
        await store.has_mail("alice")
    with pytest.raises(Internal, match="closed"):
        await store.deposit([letter("alice", "a")], WIDE, NOW)


# -- SQLite alone -----------------------------------------------------------------------------------------------------


def test_filters_go_with_what_they_stand_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "KEYS_PER_FILTER", 100)
    filters = once.Filters()
    for number in range(1000):
        filters.add(record(number).key, float(number))
    assert len(filters) == 10
    filters.drop_before(450.0)
    assert len(filters) == 6
    assert all(record(number).key in filters for number in range(450, 1000))
    assert sum(record(number).key in filters for number in range(400)) < 10
    filters.drop_before(5000.0)
    assert len(filters) == 1
    assert record(999).key not in filters
