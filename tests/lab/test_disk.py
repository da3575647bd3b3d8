"""The simulated disk: what is read, and what a loss of power leaves."""

from __future__ import annotations

import errno
from collections.abc import Callable
from random import Random

import pytest

from bester.lab.disk import SECTOR, Disk

A, B = b"a" * SECTOR, b"b" * SECTOR
PATH = "/machine/file"


def left(change: Callable[[Disk], None], seeds: int = 60) -> set[bytes | None]:
    """Returns everything that a loss of power can leave of a file of four sectors after a change; None: no file."""
    found: set[bytes | None] = set()
    for seed in range(seeds):
        disk = Disk(Random(seed))
        disk.put(PATH, A * 4)
        change(disk)
        disk.cut()
        found.add(disk.content(PATH) if disk.find(PATH) else None)
    return found


def write(disk: Disk, offset: int, content: bytes, path: str = PATH) -> None:
    disk.write(disk.create(path), offset, content)


def sync(disk: Disk, path: str = PATH) -> None:
    disk.sync(disk.create(path))


def test_what_was_synced_is_left_and_nothing_else_for_certain() -> None:
    def unsynced(disk: Disk) -> None:
        write(disk, SECTOR, B * 2)
        assert disk.content(PATH) == A + B * 2 + A

    def synced(disk: Disk) -> None:
        unsynced(disk)
        sync(disk)

    assert left(unsynced) == {A + one + other + A for one in (A, B) for other in (A, B)}
    assert left(synced) == {A + B * 2 + A}


def test_a_write_into_a_sector_is_there_or_not() -> None:
    mixed = A[:100] + b"bb" + A[102:]
    assert left(lambda disk: write(disk, 100, b"bb")) == {A * 4, mixed + A * 3}


def test_a_file_that_grew_may_have_its_old_size_or_zeros() -> None:
    zeros = bytes(SECTOR)
    assert left(lambda disk: write(disk, 4 * SECTOR, B)) == {A * 4, A * 4 + zeros, A * 4 + B}


def test_a_file_that_was_cut_may_be_as_before() -> None:
    def cut(disk: Disk) -> None:
        disk.create(PATH).truncate(0)
        write(disk, 0, B)

    assert left(cut) == {A * 4, b"", bytes(SECTOR), B}

    def cut_and_synced(disk: Disk) -> None:
        cut(disk)
        sync(disk)

    assert left(cut_and_synced) == {B}


def test_names_are_durable_when_their_folder_was_synced() -> None:
    other = "/machine/other"

    def made(disk: Disk) -> None:
        disk.remove(PATH)
        write(disk, 0, B, other)
        sync(disk, other)

    def others(synced: bool) -> set[tuple[bool, bool]]:
        found = set()
        for seed in range(30):
            disk = Disk(Random(seed))
            disk.put(PATH, A)
            made(disk)
            if synced:
                disk.sync_folder("/machine")
            disk.cut()
            found.add((PATH in disk, other in disk))
            assert disk.find(other) is None or disk.content(other) == B
        return found

    assert others(False) == {(False, False), (False, True), (True, False), (True, True)}
    assert others(True) == {(False, True)}


def test_a_sync_that_fails_is_not_made_good_by_a_later_one() -> None:
    def failed(disk: Disk) -> None:
        write(disk, 0, B)
        disk.fail_sync(2)
        sync(disk)
        write(disk, SECTOR, B)
        with pytest.raises(OSError, match="Input/output") as raised:
            sync(disk)
        assert raised.value.errno == errno.EIO
        write(disk, 2 * SECTOR, B)
        sync(disk)
        assert disk.content(PATH) == B * 3 + A
        assert (disk.syncs, disk.failures) == (3, 1)

    assert left(failed) == {B + A + B + A}


def test_reads_and_writes_fail_when_told() -> None:
    disk = Disk(Random(1))
    disk.put(PATH, A)
    file = disk.create(PATH)
    disk.fail_write(2)
    write(disk, 0, B)
    with pytest.raises(OSError, match="Input/output"):
        write(disk, 0, A)
    disk.fail_read()
    with pytest.raises(OSError, match="Input/output"):
        disk.read(file, 0, 10)
    assert disk.read(file, 0, SECTOR) == B


def test_only_so_much_fits() -> None:
    disk = Disk(Random(1))
    disk.capacity = 3 * SECTOR
    write(disk, 0, A * 2)
    write(disk, 0, B * 2)
    with pytest.raises(OSError, match="No space") as raised:
        write(disk, SECTOR, A * 3)
    assert raised.value.errno == errno.ENOSPC
    assert (disk.used(), disk.free()) == (2 * SECTOR, SECTOR)
    disk.capacity = 4 * SECTOR
    write(disk, SECTOR, A * 3)
    assert disk.free() == 0


def test_a_slow_disk_owes_its_time() -> None:
    disk = Disk(Random(1))
    disk.sync_s, disk.byte_s = 0.5, 0.001
    write(disk, 0, bytes(1000))
    disk.read(disk.create(PATH), 0, 500)
    sync(disk)
    assert disk.settle() == pytest.approx(2.0)
    assert disk.settle() == 0.0


def test_hooks_stand_before_and_after_what_a_sync_does() -> None:
    durable: list[tuple[str, int, bytes]] = []
    disk = Disk(Random(1))
    disk.put(PATH, A)
    file = disk.create(PATH)
    disk.before_sync = lambda number: durable.append(("before", number, bytes(file.durable[:1])))
    disk.after_sync = lambda number: durable.append(("after", number, bytes(file.durable[:1])))
    write(disk, 0, B)
    sync(disk)
    assert durable == [("before", 1, b"a"), ("after", 1, b"b")]


def test_of_a_process_that_died_before_its_sync_nothing_is_durable() -> None:
    disk = Disk(Random(1))
    disk.put(PATH, A)
    dead: list[int] = []
    disk.before_sync = dead.append
    write(disk, 0, B)
    disk.sync(disk.create(PATH), lambda: bool(dead))
    assert disk.create(PATH).durable == A
