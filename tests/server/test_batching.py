"""How much is written with one call."""

from __future__ import annotations

import pytest

from bester.server import batching
from bester.server.batching import take_batch


def test_a_batch_is_bounded_by_its_entries_and_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MAX_BATCH", 3)
    monkeypatch.setattr(batching, "MAX_BATCH_BYTES", 10)
    waiting = [1, 2, 3, 4, 6, 1, 99, 1]
    assert [take_batch(waiting, lambda size: size) for _ in range(5)] == [[1, 2, 3], [4, 6], [1], [99], [1]]
    assert waiting == []
    assert take_batch(waiting, lambda size: size) == []
