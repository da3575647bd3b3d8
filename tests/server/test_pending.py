"""The messages of a destination that are in memory."""

from __future__ import annotations

import pytest

from bester.server.federation import pending as bounds
from bester.server.federation.outbound import OutboundMessage
from bester.server.federation.pending import Pending


def message(id: str, order: int = 0, position: int = 0) -> OutboundMessage:
    item = OutboundMessage(order, id, "chat", b"1", 1, "", id)
    item.position = position
    return item


def test_messages_of_one_id_are_sent_once_and_released_together() -> None:
    pending = Pending()
    first, second = message("a", 1), message("a", 2)
    assert not pending.join(first)
    pending.add_fresh(first)
    assert pending.join(second)
    assert pending.pop_fresh() is first
    assert not pending.fresh
    pending.in_flight += 1
    assert not pending.is_empty
    assert pending.has(first)
    assert pending.finish(first) == (first, second)
    assert pending.is_empty
    assert not pending.has(first)


def test_a_message_on_disk_that_is_pending_is_not_sent_again() -> None:
    pending = Pending()
    fresh = message("a")
    pending.add_fresh(fresh)
    assert pending.any_never_stored
    assert pending.add_stored(message("b", position=7))
    stored = message("a", position=8)
    assert not pending.add_stored(stored)
    assert pending.has_position(7)
    assert pending.has_position(8)
    assert pending.take_fresh() == [fresh, stored]
    assert not pending.has_position(8)
    assert not pending.any_never_stored


def test_messages_come_back_in_the_order_in_which_they_came() -> None:
    pending = Pending()
    for order in (3, 1, 2):
        pending.give_back(message(str(order), order))
    assert not pending.is_empty
    assert [item.order for item in pending.take_returned()] == [1, 2, 3]
    assert pending.is_empty


def test_too_much_overflows_and_twice_as_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_FRESH", 2)
    pending = Pending()
    for number in range(4):
        assert not pending.is_full
        assert pending.overflows == (number > 2)
        pending.add_fresh(message(str(number)))
    assert pending.is_full


def test_suspects_that_are_gone_are_forgotten() -> None:
    pending = Pending()
    pending.add_fresh(message("a"))
    pending.suspects = {"a", "b"}
    pending.forget_absent_suspects()
    assert pending.suspects == {"a"}
