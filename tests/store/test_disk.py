"""What becomes of messages where the disk fills up, fails, or the process is killed; backups while it writes."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest

from bester.errors import BadConfiguration, StorageFull
from bester.store.backup import back_up
from bester.store.database import Database
from bester.store.messages import SqliteMessages
from bester.store.opening import problems_of
from bester.store.ports import Letter, MailboxBounds, Outgoing, Remembered
from bester.store.sqlite import SqliteAccounts

NOW = 1_000_000.0
WIDE = MailboxBounds(messages=10**9, bytes=10**12, lifetime_s=3600.0)
MIB = 1024 * 1024
RESERVE = 8 * MIB


def letters(batch: int, count: int = 64, size: int = 4096, username: str = "alice") -> list[Letter]:
    return [Letter(username, f"{batch}-{n}", "text", b"x" * size) for n in range(count)]


@asynccontextmanager
async def opened(path: Path, reserve: int = RESERVE) -> AsyncIterator[SqliteMessages]:
    messages = SqliteMessages(Database(path, reserve=reserve))
    await messages.open()
    try:
        yield messages
    finally:
        await messages.close()


async def recount(messages: SqliteMessages) -> None:
    """Asserts that mailboxes hold what is counted, and that the file is good."""

    def check(connection: sqlite3.Connection) -> None:
        counted = connection.execute("SELECT username, messages, bytes FROM mailbox ORDER BY username").fetchall()
        there = connection.execute(
            "SELECT username, count(*), sum(length(data)) FROM letter GROUP BY username ORDER BY username"
        ).fetchall()
        assert counted == there
        assert problems_of(connection) == []

    await messages.database.read(check)


# -- a disk that fills up ---------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def free(folder: Path) -> int:
    system = os.statvfs(folder)
    return system.f_bavail * system.f_frsize


def occupy(file: Path) -> None:
    """Takes all the room that is left."""
    with file.open("wb", buffering=0) as written:
        for size in (MIB, 4096):
            with suppress(OSError):
                while True:
                    written.write(b"x" * size)
    assert free(file.parent) == 0


async def fill(messages: SqliteMessages, first: int = 0) -> int:
    """Deposits until it is refused; returns the number of the next batch."""
    for batch in itertools.count(first):
        try:
            await messages.deposit(letters(batch), WIDE, NOW)
        except StorageFull:
            return batch
    raise AssertionError


async def test_what_adds_is_refused_before_the_reserve_and_all_else_goes_on(small_disk: Path) -> None:
    database = Database(small_disk / "bester.db", reserve=RESERVE)
    messages, accounts = SqliteMessages(database), SqliteAccounts(database)
    await messages.open()
    await accounts.open()
    await accounts.add("alice", "$hash", ("admin",))
    positions = await messages.enqueue([Outgoing("host:1", f"m{n}", "text", b"{}", 0) for n in range(4)], NOW)
    kept = await fill(messages)
    assert kept > 10
    assert free(small_disk) > RESERVE - MIB

    for adding in (
        lambda: messages.deposit(letters(kept, 1), WIDE, NOW),
        lambda: messages.enqueue([Outgoing("host:1", "more", "text", b"{}", 0)], NOW),
        lambda: messages.remember([Remembered(b"k" * 16, b"d" * 16, b"r")], NOW),
        lambda: accounts.add("bob", "$hash"),
        lambda: accounts.add_token("alice", b"t" * 32, NOW, NOW),
    ):
        began = time.monotonic()
        with pytest.raises(StorageFull):
            await adding()
        assert time.monotonic() - began < 0.1

    await messages.note_failures([(positions[0], 5.0, "x: y")])
    await messages.bury([(positions[1], "no")])
    assert await messages.give_up_before(NOW + 1, "gave up", 1) == 1
    assert await messages.revive([positions[1]], NOW) == 1
    await messages.remove_sent(positions[2:])
    await accounts.set_roles("alice", ())
    assert (await messages.mailbox_size("alice")).messages == kept * 64

    for batch in range(kept):  # draining
        await messages.remove_letters([("alice", one.delivery_id) for one in letters(batch)])
    assert not await messages.has_mail("alice")
    assert await messages.deposit(letters(0), WIDE, NOW) == [None] * 64
    await accounts.add("bob", "$hash")
    await recount(messages)
    await messages.close()
    await accounts.close()


async def test_a_disk_that_others_fill_breaks_nothing(small_disk: Path) -> None:
    other = small_disk / "other"
    async with opened(small_disk / "bester.db", reserve=0) as messages:
        await messages.deposit(letters(0), WIDE, NOW)
        occupy(other)
        kept = await fill(messages, 1)
        assert (await messages.mailbox_size("alice")).messages == kept * 64
        await recount(messages)
        other.unlink()
        assert await messages.deposit(letters(kept), WIDE, NOW) == [None] * 64
        await messages.remove_letters([("alice", one.delivery_id) for one in letters(0)])
        assert (await messages.mailbox_size("alice")).messages == kept * 64
        await recount(messages)


async def test_removals_beside_what_does_not_fit_are_done(small_disk: Path) -> None:
    async with opened(small_disk / "bester.db", reserve=0) as messages:
        await messages.deposit(letters(0), WIDE, NOW)
        too_much = [Letter("bob", str(n), "text", b"x" * MIB) for n in range(40)]
        taken = [("alice", one.delivery_id) for one in letters(0, 10)]
        results = await asyncio.gather(
            messages.deposit(too_much, WIDE, NOW), messages.remove_letters(taken), return_exceptions=True
        )
        assert isinstance(results[0], StorageFull)
        assert results[1] is None
        assert (await messages.mailbox_size("alice")).messages == 54
        assert not await messages.has_mail("bob")
        await recount(messages)


async def test_the_log_is_carried_over_and_does_not_grow(tmp_path: Path) -> None:
    path = tmp_path / "bester.db"
    async with opened(path) as messages:
        for batch in range(100):
            await messages.deposit(letters(batch), WIDE, NOW)
        assert path.stat().st_size > 20 * MIB
        assert path.with_name("bester.db-wal").stat().st_size < 8 * MIB


# -- kill -9 ----------------------------------------------------------------------------------------------------------

WRITING = """
import asyncio, itertools, sys
from bester.store.messages import SqliteMessages
from bester.store.ports import Letter, MailboxBounds, Outgoing, Remembered

