"""The file of receipts: it may be damaged, too new, or left by a crash, and nothing comes to a stop."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.nats import NatsServer

from bester.bus.connection import Bus, Fault
from bester.bus.options import BusOptions
from bester.store.jetstream.names import Names
from bester.store.jetstream.receipts import JetStreamReceipts, QueryLimits
from bester.store.receipts import MAX_PENDING, Bounds, Receipt, ReceiptStore, SqliteReceipts

BOUNDS = Bounds(7, 1000, 0)


def receipt(id: str, outcome: str = "good", at: float | None = None) -> Receipt:
    now = time.time() if at is None else at
    return Receipt(now, "0" * 31 + "1", "t", "chat", id, outcome, "", 0.5, "", "")


async def kept(store: ReceiptStore) -> list[str]:
    return [one.message_id for one in await store.find()]


Open = Callable[[], ReceiptStore]


@pytest.fixture(params=["sqlite", "jetstream"])
async def opening(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens a store again and again, each time with what it had; the contract of them all is tested with this."""
    opened: list[ReceiptStore] = []
    if request.param == "sqlite":

        def make() -> ReceiptStore:
            return SqliteReceipts(tmp_path / "receipts", time.time)
    else:
        nats: NatsServer = request.getfixturevalue("nats")
        bus = Bus(BusOptions((nats.url,)), "test")
        await bus.open()
        names = Names(tmp_path.name)

        def make() -> ReceiptStore:
            return JetStreamReceipts(bus, names, "n1", BOUNDS)

    def open() -> ReceiptStore:
        store = make()
        store.open()
        opened.append(store)
        return store

    yield open
    for store in opened:
        await store.close()
    if request.param == "jetstream":
        await bus.close()


# -- the contract ----------------------------------------------------------------------------------------------------


async def test_what_was_given_is_found_the_newest_first(opening: Open) -> None:
    for number in "12":
        store = opening()
        store.add(lambda number=number: [receipt(number)], 1, BOUNDS)  # type: ignore[misc]
        await store.settle()
        await store.close()
        assert await kept(store) == []  # closed
        assert store.lost == 0
        store.add(lambda: [receipt("late")], 1, BOUNDS)
        assert store.lost == 1
    assert await kept(opening()) == ["2", "1"]


async def test_rows_are_bounded(opening: Open) -> None:
    store = opening()
    store.add(lambda: [receipt(str(number)) for number in range(5)], 5, BOUNDS)
    assert await kept(store) == ["4", "3", "2", "1", "0"]
    store.add(lambda: [receipt("5")], 1, Bounds(7, 2, 0))
    assert await kept(store) == ["5", "4"]


async def test_they_are_found_by_all_that_is_known_of_them(opening: Open) -> None:
    store = opening()
    now = time.time()
    rows = [
        receipt("1", at=now - 9)._replace(sender="g", trace="a" * 32),
        receipt("2", "noHandler", at=now - 8)._replace(type="mail"),
        receipt("3", "noHandler", at=now - 7),
        receipt("4", "internal", at=now - 6)._replace(sender="g"),
        receipt("5", "noHandler", at=now - 5),
        receipt("6", at=now - 4)._replace(recipients='{"counts":{"held":1},"first":[{"to":"g","status":"held"}]}'),
    ]
    for some in (rows[:3], rows[3:]):
        store.add(lambda some=some: some, 3, BOUNDS)  # type: ignore[misc]

    async def ids(**wanted: Any) -> str:
        return "".join(one.message_id for one in await store.find(**wanted))

    assert await ids() == "654321"
    assert await ids(limit=2) == "65"
    assert await ids(id="3") == "3"
    assert await ids(id="a" * 32) == "1"
    assert await ids(id="a" * 8) == "1"
    assert await ids(id="a" * 7) == ""
    assert await ids(sender="g") == "41"
    assert await ids(type="mail") == "2"
    assert await ids(outcome="good") == "61"
    assert await ids(outcome="bad") == "5432"
    assert await ids(outcome="noHandler", limit=2) == "53"
    assert await ids(outcome="held") == "6"
    assert await ids(since=now - 6.5) == "654"
    assert await ids(outcome="bad", sender="g", since=now - 9.5) == "4"
    assert (await store.find()).looked_since is None
    causes = await store.causes(0.0)
    assert [(one.code, one.type, one.times, one.last.message_id) for one in causes] == [
        ("noHandler", "chat", 2, "5"),
        ("internal", "chat", 1, "4"),
        ("noHandler", "mail", 1, "2"),
    ]
    assert [one.times for one in await store.causes(now - 6.5)] == [1, 1]


