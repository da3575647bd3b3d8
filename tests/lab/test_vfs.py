"""SQLite on a simulated disk: the real library, through the VFS."""

from __future__ import annotations

import _sqlite3
import ctypes.util
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from random import Random

import pytest
from tests.lab.disks import Machine, numbers

from bester.lab import binding
from bester.lab.disk import Disk
from bester.lab.vfs import NoVfs, simulated

FILLER = b"f" * 700


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path).running() as machine:
        yield machine


def insert(connection: sqlite3.Connection, n: int) -> None:
    connection.execute("INSERT INTO number VALUES (?, ?)", (n, FILLER))


def test_connections_share_a_log_and_see_what_was_committed(machine: Machine) -> None:
    with closing(machine.connect()) as writer, closing(machine.connect()) as reader:
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        insert(writer, 1)
        reader.execute("BEGIN")
        assert numbers(reader) == [1]
        writer.execute("BEGIN IMMEDIATE")
        insert(writer, 2)
        with pytest.raises(sqlite3.OperationalError, match="locked"), closing(machine.connect()) as third:
            third.execute("BEGIN IMMEDIATE")
        writer.execute("COMMIT")
        assert numbers(reader) == [1]
        reader.execute("COMMIT")
        assert numbers(reader) == [1, 2]
        assert list(machine.disk) == [machine.path, f"{machine.path}-wal"]
    assert list(machine.disk) == [machine.path]
    assert not list(machine.folder.iterdir())


def test_a_rollback_journal_works_too(machine: Machine) -> None:
    with closing(machine.connect(journal="DELETE")) as one, closing(machine.connect(journal="DELETE")) as other:
        insert(one, 1)
        other.execute("BEGIN")
        assert numbers(other) == [1]
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            insert(one, 2)
        other.execute("COMMIT")
        insert(one, 2)
        assert numbers(other) == [1, 2]
        assert list(machine.disk) == [machine.path]


def test_much_is_written_checkpointed_and_read_back(machine: Machine) -> None:
    with closing(machine.connect()) as connection, closing(machine.connect()) as other:
        for first in range(0, 20_000, 1000):
            connection.execute("BEGIN")
            for n in range(first, first + 1000):
                insert(connection, n)
            connection.execute("COMMIT")
        assert numbers(other) == list(range(20_000))
        connection.execute("DELETE FROM number WHERE n % 2")
        connection.execute("VACUUM")
        assert numbers(other) == list(range(0, 20_000, 2))
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_other_files_are_real(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("real") / "real.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE here (n)")
    assert path.stat().st_size > 0
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE nowhere (n)")


