"""Handlers and receivers that do badly beside those that do well; all of it is ``make faults``."""

from __future__ import annotations

import math

from faults.scenarios.handlers import beside as beside_bad_handlers
from faults.scenarios.slow import beside as beside_deaf_receivers
from faults.short import short


def test_a_healthy_handler_beside_bad_ones() -> None:
    # How much slower it is, is the full scenario's business.
    missed = short("handlers", lambda run: beside_bad_handlers(run, 1.0))
    assert [one for one in missed if one.startswith(("messages", "the latest", "bad reports"))] == []


def test_receivers_that_read_beside_those_that_do_not() -> None:
    # How soon is the full scenario's business: here the machine is busy with tests.
    assert short("slow", lambda run: beside_deaf_receivers(run, 10, 1.5, p99_ms=math.inf)) == []