async def test_what_cannot_be_made_is_counted(opening: Open) -> None:
    store = opening()

    def broken() -> list[Receipt]:
        raise ValueError("no receipts")

    store.add(broken, 3, BOUNDS)
    store.add(lambda: [receipt("1")], 1, BOUNDS)
    assert await kept(store) == ["1"]
    assert store.lost == 3


# -- JetStream -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def bus(nats: NatsServer) -> AsyncIterator[Bus]:
    made = Bus(BusOptions((nats.url,)), "test")
    await made.open()
    yield made
    await made.close()


async def test_nodes_find_each_others(bus: Bus, tmp_path: Path) -> None:
    limits = QueryLimits(min_window=2, page_bytes=300)
    names = Names(tmp_path.name)
    stores = [JetStreamReceipts(bus, names, node, BOUNDS, limits=limits) for node in ("n1", "n2")]
    now = time.time() - 100
    for number in range(30):
        outcome = "good" if number % 10 else "internal"
        store = stores[number % 2]
        made = receipt(str(number), outcome, now + number)
        store.add(lambda made=made: [made], 1, BOUNDS)  # type: ignore[misc]
        await store.settle()
    for store in stores:
        found = await store.find()
        assert [(one.message_id, one.node) for one in found] == [
            (str(number), f"n{number % 2 + 1}") for number in range(29, -1, -1)
        ]
        assert found.looked_since is None
        assert [one.message_id for one in await store.find(outcome="bad")] == ["20", "10", "0"]
        assert [(one.times, one.last.message_id) for one in await store.causes(0.0)] == [(3, "20")]
    stores.append(JetStreamReceipts(bus, names, "n3", BOUNDS, limits=replace(limits, bytes=500)))
    found = await stores[2].find(sender="nobody")
    assert (list(found), found.looked_since is not None and now < found.looked_since < now + 29) == ([], True)
    for store in stores:
        await store.close()


async def test_the_stream_is_bounded(bus: Bus, tmp_path: Path) -> None:
    bounds = Bounds(7, 50, 0)
    hours = count(step=3600)
    limits = QueryLimits(row_bytes=100)
    store = JetStreamReceipts(bus, Names(tmp_path.name), "n1", bounds, limits=limits, clock=lambda: float(next(hours)))
    for number in range(100):
        store.add(lambda number=number: [receipt(str(number))], 1, bounds)  # type: ignore[misc]
        await store.settle()
    names = await kept(store)
    assert 15 < len(names) < 50
    assert names == [str(number) for number in range(99, 99 - len(names), -1)]
    assert (await store.stream.state())["bytes"] <= 50 * 100
    await store.close()


