"""The gadget's file: what is in it ends by the time that passes, whatever the system clock is set to."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from bester_gadgets.mail import store as module
from bester_gadgets.mail.compose import Composed
from bester_gadgets.mail.store import Store

YEARS_S = 30 * 365 * 86_400.0


@pytest.mark.parametrize("by_s", [-YEARS_S, YEARS_S])
@pytest.mark.parametrize("restart", [False, True])
async def test_setting_the_clock_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_s: float, restart: bool
) -> None:
    monkeypatch.setattr(module, "FORGET_EVERY", 1)
    store = Store(str(tmp_path / "mail.db"))
    await store.open()
    await store.remember(b"key", "t", "<1@a>", ["<1@a>"])
    mail = Composed("<2@a>", "t@a.example", ("g@b.example",), b"hello", False)
    await store.add("t", mail, {}, [], 10, 1000)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + by_s)
    if restart:
        await store.close()
        store = Store(str(tmp_path / "mail.db"))
        await store.open()
    await store.remember(b"other", "t", "<3@a>", ["<3@a>"])
    assert await store.was_delivered(b"key")
    [queued] = await store.due(local=False)
    assert 0 <= store.clock.now() - queued.created <= 86_400 + 60
    await store.settle(queued.id, later=[(queued.recipients[0].id, store.clock.now() + 50, "later")])
    at = await store.next_time(local=False)
    assert at is not None
    assert 0 < at - store.clock.now() < 60
    await store.close()


async def test_a_file_of_the_first_version_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "mail.db"
    with sqlite3.connect(path) as db:
        db.executescript(module._SCHEMA)
        db.execute("INSERT INTO delivered VALUES (x'01', 't', '<1@a>', '[]', ?)", (time.time(),))
        db.execute("PRAGMA user_version = 1")
    db.close()
    store = Store(str(path))
    await store.open()
    await store.remember(b"key", "t", "<2@a>", [])
    assert await store.was_delivered(b"\x01")
    await store.close()
