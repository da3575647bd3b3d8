"""What a broker kept, against what is said now; with a broker that is played by hand."""

from __future__ import annotations

import pytest

from bester_gadgets.kitchen import retained
from bester_gadgets.kitchen.retained import COPIES_END_S, Kind, Retained


class Played:
    """A broker of one topic; what it does, and what that is taken for."""

    def __init__(self, *, as_published: bool) -> None:
        self.now = 0.0
        self.kept = b""
        self.as_published = as_published
        self.retained = Retained(as_published=as_published, clock=lambda: self.now)

    def connect(self) -> Kind | None:
        self.retained.subscribing()
        return self.retained.kind("t", self.kept, True) if self.kept else None

    def publish(self, payload: bytes, *, keep: bool = False, heard: bool = True) -> Kind | None:
        if keep:
            self.kept = payload
        return self.retained.kind("t", payload, keep and self.as_published) if heard else None


both = pytest.mark.parametrize("as_published", [False, True])


@both
def test_a_copy_is_known_only_once(as_published: bool) -> None:
    played = Played(as_published=as_published)
    played.publish(b"250", keep=True, heard=False)
    assert played.connect() == "retained"
    assert played.publish(b"20") == "live"
    assert played.connect() == "known"
    assert played.connect() == "known"


@both
def test_what_was_kept_while_we_were_away_is_not_known(as_published: bool) -> None:
    played = Played(as_published=as_published)
    played.publish(b"ON", keep=True, heard=False)
    assert played.connect() == "retained"
    played.publish(b"OFF", keep=True, heard=False)
    assert played.connect() == "retained"


def test_a_live_value_that_is_kept_takes_the_place_of_what_was() -> None:
    """The door says everything with retain; while we are away it goes back to what the broker had at first."""
    played = Played(as_published=True)
    played.publish(b"ON", keep=True, heard=False)
    assert played.connect() == "retained"
    assert played.publish(b"OFF", keep=True) == "live"
    assert played.connect() == "known"
    played.publish(b"ON", keep=True, heard=False)
    assert played.connect() == "retained"


def test_the_first_live_value_after_the_copies_is_live() -> None:
    played = Played(as_published=True)
    assert played.connect() is None
    played.now = COPIES_END_S + 1
    assert played.publish(b"ON", keep=True) == "live"
    assert played.connect() == "known"


@both
def test_what_was_removed_may_come_again(as_published: bool) -> None:
    played = Played(as_published=as_published)
    played.publish(b"ON", keep=True, heard=False)
    assert played.connect() == "retained"
    assert played.publish(b"", keep=True) == "live"
    assert played.connect() is None
    played.publish(b"ON", keep=True, heard=False)
    assert played.connect() == "retained"


def test_topics_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retained, "MAX_TOPICS", 3)
    found = Retained(as_published=True)
    found.subscribing()
    for number in range(10):
        assert found.kind(f"t{number}", b"1", True) == "retained"
    assert len(found._topics) == 3
