"""Lines in place of frames, and answers without ids (docs/protocol.md, section 6.11)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bester.errors import Malformed, TooLarge
from bester.protocol.framing import frame
from bester.protocol.messages import BadAnswer, HandlerMessage
from bester.protocol.stdio import LineFramer, as_lines, read_answer


def test_frames_become_lines() -> None:
    assert as_lines([frame(b'{"a":\n 1,\r\n"b": "\\n"}') + frame(b"{}"), frame(b"[]")]) == (
        b'{"a":  1,  "b": "\\n"}\n{}\n[]\n'
    )


@given(st.lists(st.sampled_from([b"", b" ", b"{}", b"[1]\r", b"x" * 20])), st.data())
def test_any_split_gives_the_same_lines(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines) + b"rest"
    framer, found, position = LineFramer(20), [], 0
    while position < len(stream):
        size = data.draw(st.integers(1, 30))
        at_most = data.draw(st.sampled_from([-1, 0, 1, 2]))
        found += framer.feed(stream[position : position + size], at_most)
        position += size
    found += framer.feed(b"")
    assert found == [line for line in lines if line.strip()]
    assert framer.failure is None
    assert framer.buffered == 4
    assert framer.taken == len(stream) - 4


@pytest.mark.parametrize("end", [b"", b"\n"])
@pytest.mark.parametrize("piece", [1, 7, 100])
def test_a_line_that_is_too_long(end: bytes, piece: int) -> None:
    framer, found = LineFramer(5), []
    stream = b"12345\n123456" + end
    for position in range(0, len(stream), piece):
        found += framer.feed(stream[position : position + piece])
    assert found == [b"12345"]
    assert isinstance(framer.failure, TooLarge)
    assert framer.feed(b"1\n") == []


def test_lines_beyond_those_that_are_wanted_wait() -> None:
    framer = LineFramer(10)
    assert framer.feed(b"1\n2\n3\n4", 2) == [b"1", b"2"]
    assert framer.whole == 2
    assert framer.feed(b"", 0) == []
    assert framer.feed(b"5\n") == [b"3", b"45"]
    assert framer.buffered == 0


def test_answers() -> None:
    answer = read_answer(b'{"header": {"status": "0", "command": {"type": "done"}}}')
    assert isinstance(answer, HandlerMessage)
    assert answer.header.id is None
    assert read_answer(b'{"payload": {"type": "detach", "id": "d"}}') == "d"


WRONG = {
    b"{}": "",
    b'{"header": {"status": "0", "command": 5}}': "",
    b'{"header": {"id": "7", "command": 5}}': "7",
    b'{"header": {"id": 7}}': "",
    b'{"header": {"messageType": "push", "command": 5}}': "",
}


@pytest.mark.parametrize("body", WRONG)
def test_answers_of_a_wrong_form(body: bytes) -> None:
    with pytest.raises(BadAnswer) as refusal:
        read_answer(body)
    assert refusal.value.id == WRONG[body]


@pytest.mark.parametrize("body", [b"hello", b"5", b'"x"', b"[]", b"null", b"{", b"{}x", b"\xff", b'{"a": NaN}'])
def test_what_is_no_object(body: bytes) -> None:
    with pytest.raises(Malformed):
        read_answer(body)