BOUNDS = MailboxBounds(10**9, 10**12, 3600.0)

async def write(store, who):
    for n in itertools.count():
        await store.deposit([Letter(f"user{who}", f"{n}-{i}", "text", b"x" * 300) for i in range(20)], BOUNDS, 1.0)
        await store.enqueue([Outgoing(f"host:{who}", str(n), "text", b"{}", 0)], 1.0)
        await store.remember([Remembered(n.to_bytes(8, "big") + who.to_bytes(8, "big"), b"d" * 16, b"r")], 1.0)
        if n % 3 == 2:
            await store.remove_letters([(f"user{who}", f"{n - 1}-{i}") for i in range(20)])
        print(who, n, flush=True)

async def main():
    store = SqliteMessages(sys.argv[1])
    await store.open()
    await asyncio.gather(*(write(store, who) for who in range(8)))

asyncio.run(main())
"""


async def test_what_was_acknowledged_survives_kill_9_and_the_counts_are_right(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "bester.db"
    command = [sys.executable, "-c", WRITING, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(300)]
        process.kill()
        lines += process.stdout.readlines()
    done = [0] * 8
    for line in lines:
        if line.endswith("\n"):
            writer, number = line.split()
            done[int(writer)] = int(number) + 1
    assert sum(done) >= 300
    async with opened(path) as messages:
        assert "is being checked" in caplog.text
        await recount(messages)
        for who, count in enumerate(done):
            kept = {one.delivery_id for one in await messages.read_mailbox(f"user{who}", 0, 10**6, 10**9, 1.0)}
            wanted = {f"{n}-{i}" for n in range(count) if n % 3 != 1 for i in range(20)}
            assert wanted <= kept
            queued = {one.message.message_id for one in await messages.read_outbox(f"host:{who}", 0, 10**6, 10**9, 1.0)}
            assert {str(n) for n in range(count)} <= queued
            for n in range(count):
                key = n.to_bytes(8, "big") + who.to_bytes(8, "big")
                assert messages.may_recall(key)
                assert await messages.recall(key) is not None


# -- a disk that fails ------------------------------------------------------------------------------------------------

FAILING_SYNC = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd) {
    const char *end = getenv("FAIL_SYNC_OF"), *when = getenv("FAIL_SYNC_WHEN");
    char link[64], path[4096];
    if (!end || !when || access(when, F_OK)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < (ssize_t) strlen(end)) return 0;
    path[n] = 0;
    return !strcmp(path + n - strlen(end), end);
}

int fdatasync(int fd) {
    if (fails(fd)) { errno = EIO; return -1; }
    return ((int (*)(int)) dlsym(RTLD_NEXT, "fdatasync"))(fd);
}

int fsync(int fd) {
    if (fails(fd)) { errno = EIO; return -1; }
    return ((int (*)(int)) dlsym(RTLD_NEXT, "fsync"))(fd);
}
"""

ON_A_FAILING_DISK = """
import asyncio, os, pathlib, sys
from bester.errors import BesterError
from bester.store.database import Database
from bester.store.messages import SqliteMessages
from bester.store.ports import Letter, MailboxBounds

BOUNDS = MailboxBounds(10**9, 10**12, 3600.0)

async def main():
    database = Database(sys.argv[1], on_lost=lambda error: print("lost", flush=True))
    store = SqliteMessages(database)
    await store.open()
    for n in range(40):
        if n == 1:
            pathlib.Path(os.environ["FAIL_SYNC_WHEN"]).touch()
        try:
            await store.deposit([Letter("alice", f"{n}-{i}", "text", b"x" * 4000) for i in range(64)], BOUNDS, 1.0)
            print("kept", n, flush=True)
        except BesterError as error:
            print(error.code, n, flush=True)
    os._exit(0)

asyncio.run(main())
"""


