"""The embedded database: its file, its thread, its commits."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bester.clock import SteadyClock
from bester.errors import AccountExists, BadConfiguration, Internal, StorageFull
from bester.store import opening
from bester.store.database import Database
from bester.store.messages import SqliteMessages
from bester.store.opening import problems_of
from bester.store.ports import (
    Letter,
    MailboxBounds,
    MailboxLetter,
    MailboxSize,
    Outgoing,
    Queued,
    Remembered,
    StoredAccount,
)
from bester.store.schema import MIGRATIONS
from bester.store.sqlite import SqliteAccounts

BOUNDS = MailboxBounds(messages=1000, bytes=1_000_000, lifetime_s=3600.0)
NUMBERS = (("CREATE TABLE number (n INTEGER PRIMARY KEY)",),)


@pytest.fixture
async def numbers(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "numbers.db", NUMBERS)
    await database.open()
    yield database
    await database.close()


async def opened_numbers(path: Path) -> Database:
    database = Database(path, NUMBERS)
    await database.open()
    return database


def insert(number: int) -> Callable[[sqlite3.Connection], int]:
    def work(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO number VALUES (?)", (number,))
        return number

    return work


def all_numbers(connection: sqlite3.Connection) -> list[int]:
    return [n for (n,) in connection.execute("SELECT n FROM number ORDER BY n")]


class HeldThread:
    """Holds the database's thread, so that the jobs behind it gather into one batch."""

    def __init__(self, database: Database) -> None:
        self._open = threading.Event()
        self._entered = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wait(_: sqlite3.Connection) -> None:
            loop.call_soon_threadsafe(self._entered.set)
            self._open.wait()

        self._held = database.read(wait)

    async def hold(self) -> None:
        await self._entered.wait()

    async def release(self) -> None:
        self._open.set()
        await self._held


# -- the file ---------------------------------------------------------------------------------------------------------


async def test_a_file_with_another_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bester.db"
    await (await opened_numbers(path)).close()
    os.link(path, tmp_path / "other.db")
    for name in ("bester.db", "other.db"):
        with pytest.raises(BadConfiguration, match="2 names"):
            await opened_numbers(tmp_path / name)
        assert not (tmp_path / f"{name}-lock").exists()
    (tmp_path / "other.db").unlink()
    await (await opened_numbers(path)).close()


async def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "bester.db"
    before = os.umask(0)
    try:
        store = SqliteAccounts(path)
        await store.open()
        await store.add("alice", "$hash")
        files = list(tmp_path.iterdir())
        ends = ("", "-lock", "-wal", "-shm", "-ballast")
        assert {file.name for file in files} == {f"bester.db{end}" for end in ends}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        await store.close()
    finally:
        os.umask(before)


async def test_the_file_is_private_from_its_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bester.db"
    connect = sqlite3.connect

    def watched(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.stat().st_size == 0
        made: sqlite3.Connection = connect(*args, **kwargs)
        return made

    monkeypatch.setattr(sqlite3, "connect", watched)
    store = SqliteAccounts(path)
    await store.open()
    await store.close()


async def test_a_file_that_others_can_read_is_made_private(tmp_path: Path) -> None:
    path = tmp_path / "bester.db"
    path.touch(0o644)
    store = SqliteAccounts(str(path))
    await store.open()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await store.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
async def test_what_root_makes_belongs_to_whom_the_folder_belongs_to(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65533)
    store = SqliteAccounts(tmp_path / "bester.db")
    await store.open()
    await store.add("alice", "$hash")
    for end in ("", "-wal", "-shm"):
        made = (tmp_path / f"bester.db{end}").stat()
        assert (made.st_uid, made.st_gid) == (65534, 65533), end
    await store.close()


async def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    store = SqliteAccounts(tmp_path / "bester.db")
    await store.open()
    await store.add("alice", "$hash", ("admin",), 5.0)
    await store.add_token("alice", b"t" * 32, 100.0, 1.0)
    await store.close()
    again = SqliteAccounts(tmp_path / "bester.db")
    await again.open()
    assert await again.find_token(b"t" * 32, 50.0) == StoredAccount("alice", ("admin",), 5.0, "$hash")
    await again.close()


async def test_commits_reach_the_disk(numbers: Database) -> None:
    def pragmas(connection: sqlite3.Connection) -> list[Any]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await numbers.read(pragmas) == ["wal", 2, 1, 5000]


async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    program = """
import asyncio, itertools, sys
from bester.store.sqlite import SqliteAccounts

async def write(store, n):
    for i in itertools.count():
        await store.add(f"{n}-{i}", "$hash")
        print(f"{n}-{i}", flush=True)

async def main():
    store = SqliteAccounts(sys.argv[1])
    await store.open()
    await asyncio.gather(*(write(store, n) for n in range(8)))

asyncio.run(main())
"""
    path = tmp_path / "bester.db"
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(200)]
        process.kill()
        lines += process.stdout.readlines()
    names = [line.strip() for line in lines if line.endswith("\n")]
    assert len(names) >= 200
    store = SqliteAccounts(path)
    await store.open()
    assert await store.exists(names) == set(names)
    await store.close()


