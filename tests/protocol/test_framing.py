"""Bytes in, frame bodies out, however the bytes were split."""

from __future__ import annotations

import pytest

from bester.errors import Fatal, Malformed, TooLarge
from bester.protocol.framing import Framer, frame


@pytest.fixture
def framer() -> Framer:
    return Framer(max_size=10)


@pytest.mark.parametrize(
    ("begin", "cause"),
    [
        (bytes.fromhex("1603010200"), "(0x02010316: the other end speaks TLS; this end does not)"),
        (bytes.fromhex("1503030002"), "(0x00030315: the other end speaks TLS; this end does not)"),
        (b"GET / HTTP/1.1", "('GET ': the other end speaks HTTP)"),
        (b'{"header": {}}', "(JSON without its length before it: 4 bytes, little endian)"),
        (bytes.fromhex("0000007e7b"), "(0x7e000000: is your length big endian? It must be little endian)"),
        (b"\xff\xff\xff\xff", ""),
    ],
)
def test_a_length_that_cannot_be_tells_what_it_looks_like(begin: bytes, cause: str) -> None:
    framer = Framer(1000)
    assert framer.feed(begin) == []
    assert isinstance(framer.failure, TooLarge)
    assert framer.failure.message.endswith(cause or "at most 1000 are allowed")
    assert cause in framer.failure.message


def test_a_frame_is_its_length_in_little_endian_and_its_body() -> None:
    assert frame(b"{}") == b"\x02\x00\x00\x00{}"
    assert frame(b"x" * 0x01020304)[:4] == b"\x04\x03\x02\x01"


def test_whole_frames(framer: Framer) -> None:
    assert framer.feed(frame(b"a") + frame(b"bc")) == [b"a", b"bc"]
    assert (framer.whole, framer.buffered, framer.failure) == (2, 0, None)
    assert framer.feed(b"") == []
    assert framer.whole == 0


def test_byte_by_byte(framer: Framer) -> None:
    bodies = []
    for byte in frame(b"a") + frame(b"bc"):
        bodies += framer.feed(bytes([byte]))
    assert bodies == [b"a", b"bc"]
    assert framer.buffered == 0


def test_a_tail_is_kept(framer: Framer) -> None:
    assert framer.feed(frame(b"a") + frame(b"bcd")[:5]) == [b"a"]
    assert framer.buffered == 5
    assert framer.feed(b"") == []
    assert framer.feed(b"c") == []
    assert (framer.buffered, framer.whole) == (6, 0)
    assert framer.feed(b"d" + frame(b"e")[:2]) == [b"bcd"]
    assert framer.feed(frame(b"e")[2:]) == [b"e"]


def test_the_largest_frame_is_taken_and_one_byte_more_is_not(framer: Framer) -> None:
    assert framer.feed(frame(b"x" * 10)) == [b"x" * 10]
    assert framer.feed(frame(b"x" * 11)) == []
    assert isinstance(framer.failure, TooLarge)
    assert framer.failure.message == "a frame of 11 bytes; at most 10 are allowed"


@pytest.mark.parametrize(
    ("prefix", "kind"),
    [(b"\0\0\0\0", Malformed), (b"\x0b\0\0\0", TooLarge), (b"\xff\xff\xff\xff", TooLarge), (b"{\r\n ", TooLarge)],
)
def test_the_length_is_judged_before_the_body_comes(framer: Framer, prefix: bytes, kind: type[Fatal]) -> None:
    assert framer.feed(frame(b"a") + prefix[:3]) == [b"a"]
    assert framer.failure is None
    assert framer.feed(prefix[3:]) == []
    assert isinstance(framer.failure, kind)
    assert framer.buffered == 0


def test_the_frames_before_the_bad_one_are_still_handled(framer: Framer) -> None:
    assert framer.feed(frame(b"a") + b"\0\0\0\0" + frame(b"b")) == [b"a"]
    assert isinstance(framer.failure, Malformed)


def test_after_a_failure_nothing_is_taken_and_the_failure_stays(framer: Framer) -> None:
    framer.feed(b"\0\0\0\0")
    failure = framer.failure
    assert framer.feed(frame(b"a")) == []
    framer.max_size = 100
    assert framer.feed(frame(b"a")) == []
    assert framer.feed(frame(b"x" * 1000)) == []
    assert framer.failure is failure
    assert (framer.whole, framer.buffered) == (0, 0)


def test_no_more_than_was_asked_for(framer: Framer) -> None:
    stream = frame(b"a") + frame(b"b") + frame(b"c")
    assert framer.feed(stream, 1) == [b"a"]
    assert framer.buffered == 10
    assert framer.feed(b"", 0) == []
    assert framer.feed(b"", 1) == [b"b"]
    assert framer.feed(frame(b"d")) == [b"c", b"d"]
    assert framer.buffered == 0


def test_what_was_not_asked_for_is_judged_by_the_limit_of_then(framer: Framer) -> None:
    assert framer.feed(frame(b"a") + frame(b"x" * 11), 1) == [b"a"]
    assert framer.failure is None
    framer.max_size = 11
    assert framer.feed(b"") == [b"x" * 11]
    assert framer.feed(frame(b"b") + frame(b"c" * 3), 1) == [b"b"]
    framer.max_size = 2
    assert framer.feed(b"") == []
    assert isinstance(framer.failure, TooLarge)


def test_nothing_is_asked_for(framer: Framer) -> None:
    assert framer.feed(b"\0\0\0\0", 0) == []
    assert framer.failure is None
    assert framer.feed(b"") == []
    assert isinstance(framer.failure, Malformed)