async def test_a_batch_is_split_for_nats(bus: Bus, tmp_path: Path) -> None:
    store = JetStreamReceipts(bus, Names(tmp_path.name), "n1", BOUNDS)
    most = bus.max_payload
    large = [receipt(str(number))._replace(route="x" * (most // 3)) for number in range(5)]
    large.append(receipt("5")._replace(route="x" * most))
    store.add(lambda: large, 6, BOUNDS)
    found = await store.find()
    assert [(one.message_id, len(one.route)) for one in found] == [
        ("5", 0),
        *((str(number), most // 3) for number in (4, 3, 2, 1, 0)),
    ]
    await store.close()


async def test_without_nats_they_are_lost_and_nobody_waits(
    bus: Bus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = JetStreamReceipts(bus, Names(tmp_path.name), "n1", BOUNDS)
    store.add(lambda: [receipt("1")], 1, BOUNDS)
    await store.settle()
    await bus.fail(Fault.DOWN)
    for number in range(MAX_PENDING + 2):
        store.add(lambda number=number: [receipt(str(number))], 1, BOUNDS)  # type: ignore[misc]
    found = await store.find()
    assert (list(found), found.looked_since is not None, store.lost) == ([], True, MAX_PENDING + 2)
    assert caplog.text.count("receipts are not kept for now") == 1
    bus.recover()
    store.add(lambda: [receipt("2")], 1, BOUNDS)
    assert await kept(store) == ["2", "1"]
    store.add(lambda: [receipt("3")], 1, Bounds(7, 0, 0))  # none are to be kept
    assert await kept(store) == []
    await store.close()


# -- SQLite ----------------------------------------------------------------------------------------------------------


async def test_they_are_kept_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "receipts"
    for number in "12":
        store = SqliteReceipts(path, time.time)
        store.open()
        store.add(lambda number=number: [receipt(number)], 1, BOUNDS)  # type: ignore[misc]
        await store.close()
    store = SqliteReceipts(path, time.time)
    assert await kept(store) == ["2", "1"]
    await store.close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert await kept(store) == []  # closed


async def test_days_are_bounded_whatever_the_system_clock_says(tmp_path: Path) -> None:
    clock = [1000.0]
    store = SqliteReceipts(tmp_path / "receipts", lambda: clock[0])
    for number, at in enumerate((1.0, 2.0**31)):
        store.add(lambda number=number, at=at: [receipt(str(number), at=at)], 1, BOUNDS)  # type: ignore[misc]
    assert await kept(store) == ["1", "0"]
    clock[0] += 7 * 86_400 + 1
    store.add(lambda: [receipt("2", at=1.0)], 1, BOUNDS)
    assert await kept(store) == ["2"]
    await store.close()


async def test_a_file_of_the_first_version_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "receipts"
    store = SqliteReceipts(path, time.time)
    store.add(lambda: [receipt("1")], 1, BOUNDS)
    await store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE receipts DROP COLUMN steady")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    store = SqliteReceipts(path, time.time)
    store.add(lambda: [receipt("2")], 1, BOUNDS)
    assert await kept(store) == ["2", "1"]
    await store.close()
    assert not list(tmp_path.glob("*.damaged-*"))


@pytest.mark.parametrize("damage", ["garbage", "newer", "another table", "a page"])
async def test_a_damaged_file_is_moved_aside(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "receipts"
    store = SqliteReceipts(path, time.time)
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
    store = SqliteReceipts(path, time.time)
    with caplog.at_level(logging.WARNING):
        store.add(lambda: [receipt("new")], 1, BOUNDS)
        assert await kept(store) == ["new"]
    await store.close()
    assert "moved to" in caplog.text
    assert list(tmp_path.glob("receipts.damaged-*"))
    assert store.lost == 0


async def test_what_cannot_be_kept_is_counted(tmp_path: Path) -> None:
    store = SqliteReceipts(tmp_path / "nowhere" / "receipts", time.time)
    store.add(lambda: [receipt("1")], 1, Bounds(7, 1000, 0))
    assert await kept(store) == []
    assert store.lost == 1
    await store.close()
    store = SqliteReceipts(tmp_path / "receipts", time.time)
    store.add(lambda: [receipt("1")], 1, Bounds(7, 1000, 2**62))  # what is free is for messages
    assert await kept(store) == []
    assert store.lost == 1
    await store.close()


KILLED = """
import asyncio, sys, time
from bester.store.receipts import SqliteReceipts
from tests.store.test_receipts import BOUNDS, receipt
async def main():
    store = SqliteReceipts(sys.argv[1], time.time)
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
    store = SqliteReceipts(path, time.time)
    assert len(await store.find(limit=1000)) >= 20
    assert not list(tmp_path.glob("*.damaged-*"))
    await store.close()
