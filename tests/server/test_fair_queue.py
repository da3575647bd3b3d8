"""Whoever brings few waits for few."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bester.server.accounts.fair_queue import FairQueue


def anybody(address: str, account: str) -> bool:
    return True


def drained(line: FairQueue[str]) -> list[str]:
    found = []
    while (item := line.take(anybody)) is not None:
        found.append(item)
    assert len(line) == 0
    return found


def test_addresses_take_turns_and_so_do_their_accounts() -> None:
    line: FairQueue[str] = FairQueue(100)
    for item in ("a t 1", "a t 2", "a t 3", "a g 1", "a g 2", "b t 1", "b t 2", "c t 1"):
        address, account, _ = item.split()
        assert line.put(address, account, item) is None
    assert drained(line) == ["a t 1", "b t 1", "c t 1", "a g 1", "b t 2", "a t 2", "a g 2", "a t 3"]


def test_who_is_not_ready_is_passed_over() -> None:
    line: FairQueue[str] = FairQueue(100)
    for item in ("a t 1", "a g 1", "b t 1"):
        line.put(item[0], item[2], item)
    assert line.take(lambda address, account: address == "b") == "b t 1"
    assert line.take(lambda address, account: account == "g") == "a g 1"
    assert line.take(lambda address, account: False) is None
    assert drained(line) == ["a t 1"]


def test_who_has_most_makes_room() -> None:
    line: FairQueue[str] = FairQueue(6)
    for item in ("a t 1", "a t 2", "a t 3", "a t 4", "a g 1", "b t 1"):
        assert line.put(item[0], item[2], item) is None
    assert line.put("a", "t", "a t 5") == "a t 5"  # nobody has more
    assert line.put("a", "g", "a g 2") == "a t 4"  # of the same address
    assert line.put("a", "g", "a g 3") == "a g 3"  # it would have as many as the other
    assert line.put("c", "t", "c t 1") == "a t 3"  # another address
    assert line.put("c", "t", "c t 2") in ("a t 2", "a g 2")
    assert line.put("c", "t", "c t 3") == "c t 3"
    assert line.put("d", "t", "d t 1") in ("a t 2", "a g 2", "c t 2")
    assert len(line) == 6


def test_one_who_gives_up_is_out() -> None:
    line: FairQueue[str] = FairQueue(6)
    line.put("a", "t", "1")
    line.remove("a", "t", "2")
    line.remove("b", "t", "1")
    line.remove("a", "t", "1")
    assert drained(line) == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("tgh")), max_size=60), st.integers(0, 59))
def test_it_is_bounded_and_nothing_is_lost_or_given_twice(puts: list[tuple[str, str]], takes: int) -> None:
    line: FairQueue[tuple[str, str, int]] = FairQueue(8)
    inside: Counter[tuple[str, str, int]] = Counter()
    for number, (address, account) in enumerate(puts):
        item = address, account, number
        inside[item] += 1
        out = line.put(address, account, item)
        if out is not None:
            inside[out] -= 1
        if number % 60 == takes and (taken := line.take(anybody)) is not None:
            inside[taken] -= 1
        there = [one for one in inside if inside[one]]
        assert len(line) == len(there) <= 8
    left = set()
    while (one := line.take(anybody)) is not None:
        left.add(one)
    assert left == {one for one in inside if inside[one]}
    assert set(inside.values()) <= {0, 1}
