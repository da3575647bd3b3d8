"""What nodes send to each other, packed and taken apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bester.cluster.items import (
    MAX_NODE_BYTES,
    Ask,
    Bring,
    Hello,
    Item,
    Kind,
    Named,
    Unreadable,
    batches,
    opening,
    pack,
    read,
    unpack,
)
from bester.cluster.subjects import Subjects, token

BEGIN = opening("n1")
anything = st.tuples(st.sampled_from(Kind), st.integers(0, 2**64 - 1), st.binary(max_size=300))


def joined(*items: bytes) -> bytes:
    (batch,) = batches(BEGIN, items, 10**9)
    return batch


@given(st.lists(anything, min_size=1, max_size=30), st.integers(1, 1000))
def test_all_items_come_in_their_order_however_they_are_split(items: list[tuple[Kind, int, bytes]], size: int) -> None:
    packed = [pack(kind, number, None, body) for kind, number, body in items]
    found: list[Item] = []
    for batch in batches(BEGIN, packed, size):
        node, more = unpack(batch)
        assert node == "n1"
        assert len(batch) <= size or len(more) == 1
        found += more
    assert found == [(kind, number, b"", body) for kind, number, body in items]


def test_a_note_comes_as_it_was_said() -> None:
    note = Bring("山田", "d1", "chat", transient=True)
    _, ((kind, number, said, body),) = unpack(joined(pack(Kind.BRING, 7, note, b'{"a"', b":1}")))
    assert (kind, number, body) == (Kind.BRING, 7, b'{"a":1}')
    assert read(said, Bring) == note


def test_what_a_later_release_says_is_passed_over() -> None:
    later = b'{"username":"g","answer":true,"mood":[1,2]}'
    assert read(later, Named) == Named("g", answer=True)
    unknown = bytes([200]) + pack(Kind.MAIL, 1, Named("g"))[1:]
    _, ((kind, *_),) = unpack(joined(unknown))
    assert kind == 200
    assert read(b'["chat",5,false,0,0,-1,false,false,"more"]', Ask) == Ask("chat", 5)
    assert read(b'["chat",5]', Ask) == Ask("chat", 5)


@given(st.integers(0, 60))
def test_what_is_cut_off_is_unreadable_or_shorter(size: int) -> None:
    batch = joined(pack(Kind.MAIL, 1, Named("g")), pack(Kind.HELLO, 0, Hello("1", 2.0)))
    cut = batch[: min(size, len(batch) - 1)]
    try:
        _, items = unpack(cut)
    except Unreadable:
        return
    assert len(items) < 2


@pytest.mark.parametrize("batch", [b"", b"\x01", b"\x02\x02n1", b"\x01\x02\xff\xff" + b"x", BEGIN + b"x"])
def test_what_no_node_sends_is_unreadable(batch: bytes) -> None:
    with pytest.raises(Unreadable):
        unpack(batch)


@pytest.mark.parametrize("note", [b"", b"{}", b"[]", b'{"username":5}', b'{"username":"g"'])
def test_a_note_of_another_kind_is_unreadable(note: bytes) -> None:
    with pytest.raises(Unreadable):
        read(note, Named)


def test_what_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="note"):
        pack(Kind.MAIL, 0, Named("x" * 70_000))
    with pytest.raises(ValueError, match="id"):
        opening("x" * (MAX_NODE_BYTES + 1))


def test_parts_of_subjects_are_safe_and_sort_as_their_texts() -> None:
    names = ["a", "a.b", "a>", "ab *", "é", "山", "𐐨"]
    assert sorted(map(token, names)) == [token(name) for name in sorted(names)]
    assert all(token(name).isalnum() for name in names)


def test_servers_and_accounts_do_not_meet() -> None:
    one, other = Subjects("a.example"), Subjects("a_example")
    subjects = [one.all, one.node("n"), one.account("n"), other.all, other.node("n"), other.account("n")]
    assert len(set(subjects)) == len(subjects)
