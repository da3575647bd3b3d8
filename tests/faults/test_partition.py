"""A node and its NATS server that are cut off from the others; all of it is ``make faults``."""

from __future__ import annotations

from faults.scenarios.partition import LEADS_S, SETTLED_S, Cut, Timed, parted
from faults.short import short


def test_a_place_that_is_cut_off_loses_nothing() -> None:
    assert short("partition", lambda run: parted(run, 4, 4, 3)) == []


def test_a_message_is_under_way_at_a_cut_and_at_an_election_after_it() -> None:
    ledger = Timed()
    elected = 20.0
    times = {
        "before the cut": (8.0, 9.0),
        "at the cut": (9.0, 11.0),
        "soon after the cut": (13.0 + SETTLED_S / 2, 13.0 + SETTLED_S / 2 + 0.1),
        "between": (18.0, 18.1),
        "at the election": (19.0, 21.0),
        "soon after the election": (elected + LEADS_S / 2, elected + LEADS_S),
        "never reported": (20.2, None),
        "after all": (22.0, 22.1),
    }
    for key, (given, told) in times.items():
        ledger.given[key] = given
        if told is not None:
            ledger.told[key] = told
    disturbed = ledger.under_way([Cut(0, "deaf", 10.0, 13.0)], [elected])
    assert times.keys() - disturbed == {"before the cut", "between", "after all"}