# -- the schema -------------------------------------------------------------------------------------------------------

FROZEN = Path(__file__).parent / "frozen"


def test_every_version_is_frozen() -> None:
    assert {path.stem for path in FROZEN.iterdir()} == {f"v{number}" for number in range(1, len(MIGRATIONS) + 1)}


def thaw(number: int, folder: Path) -> Path:
    path = folder / f"v{number}.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((FROZEN / f"v{number}.sql").read_text(encoding="utf-8"))
        assert version(connection) == number
    return path


@pytest.mark.parametrize("number", range(1, len(MIGRATIONS) + 1))
async def test_a_file_of_any_version_is_used_and_upgraded(tmp_path: Path, number: int) -> None:
    database = Database(thaw(number, tmp_path))
    store, messages = SqliteAccounts(database), SqliteMessages(database)
    await store.open()
    await messages.open()
    assert await database.read(version) == len(MIGRATIONS)
    assert await store.find_token(b"\x00\xff", 50.0) == StoredAccount("alice", ("admin",), 5.0, "$hash")
    assert [account.username for account in await store.list()] == ["alice", "山田"]
    await store.add("bob", "$hash")
    assert await messages.deposit([Letter("bob", "d", "text", b"{}")], BOUNDS, 1.0) == [None]
    assert await database.read(problems_of) == []
    await store.close()
    await messages.close()


async def test_tokens_of_version_1_are_in_the_order_in_which_they_expire(tmp_path: Path) -> None:
    store = SqliteAccounts(thaw(1, tmp_path))
    await store.open()
    rows = await store.database.read(
        lambda connection: connection.execute(
            "SELECT hex(token_hash) FROM token WHERE username = '山田' ORDER BY number"
        ).fetchall()
    )
    assert rows == [("0303",), ("0202",), ("0101",)]
    await store.close()


async def test_messages_of_version_2_are_kept(tmp_path: Path) -> None:
    messages = SqliteMessages(thaw(2, tmp_path))
    await messages.open()
    assert await messages.read_mailbox("alice", 0, 10, 1000, 100.0) == [
        MailboxLetter(3, "d-3", "text", b"{}"),
        MailboxLetter(7, "d-7", "text", b"null"),
    ]
    assert await messages.mailbox_size("alice") == MailboxSize("alice", 2, 6)
    waiting = Outgoing("host:1", "m-4", "text", b"{}", 1)
    dead = Outgoing("host:1", "m-9", "text", b"null", 0, "00-aa-bb-01")
    assert await messages.list_queue() == [
        Queued(4, waiting, 10.0, 2, 30.5, "serverUnreachable: gone", False),
        Queued(9, dead, 11.0, 1, 0.0, "serverRefused: no", True),
    ]
    key = bytes(range(16))
    assert messages.may_recall(key)
    assert await messages.recall(key) == Remembered(key, bytes(reversed(key)), b"report")
    await messages.deposit([Letter("alice", "new", "text", b"{}")], BOUNDS, 1.0)
    assert [letter.position for letter in await messages.read_mailbox("alice", 7, 10, 1000, 1.0)] == [8]
    await messages.close()


async def test_the_clock_of_version_3_goes_on(tmp_path: Path) -> None:
    messages = SqliteMessages(thaw(3, tmp_path))
    await messages.open()
    clock = SteadyClock(wall=lambda: 1010.0, elapsed=lambda: 7.0)
    await messages.restore_clock(clock)
    assert clock.now() == 50.0
    await messages.close()


def version(connection: sqlite3.Connection) -> int:
    number: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return number


