"""A SQLite server's database moves into a cluster: all of it, once, however often the move breaks off."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.nats import NatsServer

from bester.bus.connection import Bus
from bester.bus.options import BusOptions
from bester.errors import BadConfiguration
from bester.store.held import HeldBounds, HeldHead, HeldMessage
from bester.store.import_source import Source
from bester.store.importing import Import, Imported
from bester.store.jetstream.accounts import JetStreamAccounts
from bester.store.jetstream.messages import JetStreamMessages
from bester.store.jetstream.names import Names
from bester.store.jetstream.partitions import SINGLE
from bester.store.jetstream.stream import Stream, StreamConfig
from bester.store.messages import SqliteMessages
from bester.store.opening import Lock
from bester.store.ports import Letter, MailboxBounds, Outgoing, Remembered
from bester.store.sqlite import SqliteAccounts

NOW = time.time()
SOON = MailboxBounds(1000, 10**6, 3600.0)
USERS = [f"user{number:02}" for number in range(12)]
PAST = MailboxBounds(1000, 10**6, 1.0)
ALL = Imported(accounts=12, tokens=2, letters=30, waiting=8, dead=1, held=6, trusted=1, once=7, expired=1)


async def fill(path: Path) -> None:
    accounts, messages = SqliteAccounts(path), SqliteMessages(path)
    await accounts.open()
    for number, user in enumerate(USERS):
        await accounts.add(user, f"hash of {user}", ("admin",) if number == 0 else (), NOW - number)
    await accounts.add_token("user03", b"3" * 32, NOW + 1000, NOW)
    await accounts.add_token("user03", b"4" * 32, NOW + 1000, NOW)
    await accounts.add_token("user03", b"5" * 32, NOW - 1000, NOW)
    await accounts.close()
    await messages.open()
    for number in range(10):
        await messages.deposit([Letter(user, f"d{number}", "chat", b"%d" % number) for user in USERS[:3]], SOON, NOW)
    await messages.deposit([Letter("user00", "old", "chat", b"0")], PAST, NOW - 1000)
    sent = [Outgoing("b.example", f"m{number}", "chat", b"[%d]" % number, 2, "trace") for number in range(9)]
    positions = await messages.enqueue(sent, NOW - 50)
    await messages.note_failures([(positions[1], NOW + 5, "timeout: late"), (positions[1], NOW + 9, "timeout: later")])
    await messages.bury([(positions[2], "refused: no")])
    head = HeldHead("chat", "tag", None, "b.example", True, 1, "guard")
    held = [HeldMessage(f"h{number}", "user01", head, b"%d" % number) for number in range(6)]
    await messages.hold(held, HeldBounds(100, 10**6, 100), NOW - 60)
    await messages.release_held("user01", [1])
    await messages.release_sender("user02", "server:b.example", always=True, now=NOW)
    await messages.remember([Remembered(bytes([n]) * 16, b"d" * 16, b"report %d" % n) for n in range(7)], NOW - 5)
    await messages.close()


class Cluster:
    """The streams of one server."""

    def __init__(self, bus: Bus, folder: Path) -> None:
        self.bus = bus
        self.names = Names(str(folder))
        self.accounts = JetStreamAccounts(bus, self.names)
        self.messages = JetStreamMessages(bus, self.names)
        self.path = folder / "bester.db"

    async def move(self, stop_after: int | None = None) -> Imported:
        """Moves everything, or breaks off after some pages."""
        pages = 0

        def progress(table: str, done: int, total: int) -> None:
            nonlocal pages
            assert 0 <= done <= total, table
            pages += 1
            if pages == stop_after:
                raise KeyboardInterrupt

        source = Source(self.path, page_rows=4)
        try:
            return await Import(source, self.bus, self.names, SINGLE, progress).run()
        finally:
            source.close()

    async def ids(self, user: str) -> list[str]:
        return [one.delivery_id for one in await self.messages.read_mailbox(user, 0, 100, 10**6, NOW)]


@pytest.fixture
async def cluster(nats: NatsServer, tmp_path: Path) -> AsyncIterator[Cluster]:
    await fill(tmp_path / "bester.db")
    bus = Bus(BusOptions((nats.url,)), "test")
    await bus.open()
    made = Cluster(bus, tmp_path)
    await made.accounts.open()
    await made.messages.open()
    yield made
    await bus.close()


async def check(cluster: Cluster) -> None:
    """All that was in the database is in the streams, once."""
    accounts, messages = cluster.accounts, cluster.messages
    assert [(one.username, one.created) for one in await accounts.list()] == [
        (user, NOW - number) for number, user in enumerate(USERS)
    ]
    first, third = await accounts.find("user00"), await accounts.find_token(b"4" * 32, NOW)
    assert first is not None
    assert (first.roles, first.password_hash) == (("admin",), "hash of user00")
    assert third is not None
    assert third.username == "user03"
    assert await accounts.find_token(b"5" * 32, NOW) is None
    for user in USERS[:3]:
        assert await cluster.ids(user) == [f"d{number}" for number in range(10)]
    rows = await messages.list_queue()
    assert [row.message.message_id for row in rows] == [f"m{number}" for number in range(9)]
    assert [row.message.data for row in rows] == [b"[%d]" % number for number in range(9)]
    assert {(row.created, row.message.hops, row.message.trace) for row in rows} == {(NOW - 50, 2, "trace")}
    assert (rows[1].tries, rows[1].next_try, rows[1].last_error) == (2, NOW + 9, "timeout: later")
    assert [(row.dead, row.last_error) for row in rows if row.dead] == [(True, "refused: no")]
    assert rows[2].dead
    kept = await messages.list_held("user01", 0, 100)
    assert [(one.message.id, one.message.data, one.created) for one in kept] == [
        (f"h{number}", b"%d" % number, NOW - 60) for number in range(1, 6)
    ]
    assert [one.message.id for one in await messages.released(0, 100)] == ["h0"]
    assert await messages.trusted("user02") == ["server:b.example"]
    for number in range(7):
        found = await messages.recall(bytes([number]) * 16)
        assert found == Remembered(bytes([number]) * 16, b"d" * 16, b"report %d" % number)


async def test_everything_is_moved_and_the_source_stays_as_it_is(cluster: Cluster) -> None:
    before = cluster.path.read_bytes()
    result = await cluster.move()
    assert result == Imported(
        accounts=12, tokens=2, letters=30, waiting=8, dead=1, held=6, trusted=1, once=7, expired=1
    )
    assert "12 accounts with 2 tokens, 30 letters, 8 messages" in str(result)
    await check(cluster)
    assert cluster.path.read_bytes() == before
    assert [path.name for path in cluster.path.parent.glob("bester.db*")] == ["bester.db"]


async def test_what_a_clock_years_ago_has_dated_keeps_the_rest_of_its_time(cluster: Cluster) -> None:
    """The database's steady clock began where the system clock was wrong."""
    years_s = 5 * 365 * 86_400.0
    with closing(sqlite3.connect(cluster.path)) as source:
        for table, column in ("letter", "expires"), ("token", "expires"), ("outgoing", "created"), ("once", "created"):
            source.execute(f"UPDATE {table} SET {column} = {column} - ?", (years_s,))
        source.execute("INSERT INTO clock VALUES (1, ?, ?, 0, '')", (NOW - years_s, NOW))
        source.commit()
    result = await cluster.move()
    assert result == Imported(
        accounts=12, tokens=2, letters=30, waiting=8, dead=1, held=6, trusted=1, once=7, expired=1
    )
    assert await cluster.ids("user00") == [f"d{number}" for number in range(10)]
    assert await cluster.accounts.find_token(b"4" * 32, NOW) is not None
    assert all(abs(row.created - (NOW - 50)) < 10 for row in await cluster.messages.list_queue())


