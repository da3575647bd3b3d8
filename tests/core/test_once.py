"""What is remembered of ``once`` messages is bounded."""

from __future__ import annotations

from typing import Any

from bester.core import once
from bester.core.once import OnceMemory, OnceRecord


def test_the_memory_is_bounded(monkeypatch: Any) -> None:
    monkeypatch.setattr(once, "MAX_RECORDS", 3)
    monkeypatch.setattr(once, "MAX_BYTES", 3000)
    memory = OnceMemory()
    records = [OnceRecord(bytes([number]), b"", b"") for number in range(5)]
    for record in records:
        memory.add(record)
    assert [memory.find(record.key) for record in records] == [None, None, *records[2:]]
    memory.finish(records[3], b"x" * 2000)
    assert memory.find(records[2].key) is None
    memory.finish(records[4], b"x" * 2000)
    assert memory.find(records[3].key) is None
    memory.forget(records[4])
    assert len(memory) == 0


def test_one_sender_does_not_drive_out_another(monkeypatch: Any) -> None:
    monkeypatch.setattr(once, "MAX_OF_SENDER", 2)
    memory = OnceMemory()
    other = OnceRecord(b"o", b"", b"", b"g")
    memory.add(other)
    mine = [OnceRecord(bytes([number]), b"", b"", b"t") for number in range(4)]
    for record in mine:
        memory.add(record)
    assert memory.find(b"o") is other
    assert [memory.find(record.key) is record for record in mine] == [False, False, True, True]