def test_afterwards_all_files_are_real(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for _ in range(2):
        with machine.running(), closing(machine.connect()) as connection:
            insert(connection, len(numbers(connection)))
    assert not list(tmp_path.iterdir())
    with closing(machine.connect()) as connection:
        assert numbers(connection) == []
    assert Path(machine.path).exists()


def test_one_world_at_a_time(machine: Machine) -> None:
    with pytest.raises(RuntimeError, match="one world"), Machine(machine.folder).running():
        pass


def test_a_connection_may_outlive_its_world(tmp_path: Path) -> None:
    with Machine(tmp_path).running() as machine:
        machine.connect()
        connection = machine.connections.pop()
        insert(connection, 1)
    insert(connection, 2)
    assert numbers(connection) == [1, 2]
    connection.close()


def test_time_and_randomness_are_handed_in(tmp_path: Path) -> None:
    def told() -> tuple[object, ...]:
        with Machine(tmp_path).running() as machine, closing(machine.connect()) as connection:
            machine.now = 86_400.5
            row = connection.execute("SELECT strftime('%Y-%m-%d %H:%M:%f'), hex(randomblob(8))").fetchone()
            assert isinstance(row, tuple)
            return row

    first = told()
    assert first[0] == "1970-01-02 00:00:00.500"
    assert told() == first


def life(machine: Machine) -> dict[str, bytes]:
    with suppress(sqlite3.Error):
        connection = machine.connect()
        for n in range(100):
            insert(connection, n)
    machine.lose_power()
    with closing(machine.connect()) as connection:
        insert(connection, 1000)
        return {Path(path).name: machine.disk.content(path) for path in machine.disk}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    def lived(seed: int) -> dict[str, bytes]:
        with Machine(tmp_path, seed).running() as machine:
            machine.disk.before_sync = lambda number: machine.lose_power() if number == 40 else None
            return life(machine)

    assert lived(1) == lived(1)
    assert lived(1) != lived(2)


# -- loss of power ----------------------------------------------------------------------------------------------------


def after_a_cut(tmp_path: Path, seed: int, synchronous: str, journal: str = "WAL") -> tuple[list[int], list[int]]:
    """Cuts the power at a random sync, or at the end; returns what was committed, and what is left."""
    random = Random(seed)
    at, before = random.randrange(1, 80), random.random() < 0.5
    with Machine(tmp_path, seed).running() as machine:

        def hook(number: int) -> None:
            if number == at:
                machine.lose_power()

        if before:
            machine.disk.before_sync = hook
        else:
            machine.disk.after_sync = hook
        process = machine.process
        done: list[int] = []
        try:
            connection = machine.connect(synchronous, journal)
            connection.execute("PRAGMA wal_autocheckpoint = 20").close()
            for n in range(60):
                insert(connection, n)
                done.append(n)
        except sqlite3.Error:
            assert not process.alive
        if process.alive:
            machine.lose_power()
        machine.disk.before_sync = machine.disk.after_sync = None
        with closing(machine.connect()) as again:
            assert again.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            left = numbers(again)
        return done, left


# Without EXTRA, a journal that was removed can come back, because its folder was not synced, and undo the commit.
@pytest.mark.parametrize(("synchronous", "journal"), [("FULL", "WAL"), ("EXTRA", "DELETE")])
def test_with_full_sync_nothing_committed_is_lost(tmp_path: Path, synchronous: str, journal: str) -> None:
    for seed in range(150):
        done, left = after_a_cut(tmp_path, seed, synchronous, journal)
        assert left[: len(done)] == done, seed
        assert len(left) <= len(done) + 1, seed


def test_with_less_sync_some_of_it_is_lost(tmp_path: Path) -> None:
    lost = 0
    for seed in range(50):
        done, left = after_a_cut(tmp_path, seed, "NORMAL")
        assert left == list(range(len(left)))
        lost += len(done) - len(left) if len(left) < len(done) else 0
    assert lost > 100


def test_without_sync_even_the_file_is_damaged(tmp_path: Path) -> None:
    damaged = 0
    for seed in range(30):
        try:
            done, left = after_a_cut(tmp_path, seed, "OFF")
            damaged += left[: len(done)] != done
        except (sqlite3.DatabaseError, AssertionError):
            damaged += 1
    assert damaged > 20


# -- failures ---------------------------------------------------------------------------------------------------------


def test_a_failing_sync_fails_the_commit_or_the_checkpoint_and_loses_nothing_before(tmp_path: Path) -> None:
    failed = 0
    for nth in range(1, 41):
        with Machine(tmp_path, nth).running() as machine:
            connection = machine.connect()
            connection.execute("PRAGMA wal_autocheckpoint = 10").close()
            machine.disk.fail_sync(nth)
            done: list[int] = []
            for n in range(30):
                try:
                    insert(connection, n)
                except sqlite3.OperationalError as error:
                    failed += error.sqlite_errorcode == sqlite3.SQLITE_IOERR_FSYNC
                    break
                done.append(n)
            assert machine.disk.failures == 1
            machine.lose_power()
            with closing(machine.connect()) as again:
                assert again.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                assert numbers(again)[: len(done)] == done
    assert failed > 20


def test_reads_and_writes_that_fail_are_told(machine: Machine) -> None:
    with closing(machine.connect()) as connection:
        machine.disk.fail_write()
        with pytest.raises(sqlite3.OperationalError) as raised:
            insert(connection, 1)
        assert raised.value.sqlite_errorcode == sqlite3.SQLITE_IOERR_WRITE
        insert(connection, 2)
    with closing(machine.connect()) as connection:
        connection.execute("PRAGMA cache_size = 0").close()
        machine.disk.fail_read()
        with pytest.raises(sqlite3.OperationalError) as raised:
            numbers(connection)
    assert raised.value.sqlite_errorcode == sqlite3.SQLITE_IOERR_READ


def test_a_full_disk_refuses_until_there_is_room(machine: Machine) -> None:
    with closing(machine.connect()) as connection:
        machine.disk.capacity = machine.disk.used() + 200_000
        for n in range(30):
            insert(connection, n)
        with pytest.raises(sqlite3.OperationalError) as raised:
            connection.execute("INSERT INTO number SELECT n + 1000, filler FROM number")
        assert raised.value.sqlite_errorcode == sqlite3.SQLITE_FULL
        assert numbers(connection) == list(range(30))
        machine.disk.capacity = None
        insert(connection, 1000)
        assert numbers(connection) == [*range(30), 1000]


def test_what_a_hook_raises_is_raised_at_the_end(tmp_path: Path) -> None:
    def hook(number: int) -> None:
        raise LookupError(f"sync {number}")

    with pytest.raises(LookupError, match="sync "):
        _commit_with(Machine(tmp_path), hook)


def _commit_with(machine: Machine, hook: Callable[[int], None]) -> None:
    with machine.running(), closing(machine.connect()) as connection:
        machine.disk.before_sync = hook
        with pytest.raises(sqlite3.OperationalError, match="disk I/O"):
            insert(connection, 1)
        machine.disk.before_sync = None


# -- the death of a process -------------------------------------------------------------------------------------------


def test_a_killed_process_changes_nothing_and_holds_no_lock(machine: Machine) -> None:
    dead = machine.connect()
    insert(dead, 1)
    dead.execute("BEGIN IMMEDIATE")
    insert(dead, 2)
    machine.kill()
    before = machine.disk.content(f"{machine.path}-wal")
    with pytest.raises(sqlite3.OperationalError):
        dead.execute("COMMIT")
    assert machine.disk.content(f"{machine.path}-wal") == before
    with closing(machine.connect()) as alive:
        assert numbers(alive) == [1]
        insert(alive, 3)
        dead.close()  # as a process that is gone never does
        insert(alive, 4)
        assert numbers(alive) == [1, 3, 4]
    with closing(machine.connect()) as alive:
        assert numbers(alive) == [1, 3, 4]


def test_the_lock_of_a_killed_reader_does_not_stop_a_checkpoint(machine: Machine) -> None:
    dead = machine.connect()
    insert(dead, 1)
    dead.execute("BEGIN")
    assert numbers(dead) == [1]
    machine.kill()
    with closing(machine.connect()) as alive:
        insert(alive, 2)
        assert alive.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)