@pytest.mark.parametrize("stop_after", [1, 3, 7, 13, 16])
async def test_what_breaks_off_goes_on(cluster: Cluster, stop_after: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        await cluster.move(stop_after)
    result = await cluster.move()
    assert result.earlier + result.rows == 12 + 31 + 9 + 7 + 7
    await check(cluster)


async def test_what_was_done_in_the_cluster_is_not_undone(cluster: Cluster) -> None:
    await cluster.move()
    await cluster.messages.remove_letters([("user00", "d0")])
    await cluster.messages.remove_sent([(await cluster.messages.list_queue())[0].position])
    await cluster.accounts.remove("user11")
    result = await cluster.move()
    assert (result.rows, result.earlier) == (0, 66)
    assert "66 rows were moved earlier" in str(result)
    assert (await cluster.ids("user00"))[0] == "d1"
    assert (await cluster.messages.list_queue())[0].message.message_id == "m1"
    assert await cluster.accounts.find("user11") is None


async def test_a_page_that_was_published_without_its_mark_is_there_once(cluster: Cluster) -> None:
    with pytest.raises(KeyboardInterrupt):
        await cluster.move(stop_after=7)  # in the middle of the letters
    marks = Stream(cluster.bus, StreamConfig(cluster.names.stream("IMPORTS"), cluster.names.subject("import", ">")))
    assert await marks.purge(cluster.names.subject("import", ">")) == 2
    await cluster.messages.enqueue([Outgoing("b.example", "m1", "chat", b"[1]", 2, "trace")], NOW - 50)
    assert (await cluster.move()).earlier == 0
    assert sorted(row.message.message_id for row in await cluster.messages.list_queue()) == [f"m{n}" for n in range(9)]
    assert {row.message.message_id: row.tries for row in await cluster.messages.list_queue()}["m1"] == 2
    for user in USERS[:3]:
        assert await cluster.ids(user) == [f"d{number}" for number in range(10)]


async def test_another_database_at_the_same_place_is_moved_whole(cluster: Cluster) -> None:
    await cluster.move()
    cluster.path.unlink()
    messages = SqliteMessages(cluster.path)
    await messages.open()
    await messages.deposit([Letter("user05", "new", "chat", b"1")], SOON, NOW)
    await messages.close()
    assert (await cluster.move()).letters == 1
    assert await cluster.ids("user05") == ["new"]


async def test_accounts_that_the_cluster_has_stay(cluster: Cluster) -> None:
    await cluster.accounts.add("user07", "another hash")
    result = await cluster.move()
    assert (result.others, result.names, result.accounts) == (1, ["user07"], 11)
    found = await cluster.accounts.find("user07")
    assert found is not None
    assert found.password_hash == "another hash"


async def test_a_log_that_a_crash_left_is_read(cluster: Cluster) -> None:
    with closing(sqlite3.connect(cluster.path, isolation_level=None)) as held:
        held.execute("UPDATE account SET roles = '[\"late\"]' WHERE username = 'user01'")
        assert cluster.path.with_name("bester.db-wal").stat().st_size
        await cluster.move()
    found = await cluster.accounts.find("user01")
    assert found is not None
    assert found.roles == ("late",)


def refused(path: Path) -> str:
    with pytest.raises(BadConfiguration) as error:
        Source(path)
    return error.value.message


async def test_what_cannot_be_a_source_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bester.db"
    assert "there is no database" in refused(path)
    path.write_bytes(b"no database at all" * 100)
    assert "cannot be read" in refused(path)
    path.unlink()
    await fill(path)
    lock = Lock(str(path))
    assert "is held by another process" in refused(path)
    lock.release()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 1")
    assert "is of another release" in refused(path)
    assert not path.with_name("bester.db-lock").exists()


async def test_a_message_that_nats_does_not_take_is_told(nats: NatsServer, cluster: Cluster) -> None:
    messages = SqliteMessages(cluster.path)
    await messages.open()
    await messages.deposit([Letter("user00", "large", "chat", b"0" * 4_200_000)], MailboxBounds(99, 10**8, 99.0), NOW)
    await messages.close()
    with pytest.raises(BadConfiguration, match="a message of 4200000 bytes"):
        await cluster.move()
