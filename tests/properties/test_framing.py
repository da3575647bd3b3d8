"""How a stream of bytes was split never changes what is seen."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from bester.errors import Fatal
from bester.protocol.framing import PREFIX, Framer, frame

MAX_SIZE = 20

frames = st.binary(min_size=1, max_size=MAX_SIZE).map(frame)
broken = st.one_of(
    st.just(b"\0\0\0\0"),
    st.integers(MAX_SIZE + 1, 2**32 - 1).map(PREFIX.pack),
    st.binary(max_size=30),
)
streams = st.lists(st.one_of(frames, frames, frames, broken), max_size=12).map(b"".join)
cuts = st.lists(st.integers(0, 300), max_size=20)


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


def told(failure: Fatal | None) -> tuple[type | None, str]:
    return (type(failure), failure.message) if failure is not None else (None, "")


@given(streams, cuts)
def test_any_split_gives_the_same_bodies_and_the_same_failure(stream: bytes, cuts: list[int]) -> None:
    whole, split = Framer(MAX_SIZE), Framer(MAX_SIZE)
    expected = whole.feed(stream)
    bodies = []
    for piece in pieces(stream, cuts):
        found = split.feed(piece)
        assert split.whole == len(found)
        bodies += found
    assert bodies == expected
    assert told(split.failure) == told(whole.failure)
    assert split.buffered == whole.buffered < 4 + MAX_SIZE
    consumed = b"".join(map(frame, bodies))
    assert stream.startswith(consumed)
    if whole.failure is None:
        assert split.buffered == len(stream) - len(consumed)


@given(streams, cuts, st.lists(st.integers(-1, 3), max_size=20))
def test_asking_for_a_few_at_a_time_gives_the_same(stream: bytes, cuts: list[int], limits: list[int]) -> None:
    whole, slow = Framer(MAX_SIZE), Framer(MAX_SIZE)
    expected = whole.feed(stream)
    bodies = []
    asked = iter(limits)
    for piece in pieces(stream, cuts):
        at_most = next(asked, -1)
        found = slow.feed(piece, at_most)
        assert at_most < 0 or len(found) <= at_most
        bodies += found
    bodies += slow.feed(b"")
    assert bodies == expected
    assert told(slow.failure) == told(whole.failure)


@given(st.lists(st.binary(min_size=1, max_size=MAX_SIZE)))
def test_framed_and_cut_again(bodies: list[bytes]) -> None:
    assert Framer(MAX_SIZE).feed(b"".join(map(frame, bodies))) == bodies