@pytest.fixture
def failing_sync(tmp_path: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("a library that fails is made with cc, on Linux")
    source, library = tmp_path / "sync.c", tmp_path / "sync.so"
    source.write_text(FAILING_SYNC)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def on_a_failing_disk(folder: Path, library: Path, end: str) -> list[str]:
    command = [sys.executable, "-c", ON_A_FAILING_DISK, str(folder / "bester.db")]
    more = {"LD_PRELOAD": str(library), "FAIL_SYNC_OF": end, "FAIL_SYNC_WHEN": str(folder / "fail")}
    result = subprocess.run(command, env=os.environ | more, capture_output=True, text=True, check=True)
    return result.stdout.splitlines()


async def test_nothing_is_reported_once_the_log_cannot_be_synced(tmp_path: Path, failing_sync: Path) -> None:
    told = on_a_failing_disk(tmp_path, failing_sync, "bester.db-wal")
    assert told == ["kept 0", "lost", *(f"internal {n}" for n in range(1, 40))]
    async with opened(tmp_path / "bester.db") as messages:
        assert (await messages.mailbox_size("alice")).messages >= 64
        await recount(messages)


async def test_what_was_reported_stays_where_the_log_cannot_be_carried_over(tmp_path: Path, failing_sync: Path) -> None:
    told = on_a_failing_disk(tmp_path, failing_sync, "bester.db")
    assert told == [f"kept {n}" for n in range(40)]
    async with opened(tmp_path / "bester.db") as messages:
        assert (await messages.mailbox_size("alice")).messages == 64 * 40
        await recount(messages)


# -- backups ----------------------------------------------------------------------------------------------------------


async def test_a_backup_while_it_is_written_is_one_moment(tmp_path: Path) -> None:
    source, target = tmp_path / "bester.db", tmp_path / "copy.db"
    seen: list[tuple[int, int]] = []
    async with opened(source) as messages:
        for batch in range(80):
            await messages.deposit(letters(batch), WIDE, NOW)
        copying = asyncio.ensure_future(
            asyncio.to_thread(back_up, source, target, lambda done, total: seen.append((done, total)))
        )
        during = 80
        while not copying.done():
            await messages.deposit(letters(during), WIDE, NOW)
            during += 1
        result = await copying
        for batch in range(during, during + 5):
            await messages.deposit(letters(batch), WIDE, NOW)
    assert result.bytes == target.stat().st_size
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert len(seen) > 3
    assert seen[-1][0] == seen[-1][1]
    assert {file.name for file in tmp_path.iterdir()} == {"bester.db", "copy.db"}
    async with opened(target) as copy:
        size = await copy.mailbox_size("alice")
        assert size.messages % 64 == 0
        assert 80 <= size.messages // 64 <= during
        await recount(copy)


async def test_a_first_start_from_a_backup_checks_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(tmp_path / "bester.db") as messages:
        await messages.deposit(letters(0), WIDE, NOW)
        back_up(tmp_path / "bester.db", tmp_path / "copy.db")
    assert "is being checked" not in caplog.text
    async with opened(tmp_path / "copy.db") as copy:
        assert "is being checked" in caplog.text
        assert (await copy.mailbox_size("alice")).messages == 64


def refusal(source: Path, target: Path) -> str:
    with pytest.raises(BadConfiguration) as caught:
        back_up(source, target)
    return caught.value.message


async def test_what_cannot_be_backed_up_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.write_text("the last one")
    assert "no database" in refusal(tmp_path / "nothing.db", target)
    (tmp_path / "text").write_text("Dear diary, " * 1000)
    assert "cannot be read" in refusal(tmp_path / "text", target)
    (tmp_path / "empty").touch()
    assert "empty" in refusal(tmp_path / "empty", target)
    async with opened(tmp_path / "bester.db") as messages:
        await messages.deposit(letters(0), WIDE, NOW)
    assert "No such file" in refusal(tmp_path / "bester.db", tmp_path / "nowhere" / "copy.db")
    with (tmp_path / "bester.db").open("r+b") as file:
        file.seek(200 * 1024)
        file.write(b"\xa5" * 64 * 1024)
    assert "damaged" in refusal(tmp_path / "bester.db", target)
    assert target.read_text() == "the last one"
    assert {file.name for file in tmp_path.iterdir()} == {"bester.db", "copy.db", "empty", "text"}


async def test_a_backup_that_does_not_fit_is_told(small_disk: Path, tmp_path: Path) -> None:
    async with opened(tmp_path / "bester.db") as messages:
        await messages.deposit(letters(0, 40, MIB), WIDE, NOW)
    assert "full" in refusal(tmp_path / "bester.db", small_disk / "copy.db")
    assert list(small_disk.iterdir()) == []


def test_a_backup_leaves_no_file_open(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "bester.db")) as connection:
        connection.execute("CREATE TABLE t (n)")
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    back_up(tmp_path / "bester.db", tmp_path / "copy.db")
    assert before == (len(os.listdir("/proc/self/fd")) if before else 0)
