"""The file of receipts: it may be damaged, too new, or left by a crash, and nothing comes to a stop."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bester.store.receipts import Bounds, Receipt, SqliteReceipts

BOUNDS = Bounds(7, 1000, 0)


def receipt(id: str, outcome: str = "good", at: float | None = None) -> Receipt:
    now = time.time() if at is None else at
    return Receipt(now, "0" * 31 + "1", "t", "chat", id, outcome, "", 0.5, "", "")


async def kept(store: SqliteReceipts) -> list[str]:
    return [one.message_id for one in await store.find()]


async def test_they_are_kept_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "receipts"
    for number in "12":
        store = SqliteReceipts(path)
        store.open()
        store.add(lambda number=number: [receipt(number)], 1, BOUNDS)  # type: ignore[misc]
        await store.close()
    store = SqliteReceipts(path)
    assert await kept(store) == ["2", "1"]
    await store.close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert await kept(store) == []  # closed


async def test_rows_and_days_are_bounded(tmp_path: Path) -> None:
    store = SqliteReceipts(tmp_path / "receipts")
    store.add(lambda: [receipt("old", at=1.0), *(receipt(str(number)) for number in range(5))], 6, BOUNDS)
    assert await kept(store) == ["4", "3", "2", "1", "0"]
    store.add(lambda: [receipt("5")], 1, Bounds(7, 2, 0))
    assert await kept(store) == ["5", "4"]
    await store.close()


@pytest.mark.parametrize("damage", ["garbage", "newer", "another table", "a page"])
async def test_a_damaged_file_is_moved_aside(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "receipts"
    store = SqliteReceipts(path)
    store.add(lambda: [receipt(str(number)) for number in range(1000)], 1000, BOUNDS)
    await store.close()
    if damage == "garbage":
        path.write_bytes(b"no database" * 1000)
    elif damage == "a page":
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(path.stat().st_size - 4096))
        Path(f"{path}-wal").touch()  # as after a crash
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99" if damage == "newer" else "DROP TABLE receipts")
        connection.close()
    store = SqliteReceipts(path)
    with caplog.at_level(logging.WARNING):
        store.add(lambda: [receipt("new")], 1, BOUNDS)
        assert await kept(store) == ["new"]
    await store.close()
    assert "moved to" in caplog.text
    assert list(tmp_path.glob("receipts.damaged-*"))
    assert store.lost == 0


async def test_what_cannot_be_kept_is_counted(tmp_path: Path) -> None:
    store = SqliteReceipts(tmp_path / "nowhere" / "receipts")
    store.add(lambda: [receipt("1")], 1, Bounds(7, 1000, 0))
    assert await kept(store) == []
    assert store.lost == 1
    await store.close()
    store = SqliteReceipts(tmp_path / "receipts")
    store.add(lambda: [receipt("1")], 1, Bounds(7, 1000, 2**62))  # what is free is for messages
    assert await kept(store) == []
    assert store.lost == 1
    await store.close()


KILLED = """
import asyncio, sys
from bester.store.receipts import SqliteReceipts
from tests.store.test_receipts import BOUNDS, receipt
async def main():
    store = SqliteReceipts(sys.argv[1])
    number = 0
    while True:
        store.add(lambda: [receipt(str(number))], 1, BOUNDS)
        number += 1
        if await store.find(limit=1):
            print(number, flush=True)
asyncio.run(main())
"""


async def test_a_killed_process_leaves_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "receipts"
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": f"{root / 'src'}:{root}"},
    ) as process:
        assert process.stdout is not None
        written = 0
        while written < 20:
            written = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    store = SqliteReceipts(path)
    assert len(await store.find(limit=1000)) >= 20
    assert not list(tmp_path.glob("*.damaged-*"))
    await store.close()
