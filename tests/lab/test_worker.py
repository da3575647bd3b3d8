"""The store of a server in the lab: its worker on the loop, its files on a simulated disk."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.lab.disks import Machine

from bester.errors import BadConfiguration, Internal, StorageFull
from bester.lab.filesystem import FileSystem
from bester.lab.worker import LabWorker
from bester.store.backup import back_up
from bester.store.database import Database
from bester.store.receipts import Bounds, Receipt, SqliteReceipts
from bester.store.worker import Resolve, make_worker

NUMBERS = (("CREATE TABLE number (n INTEGER PRIMARY KEY, filler BLOB)",),)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    system = FileSystem(machine.find, machine.running_process)
    with machine.running(), monkeypatch.context() as patched:
        for (module, name), replacement in system.replacements().items():
            patched.setattr(f"{module}.{name}", replacement)
        yield machine
        system.close()


@pytest.fixture
def in_the_lab(machine: Machine) -> Iterator[Machine]:
    workers: list[LabWorker] = []

    def make(resolve: Resolve) -> LabWorker:
        workers.append(LabWorker(resolve, Random(1), machine.disk))
        return workers[-1]

    before = make_worker.set(make)
    yield machine
    make_worker.reset(before)
    for worker in workers:  # of killed processes: a collector might close them on another thread
        worker.abandon()


async def opened(machine: Machine, **options: Any) -> Database:
    database = Database(machine.path, NUMBERS, **options)
    await database.open()
    return database


def insert(number: int, size: int = 10) -> Callable[[sqlite3.Connection], int]:
    def work(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO number VALUES (?, ?)", (number, bytes(size)))
        return number

    return work


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [n for (n,) in connection.execute("SELECT n FROM number ORDER BY n")]


async def test_a_thread_can_have_a_simulated_disk(machine: Machine) -> None:
    database = await opened(machine)
    await asyncio.gather(*(database.write(insert(n)) for n in range(100)))
    await database.close()
    machine.lose_power()
    again = await opened(machine)
    assert await again.read(numbers) == list(range(100))
    await again.close()


async def test_everything_runs_on_the_loop(in_the_lab: Machine) -> None:
    threads: set[int] = set()

    def note(_: sqlite3.Connection) -> None:
        threads.add(threading.get_ident())

    database = await opened(in_the_lab)
    await database.write(note)
    assert threads == {threading.get_ident()}
    assert database.waiting == 0
    await database.close()
    await database.close()
    with pytest.raises(Internal, match="closed"):
        database.write(note)
    assert list(in_the_lab.disk) == [in_the_lab.path]
    assert in_the_lab.folder.joinpath("numbers.db").stat().st_size > 0


async def test_what_was_submitted_in_a_turn_is_one_commit(in_the_lab: Machine) -> None:
    database = await opened(in_the_lab)
    order: list[int] = []
    writes = [database.write(insert(n)) for n in range(50)]
    for write in writes:
        write.add_done_callback(lambda done: order.append(done.result()))
    assert database.waiting == 50
    await asyncio.gather(*writes)
    assert order == list(range(50))
    assert sum(database.commits) == 1
    await database.close()


async def test_no_batch_holds_more_than_its_share(in_the_lab: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bester.store.worker.MAX_BATCH", 10)
    database = await opened(in_the_lab)
    writes = [database.write(insert(n)) for n in range(35)]
    closing_it = asyncio.ensure_future(database.close())
    assert await asyncio.gather(*writes) == list(range(35))
    await closing_it
    assert sum(database.commits) == 4


async def test_a_slow_disk_is_waited_for(in_the_lab: Machine) -> None:
    database = await opened(in_the_lab)
    in_the_lab.disk.sync_s = 0.2
    began = asyncio.get_running_loop().time()
    await database.write(insert(1))
    assert asyncio.get_running_loop().time() - began >= 0.2
    in_the_lab.disk.sync_s = 0.0
    await database.close()


async def test_after_a_kill_the_next_start_has_the_lock_and_what_was_committed(in_the_lab: Machine) -> None:
    killed = await opened(in_the_lab)
    with pytest.raises(BadConfiguration, match="held by another process"):
        await opened(in_the_lab)
    await killed.write(insert(1))
    in_the_lab.kill()
    database = await opened(in_the_lab)
    assert await database.read(numbers) == [1]
    with pytest.raises(Internal):
        await killed.write(insert(2))
    with pytest.raises(BadConfiguration, match="held by another process"):
        await opened(in_the_lab)
    await database.write(insert(3))
    await database.close()
    database = await opened(in_the_lab)
    assert await database.read(numbers) == [1, 3]
    await database.close()


@pytest.mark.parametrize("seed", range(8))
async def test_what_was_reported_is_there_after_any_loss_of_power(in_the_lab: Machine, seed: int) -> None:
    machine, random = in_the_lab, Random(seed)
    reported: list[int] = []
    for life in range(4):
        database = await opened(machine)
        assert set(await database.read(numbers)) >= set(reported)
        at = machine.disk.syncs + random.randrange(1, 30)
        process = machine.process

        def cut(number: int, at: int = at) -> None:
            if number == at:
                machine.lose_power()

        machine.disk.before_sync, machine.disk.after_sync = random.choice([(cut, None), (None, cut)])
        for n in range(life * 100, life * 100 + 30):
            try:
                reported.append(await database.write(insert(n, 3000)))
            except Internal:
                break
        machine.disk.before_sync = machine.disk.after_sync = None
        if process.alive:
            machine.lose_power()
    database = await opened(machine)
    assert set(await database.read(numbers)) >= set(reported)
    assert reported
    await database.close()


async def test_a_commit_of_unknown_outcome_is_told_and_ends_the_service(in_the_lab: Machine) -> None:
    told: list[BaseException] = []
    database = await opened(in_the_lab, on_lost=told.append)
    in_the_lab.disk.fail_sync()
    with pytest.raises(Internal):
        await database.write(insert(1))
    assert len(told) == 1
    with pytest.raises(Internal):
        await database.read(numbers)
    await database.close()


async def written(database: Database) -> int:
    """Writes until the disk is full; returns how often it could."""
    for n in range(1000):
        try:
            await database.write(insert(n, 10_000), adds=True)
        except StorageFull:
            return n
    raise AssertionError("it is never full")


async def test_a_full_disk_refuses_what_adds_and_serves_the_rest(in_the_lab: Machine) -> None:
    disk = in_the_lab.disk
    disk.capacity = 3_000_000
    database = await opened(in_the_lab, reserve=1_000_000)
    done = await written(database)
    assert 10 < done < 250
    assert os.path.exists(f"{in_the_lab.path}-ballast")
    disk.capacity = disk.used()
    assert os.statvfs(in_the_lab.path).f_bavail == 0
    await database.write(lambda connection: connection.execute("DELETE FROM number WHERE n < 5").close())
    assert not os.path.exists(f"{in_the_lab.path}-ballast")
    disk.capacity = None
    await asyncio.sleep(0.1)
    await database.write(insert(1000, 10_000), adds=True)
    assert await database.read(numbers) == [*range(5, done), 1000]
    await database.close()


async def test_a_backup_is_a_file_of_the_simulated_disk(in_the_lab: Machine) -> None:
    database = await opened(in_the_lab)
    await database.write(insert(1))
    target = in_the_lab.folder / "copy.db"
    done = back_up(Path(in_the_lab.path), target)
    assert done.bytes == target.stat().st_size == len(in_the_lab.disk.content(str(target)))
    await database.close()
    in_the_lab.lose_power()
    with closing(sqlite3.connect(target)) as copy:
        assert numbers(copy) == [1]


async def test_receipts_are_on_the_simulated_disk(in_the_lab: Machine) -> None:
    path = in_the_lab.folder / "receipts.db"
    bounds = Bounds(days=1.0, rows=1000, reserve=1)
    receipt = Receipt(1.0, "0" * 32, "alice", "chat", "1", "good", "", 1.0, "", "")
    receipts = SqliteReceipts(path, lambda: 1.0)
    receipts.open()
    receipts.add(lambda: [receipt], 1, bounds)
    await receipts.settle()
    assert await receipts.find() == [receipt]
    in_the_lab.kill()
    receipts.add(lambda: [receipt], 1, bounds)
    await receipts.settle()
    assert receipts.lost == 1
    await receipts.close()
    again = SqliteReceipts(path, lambda: 1.0)
    again.open()
    assert await again.find() == [receipt]
    await again.close()
    damaged = bytearray(in_the_lab.disk.content(str(path)))
    damaged[:100] = bytes(100)
    in_the_lab.disk.put(str(path), bytes(damaged))
    moved = SqliteReceipts(path, lambda: 1.0)
    moved.open()
    assert await moved.find() == []
    assert len([name for name in in_the_lab.disk if ".damaged-" in name]) == 1
    await moved.close()


async def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    async def lived() -> bytes:
        with Machine(tmp_path).running() as machine:
            make_worker.set(partial(LabWorker, random=Random(1), disk=machine.disk))
            database = await opened(machine)
            for n in range(20):
                await database.write(insert(n))
            content = machine.disk.content(f"{machine.path}-wal")
            await database.close()
            return content

    assert await lived() == await lived()