async def test_only_the_missing_migrations_are_run(tmp_path: Path, numbers: Database) -> None:
    await numbers.write(insert(7))
    await numbers.close()
    later = (*NUMBERS, ("ALTER TABLE number ADD COLUMN name TEXT", "UPDATE number SET name = 'seven'"))
    upgraded = Database(numbers.path, later)
    await upgraded.open()
    rows = await upgraded.read(lambda connection: connection.execute("SELECT n, name FROM number").fetchall())
    assert rows == [(7, "seven")]
    assert await upgraded.read(version) == 2
    await upgraded.close()


async def test_a_migration_that_fails_changes_nothing(numbers: Database) -> None:
    await numbers.write(insert(7))
    await numbers.close()
    wrong = Database(numbers.path, (*NUMBERS, ("DELETE FROM number", "nonsense")))
    with pytest.raises(BadConfiguration, match=r"cannot be used.*nonsense"):
        await wrong.open()
    right = Database(numbers.path, NUMBERS)
    await right.open()
    assert await right.read(all_numbers) == [7]
    await right.close()


async def refused(path: Path) -> BadConfiguration:
    store = SqliteAccounts(path)
    with pytest.raises(BadConfiguration) as caught:
        await store.open()
    assert str(path) in caught.value.message
    with pytest.raises(Internal, match="closed"):
        await store.find("alice")
    await store.close()
    return caught.value


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")
    error = await refused(path)
    assert "version 999" in error.message
    with closing(sqlite3.connect(path)) as connection:
        assert version(connection) == 999


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "bester.db"
    path.write_text("Dear diary, " * 1000)
    error = await refused(path)
    assert "not a database" in error.message
    assert isinstance(error.__cause__, sqlite3.DatabaseError)
    assert path.read_text() == "Dear diary, " * 1000


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    error = await refused(tmp_path / "nowhere" / "bester.db")
    assert "No such file" in error.message
    assert isinstance(error.__cause__, OSError)


async def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    mode = tmp_path.stat().st_mode
    assert "owner and mode" in (await refused(tmp_path)).message
    assert tmp_path.stat().st_mode == mode


async def test_a_path_that_cannot_be_one_is_an_error_and_not_a_hang(tmp_path: Path) -> None:
    database = Database(f"{tmp_path}/\0", NUMBERS)
    with pytest.raises(ValueError, match="null"):
        await database.open()
    await database.close()


async def test_a_file_that_another_process_holds_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "BUSY_TIMEOUT_S", 0.01)
    path = tmp_path / "bester.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")
        assert "another process" in (await refused(path)).message


# -- one process at a time, and what it left ---------------------------------------------------------------------------

HOLD = """
import asyncio, sys
from bester.store.database import Database

async def main():
    database = Database(sys.argv[1])
    await database.open()
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await database.close()

asyncio.run(main())
"""


