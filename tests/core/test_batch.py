"""What a batch leads to is written once, and what waits is counted."""

from __future__ import annotations

import pytest

from bester.core.batch import Batch
from bester.core.effects import Pause, Resume
from bester.core.endpoint import Endpoint, NodePeer, Peer
from bester.core.limits import Limits
from bester.core.metrics import Drop
from bester.core.routing import AttachedHandler
from bester.core.session import Session


@pytest.fixture
def batch() -> Batch:
    return Batch(Limits(max_held_bytes=1000), "boot")


@pytest.fixture
def t() -> Session:
    return Session("t", "j.example")


def test_an_endpoint_is_written_once_however_many_frames_it_gets(batch: Batch, t: Session) -> None:
    batch.write(t, b"one")
    batch.tell(t, b"two")
    assert (t.out, batch.dirty) == ([b"one", b"two"], [t])


def test_a_report_for_a_sender_that_has_gone_is_counted(batch: Batch, t: Session) -> None:
    t.closed = True
    batch.tell(t, b"report")
    assert (t.out, batch.dirty) == ([], [])
    assert batch.counters.drops.get(Drop.REPORT_UNWANTED) == 1


def test_ids_are_unique_over_restarts(batch: Batch) -> None:
    ids = [batch.new_id() for _ in range(20)] + [Batch(Limits(), "another").new_id()]
    assert len(set(ids)) == 21
    assert (ids[0], ids[19], ids[20]) == ("boot-1", "boot-14", "another-1")
    assert batch.new_number() == 21


def test_only_senders_with_something_behind_are_looked_at(batch: Batch, t: Session) -> None:
    batch.fewer_under_way(t)
    assert not batch.freed
    waits, closes = Session("waits", "j.example"), Session("closes", "j.example")
    waits.backlog, closes.closing = 1, True
    for sender in (waits, closes, waits):
        batch.fewer_under_way(sender)
    assert list(batch.freed) == [waits, closes]


def test_a_sender_is_paused_when_too_much_waits_and_resumed_at_half(batch: Batch, t: Session) -> None:
    batch.hold(t, 500)
    assert batch.effects == []
    batch.hold(t, 0)
    batch.hold(t, 0)
    batch.hold(t, 0)
    assert batch.effects == [Pause(t)]
    batch.release(t, 500)
    batch.release(t, 0)
    assert batch.effects == [Pause(t)]
    assert t.held_bytes == 2 * 256
    batch.release(t, 0)
    assert batch.effects == [Pause(t), Resume(t)]
    batch.release(t, 0)
    assert (t.held_bytes, len(batch.effects)) == (0, 2)


@pytest.mark.parametrize(
    ("endpoint", "paused"),
    [(Peer("k.example"), True), (NodePeer("b"), False), (AttachedHandler("h", "j.example", 1), False)],
)
def test_handlers_and_nodes_are_never_paused(batch: Batch, endpoint: Endpoint, paused: bool) -> None:
    batch.hold(endpoint, 10_000)
    assert endpoint.paused is paused
    assert len(batch.effects) == paused
