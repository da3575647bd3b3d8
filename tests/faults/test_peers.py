"""Other servers that are away; all of it is ``make faults``."""

from __future__ import annotations

from faults.scenarios.peeraway import away, dials, flapping
from faults.short import short


def test_what_waits_for_a_server_comes_once_and_in_order() -> None:
    assert short("peeraway", lambda run: away(run, 400)) == []


def test_a_server_that_comes_and_goes() -> None:
    assert short("peeraway", lambda run: flapping(run, 400, 2, 0.3)) == []


def test_a_server_that_cannot_be_reached_is_left_in_peace() -> None:
    assert short("peeraway", lambda run: dials(run, 2.0)) == []
