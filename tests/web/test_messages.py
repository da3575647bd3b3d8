"""WebSocket messages, without a socket (RFC 6455, section 5)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.web.frames import MASK, sent

from bester.web.messages import BINARY, CLOSE, CONTINUATION, PING, TEXT, Messages, close_frame, frame, unmasked


@given(st.lists(st.binary(max_size=70_000), max_size=4), st.data())
def test_any_split_of_the_bytes_gives_the_same_messages(bodies: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(sent(TEXT if index % 2 else BINARY, body) for index, body in enumerate(bodies))
    reader = Messages(100_000)
    found: list[tuple[int, bytes]] = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        found += reader.feed(stream[:cut])
        stream = stream[cut:]
    assert found == [(TEXT, body) for body in bodies]
    assert reader.failure is None
    assert not reader.incomplete


def test_parts_are_joined_around_control_frames() -> None:
    reader = Messages(100)
    stream = sent(TEXT, b"a", last=False) + sent(PING, b"?") + sent(CONTINUATION, b"b", last=False)
    assert reader.feed(stream) == [(PING, b"?")]
    assert reader.incomplete
    assert reader.feed(sent(CONTINUATION, b"c") + sent(CLOSE, b"")) == [(TEXT, b"abc"), (CLOSE, b"")]


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (frame(TEXT, b"not masked"), 1002),
        (b"\xc1" + sent(TEXT, b"reserved")[1:], 1002),
        (sent(CONTINUATION, b"of nothing"), 1002),
        (sent(TEXT, b"a", last=False) + sent(TEXT, b"b"), 1002),
        (sent(3, b""), 1002),
        (sent(PING, b"", last=False), 1002),
        (sent(PING, b"x" * 126), 1002),
        (sent(TEXT, b"x" * 101), 1009),
        (sent(TEXT, b"x" * 60, last=False) + sent(CONTINUATION, b"x" * 60), 1009),
        (sent(CLOSE, b"x"), 1002),
        (sent(CLOSE, (999).to_bytes(2, "big")), 1002),
        (sent(CLOSE, (1006).to_bytes(2, "big")), 1002),
        (sent(CLOSE, b"\x03\xe8\xff"), 1007),
        (sent(TEXT, b"", last=False) + sent(CONTINUATION, b"", last=False) * 1024, 1002),
    ],
)
def test_what_breaks_the_protocol_ends_it_after_what_came_before(stream: bytes, code: int) -> None:
    reader = Messages(100)
    assert reader.feed(sent(TEXT, b"before") + stream)[0] == (TEXT, b"before")
    assert reader.failure is not None
    assert reader.failure.code == code
    assert reader.feed(sent(TEXT, b"after")) == []


def test_what_is_not_asked_for_yet_waits_and_is_judged_by_the_size_of_then() -> None:
    reader = Messages(10)
    stream = sent(TEXT, b"first") + sent(PING, b"?") + sent(TEXT, b"x" * 100) + b"\xff"
    assert reader.feed(stream, 1) == [(TEXT, b"first")]
    assert reader.feed(b"", 0) == []
    assert reader.incomplete
    assert reader.failure is None
    reader.max_size = 100
    assert reader.feed(b"\x80") == [(PING, b"?"), (TEXT, b"x" * 100)]
    assert reader.failure is not None
    assert not reader.incomplete


def test_a_size_is_refused_before_its_data_comes() -> None:
    reader = Messages(100)
    assert reader.feed(b"\x81\xff" + (2**63).to_bytes(8, "big") + MASK) == []
    assert reader.failure is not None


def test_the_close_frame_has_its_code() -> None:
    assert close_frame(1001) == b"\x88\x02\x03\xe9"


@given(st.binary(min_size=4, max_size=4), st.binary(max_size=300))
def test_masks_are_the_same_with_and_without_aiohttps(mask: bytes, data: bytes) -> None:
    found = unmasked(mask, data)
    assert found == bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bester.web.messages._mask_in_place", None)
        assert unmasked(mask, data) == found