@pytest.mark.parametrize("hook", ["before_sync", "after_sync"])
def test_a_process_can_die_in_the_middle_of_a_commit(machine: Machine, hook: str) -> None:
    dead = machine.connect()
    insert(dead, 1)
    setattr(machine.disk, hook, lambda _: machine.kill())
    with pytest.raises(sqlite3.OperationalError):
        insert(dead, 2)
    setattr(machine.disk, hook, None)
    with closing(machine.connect()) as alive:  # what was written is in the system's memory, synced or not
        assert numbers(alive) == [1, 2]


def test_the_death_of_one_process_does_not_disturb_another(machine: Machine) -> None:
    other = machine.process
    with closing(machine.connect()) as operator:
        machine.process = type(other)()
        dead = machine.connect()
        insert(dead, 1)
        dead.execute("BEGIN IMMEDIATE")
        machine.kill()
        insert(operator, 2)
        assert numbers(operator) == [1, 2]
        dead.close()
        insert(operator, 3)
        with closing(machine.connect()) as next_one:
            assert numbers(next_one) == [1, 2, 3]


# -- the library ------------------------------------------------------------------------------------------------------


def test_a_library_without_the_functions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sqlite3, "__file__", ctypes.util.find_library("c"))
    with pytest.raises(NoVfs, match="cannot be found") as raised:
        binding.library()
    assert "sqlite3_vfs_find" in raised.value.reason


def test_nothing_is_left_in_a_new_program() -> None:
    text = (
        "import sqlite3, random\n"
        "from bester.lab.disk import Disk\n"
        "from bester.lab.vfs import simulated\n"
        "class Alive: alive = True\n"
        "disk = Disk(random.Random(1))\n"
        "with simulated(lambda _: disk, Alive, random.Random(1), lambda: 0.0):\n"
        "    left = sqlite3.connect('left.db')\n"
        "    left.execute('CREATE TABLE one (n)')\n"
        "print(disk.used() > 0)\n"
        "left.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, cwd=os.sep)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_commit_is_quick(machine: Machine) -> None:
    with closing(machine.connect()) as connection:
        took_s = []
        for n in range(500):
            began = time.perf_counter()
            insert(connection, n)
            took_s.append(time.perf_counter() - began)
    assert sorted(took_s)[250] < 0.0005


def test_disks_may_be_several(tmp_path: Path) -> None:
    disks = {str(tmp_path / name): Disk(Random(name)) for name in ("a", "b")}
    process = Machine(tmp_path).process
    with simulated(lambda path: disks.get(os.path.dirname(path)), lambda: process, Random(1), lambda: 0.0):
        for folder, disk in disks.items():
            os.mkdir(folder)
            with closing(sqlite3.connect(f"{folder}/one.db")) as connection:
                connection.execute("CREATE TABLE here (n)")
            assert list(disk) == [f"{folder}/one.db"]