def held(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


async def test_a_second_process_is_refused_until_the_first_has_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "bester.db"
    with held(path) as other:
        assert f"another process ({other.pid})" in (await refused(path)).message
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as reader:
            assert version(reader) == len(MIGRATIONS)
        other.kill()
    store = SqliteAccounts(path)
    await store.open()
    assert "is being checked" in caplog.text
    await store.close()
    assert [file.name for file in tmp_path.iterdir()] == ["bester.db"]


async def test_a_server_that_stopped_properly_lets_the_next_one_in_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "bester.db"
    with held(path) as other:
        other.communicate("")
    store = SqliteAccounts(path)
    await store.open()
    await store.close()
    assert "is being checked" not in caplog.text


async def test_two_of_one_process_are_refused_too(numbers: Database) -> None:
    with pytest.raises(BadConfiguration, match="another process"):
        await Database(numbers.path, NUMBERS).open()
    await numbers.write(insert(1))


def spoil(path: Path) -> None:
    """Writes over the middle of the file, as after a crash that was the disk's."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE last_stop SET clean = 0")
        connection.commit()
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // page_size * page_size)
        file.write(b"\xa5" * page_size * 4)


async def test_a_damaged_file_is_found_after_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "bester.db"
    messages = SqliteMessages(path)
    await messages.open()
    letters = [Letter("alice", f"d-{number}", "text", b"x" * 500) for number in range(1000)]
    await messages.deposit(letters, BOUNDS, 1.0)
    await messages.close()
    spoil(path)
    before = path.read_bytes()
    error = await refused(path)
    assert "damaged" in error.message
    assert "restore the last backup" in error.message
    assert ".recover" in error.message
    assert path.read_bytes() == before


async def test_a_shared_database_closes_with_the_last_of_its_stores(tmp_path: Path) -> None:
    database = Database(tmp_path / "bester.db")
    accounts, messages = SqliteAccounts(database), SqliteMessages(database)
    await accounts.close()
    await asyncio.gather(accounts.open(), messages.open())
    await accounts.open()
    await accounts.close()
    await accounts.close()
    assert not await messages.has_mail("alice")
    assert len(database_threads()) == 1
    await messages.close()
    assert database_threads() == []
    with pytest.raises(Internal, match="closed"):
        await messages.has_mail("alice")
    await accounts.open()
    assert await accounts.count() == 0
    await accounts.close()


# -- commits ----------------------------------------------------------------------------------------------------------


async def test_all_that_wait_share_one_commit(numbers: Database) -> None:
    statements: list[str] = []
    await numbers.read(lambda connection: connection.set_trace_callback(statements.append))
    held = HeldThread(numbers)
    await held.hold()
    writes = [numbers.write(insert(number)) for number in range(500)]
    await held.release()
    assert await asyncio.gather(*writes) == list(range(500))
    assert sum(statement.startswith("COMMIT") for statement in statements) == 1
    await numbers.read(lambda connection: connection.set_trace_callback(None))


async def test_no_transaction_holds_more_than_its_share(numbers: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bester.store.worker.MAX_BATCH", 10)
    held = HeldThread(numbers)
    await held.hold()
    writes = [numbers.write(insert(number)) for number in range(35)]
    await held.release()
    assert await asyncio.gather(*writes) == list(range(35))


async def test_one_that_fails_in_the_middle_takes_back_only_itself(numbers: Database) -> None:
    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO number VALUES (100)")
        raise AccountExists

    held = HeldThread(numbers)
    await held.hold()
    jobs: list[asyncio.Future[Any]] = [
        numbers.write(insert(1)),
        numbers.write(half),
        numbers.write(insert(1)),
        numbers.read(lambda connection: connection.execute("SELECT nonsense")),
        numbers.write(insert(2)),
        numbers.read(all_numbers),
    ]
    await held.release()
    first, halfway, again, nonsense, second, seen = await asyncio.gather(*jobs, return_exceptions=True)
    assert (first, second, seen) == (1, 2, [1, 2])
    assert isinstance(halfway, AccountExists)
    assert isinstance(again, Internal)
    assert isinstance(again.__cause__, sqlite3.IntegrityError)
    assert isinstance(nonsense, Internal)
    assert await numbers.read(all_numbers) == [1, 2]


async def test_a_full_disk_refuses_and_goes_on(numbers: Database) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE big AS SELECT zeroblob(1000000) AS b")

    await numbers.write(insert(1))
    await numbers.read(lambda connection: connection.execute("PRAGMA max_page_count = 20").close())
    held = HeldThread(numbers)
    await held.hold()
    writes: list[asyncio.Future[Any]] = [numbers.write(insert(2)), numbers.write(fill)]
    await held.release()
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert isinstance(results[1], StorageFull)
    kept = [1] if isinstance(results[0], StorageFull) else [1, 2]
    assert await numbers.read(all_numbers) == kept
    await numbers.write(insert(3))
    assert await numbers.read(all_numbers) == [*kept, 3]


@pytest.mark.parametrize("hides", [False, True])
async def test_where_sqlite_undoes_the_transaction_nobody_is_told_good(numbers: Database, hides: bool) -> None:
    def undo(connection: sqlite3.Connection) -> None:
        try:
            connection.execute("INSERT OR ROLLBACK INTO number VALUES (1)")
        except sqlite3.IntegrityError:
            if hides:
                raise AccountExists from None
            raise

    held = HeldThread(numbers)
    await held.hold()
    writes: list[asyncio.Future[Any]] = [numbers.write(insert(1)), numbers.write(undo), numbers.write(insert(2))]
    await held.release()
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results] == [Internal] * 3
    assert await numbers.read(all_numbers) == []
    await numbers.write(insert(3))
    assert await numbers.read(all_numbers) == [3]


class FailingCommit(sqlite3.Connection):
    """A connection whose commits fail once told so."""

    code: int | None = None

    def execute(self, sql: str, /, *args: Any) -> sqlite3.Cursor:
        if sql == "COMMIT" and FailingCommit.code is not None:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = FailingCommit.code
            raise error
        return super().execute(sql, *args)


@pytest.fixture
def failing_commit(monkeypatch: pytest.MonkeyPatch) -> type[FailingCommit]:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: connect(*args, factory=FailingCommit, **kwargs))
    monkeypatch.setattr(FailingCommit, "code", None)
    return FailingCommit


async def test_a_commit_without_room_is_refused_and_the_next_one_works(
    tmp_path: Path, failing_commit: type[FailingCommit]
) -> None:
    database = Database(tmp_path / "numbers.db", NUMBERS)
    await database.open()
    failing_commit.code = sqlite3.SQLITE_FULL
    with pytest.raises(StorageFull):
        await database.write(insert(1))
    failing_commit.code = None
    await database.write(insert(2))
    assert await database.read(all_numbers) == [2]
    await database.close()


async def test_after_a_commit_of_unknown_outcome_nothing_is_served(
    tmp_path: Path, failing_commit: type[FailingCommit]
) -> None:
    told: list[str] = []
    database = Database(tmp_path / "numbers.db", NUMBERS, lambda error: told.append(str(error)))
    await database.open()
    failing_commit.code = sqlite3.SQLITE_IOERR_FSYNC
    write = database.write(insert(1))
    write.add_done_callback(lambda _: told.append("answered"))
    with pytest.raises(Internal):
        await write
    failing_commit.code = None
    assert told[0] == "disk I/O error"
    for job in (database.write(insert(2)), database.read(all_numbers)):
        with pytest.raises(Internal):
            await job
    await database.close()
    assert told == ["disk I/O error", "answered"]


# -- the thread -------------------------------------------------------------------------------------------------------


def database_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "bester-database"]


async def test_closing_loses_nothing_and_ends_the_thread(tmp_path: Path) -> None:
    database = Database(tmp_path / "numbers.db", NUMBERS)
    await database.close()  # never opened
    await database.open()
    held = HeldThread(database)
    await held.hold()
    writes = [database.write(insert(number)) for number in range(100)]
    closing_twice = [asyncio.ensure_future(database.close()) for _ in range(2)]
    await asyncio.sleep(0)
    await held.release()
    await asyncio.gather(*closing_twice)
    await database.close()
    assert await asyncio.gather(*writes) == list(range(100))
    assert database_threads() == []
    assert [file.name for file in tmp_path.iterdir()] == ["numbers.db"]
    with pytest.raises(Internal, match="closed"):
        await database.write(insert(100))


async def test_a_reader_that_gives_up_waiting_disturbs_nobody(numbers: Database) -> None:
    held = HeldThread(numbers)
    await held.hold()
    given_up, kept = numbers.write(insert(1)), numbers.write(insert(2))
    given_up.cancel()
    await held.release()
    assert await kept == 2


def test_a_program_that_forgets_to_close_still_ends(tmp_path: Path) -> None:
    async def main() -> Database:
        database = Database(tmp_path / "numbers.db", NUMBERS)
        await database.open()
        await database.write(insert(1))
        held = HeldThread(database)
        await held.hold()
        held._open.set()  # its result comes when the loop is gone
        return database

    database = asyncio.run(main())
    assert database._worker is not None
    database._worker.finish()
    database._worker.join()


# -- names in memory --------------------------------------------------------------------------------------------------


async def test_a_name_that_was_found_is_forgotten_with_its_account(tmp_path: Path) -> None:
    store = SqliteAccounts(tmp_path / "bester.db")
    await store.open()
    await store.add("alice", "$hash")
    assert await store.exists(["alice", "bob"]) == {"alice"}
    await store.add("bob", "$hash")
    assert await store.exists(["alice", "bob"]) == {"alice", "bob"}
    await store.remove("alice")
    assert await store.exists(["alice", "bob"]) == {"bob"}
    await store.close()


async def test_a_name_that_is_found_while_its_account_is_removed_is_not_remembered(tmp_path: Path) -> None:
    store = SqliteAccounts(tmp_path / "bester.db")
    await store.open()
    await store.add("alice", "$hash")
    before, _, after = await asyncio.gather(store.exists(["alice"]), store.remove("alice"), store.exists(["alice"]))
    assert (before, after) == ({"alice"}, set())
    assert await store.exists(["alice"]) == set()
    await store.close()


async def test_only_so_many_names_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bester.store.sqlite.MAX_KNOWN", 3)
    store = SqliteAccounts(tmp_path / "bester.db")
    await store.open()
    for name in "abcde":
        await store.add(name, "$hash")
        assert await store.exists([name]) == {name}
        assert len(store._known) <= 3
    assert await store.exists(list("abcdef")) == set("abcde")
    await store.close()
