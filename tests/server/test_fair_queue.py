"""An address that brings few waits for few."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bester.server.accounts.fair_queue import FairQueue


def anybody(address: str, account: str) -> bool:
    return True


def drained(queue: FairQueue[str]) -> list[str]:
    found = []
    while (item := queue.take(anybody)) is not None:
        found.append(item)
    assert len(queue) == 0
    return found


def test_addresses_take_turns_and_so_do_their_accounts() -> None:
    queue: FairQueue[str] = FairQueue(100)
    for item in ("a t 1", "a t 2", "a t 3", "a g 1", "a g 2", "b t 1", "b t 2", "c t 1"):
        address, account, _ = item.split()
        assert queue.put(address, account, item) is None
    assert drained(queue) == ["a t 1", "b t 1", "c t 1", "a g 1", "b t 2", "a t 2", "a g 2", "a t 3"]


def test_accounts_that_are_not_ready_are_passed_over() -> None:
    queue: FairQueue[str] = FairQueue(100)
    for item in ("a t 1", "a g 1", "b t 1"):
        queue.put(item[0], item[2], item)
    assert queue.take(lambda address, account: address == "b") == "b t 1"
    assert queue.take(lambda address, account: account == "g") == "a g 1"
    assert queue.take(lambda address, account: False) is None
    assert drained(queue) == ["a t 1"]


def test_the_account_that_has_most_makes_room() -> None:
    queue: FairQueue[str] = FairQueue(6)
    for item in ("a t 1", "a t 2", "a t 3", "a t 4", "a g 1", "b t 1"):
        assert queue.put(item[0], item[2], item) is None
    assert queue.put("a", "t", "a t 5") == "a t 5"  # nobody has more
    assert queue.put("a", "g", "a g 2") == "a t 4"  # of the same address
    assert queue.put("a", "g", "a g 3") == "a g 3"  # it would have as many as the other
    assert queue.put("c", "t", "c t 1") == "a t 3"  # another address
    assert queue.put("c", "t", "c t 2") in ("a t 2", "a g 2")
    assert queue.put("c", "t", "c t 3") == "c t 3"
    assert queue.put("d", "t", "d t 1") in ("a t 2", "a g 2", "c t 2")
    assert len(queue) == 6


def test_a_client_that_gives_up_is_out() -> None:
    queue: FairQueue[str] = FairQueue(6)
    queue.put("a", "t", "1")
    queue.remove("a", "t", "2")
    queue.remove("b", "t", "1")
    queue.remove("a", "t", "1")
    assert drained(queue) == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("tgh")), max_size=60), st.integers(0, 59))
def test_it_is_bounded_and_nothing_is_lost_or_given_twice(puts: list[tuple[str, str]], takes: int) -> None:
    queue: FairQueue[tuple[str, str, int]] = FairQueue(8)
    inside: Counter[tuple[str, str, int]] = Counter()
    for number, (address, account) in enumerate(puts):
        item = address, account, number
        inside[item] += 1
        out = queue.put(address, account, item)
        if out is not None:
            inside[out] -= 1
        if number % 60 == takes and (taken := queue.take(anybody)) is not None:
            inside[taken] -= 1
        there = [one for one in inside if inside[one]]
        assert len(queue) == len(there) <= 8
    left = set()
    while (one := queue.take(anybody)) is not None:
        left.add(one)
    assert left == {one for one in inside if inside[one]}
    assert set(inside.values()) <= {0, 1}
