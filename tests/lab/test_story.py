"""What a failed play tells of the messages that went over its network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from bester.lab.story import MAX_FRAME_BYTES, SHOWN_CHARS, Story


class End:
    def __init__(self, name: str, secret: bool = False) -> None:
        self.process = SimpleNamespace(name=name)
        self.secret = secret


def told(*pieces: bytes, secret: bool = False) -> list[str]:
    story = Story()
    sender: Any = End("ann#1")
    receiver: Any = End("j.example#1", secret)
    for piece in pieces:
        story.arrived(1002.5, sender, receiver, piece)
    return story.told(100)


def frame(body: str) -> bytes:
    return len(body.encode()).to_bytes(4, "little") + body.encode()


def words(body: str) -> str:
    [line] = told(frame(body))
    return line.removeprefix("     2.500  ann#1 -> j.example#1: ")


def test_messages_are_told_in_words() -> None:
    assert words('{"header":{},"payload":{"type":"chat","id":"1","data":{"to":"g"}}}') == 'chat {"to":"g"} (id 1)'
    assert words('{"header":{"once":true},"payload":{"type":"chat","id":"1"}}') == "chat (id 1, once)"
    assert words('{"header":{"messageType":"statusReport","status":"good"},"payload":{"id":"1"}}') == "report on 1 good"
    error = '"payload":{"id":"1","error":{"code":"a","message":"b"}}}'
    bad = '{"header":{"messageType":"statusReport","status":"bad"},' + error
    assert words(bad) == "report on 1 bad a b"
    reply = '{"header":{"id":"1","status":"0","command":{"type":"reply"}},"payload":{"data":[7]}}'
    assert words(reply) == "answers reply [7]"
    assert words('{"header":{"id":"1","status":"0"},"payload":{}}') == "answers nothing"
    assert words('{"header":{"id":"1","status":"1","error":{"message":"no"}}}') == 'refuses {"message":"no"}'


def test_pings_are_left_out_and_what_is_no_message_is_shown_as_it_is() -> None:
    assert told(frame('{"header":{},"payload":{"type":"dummy","id":"p1"}}')) == []
    assert words("[1]") == "[1]"
    assert words("no JSON") == "no JSON"
    assert len(words("x" * 1000)) == SHOWN_CHARS
    assert told(b"anything", secret=True) == ["     2.500  ann#1 -> j.example#1: over TLS"]


def test_frames_are_found_however_they_arrive() -> None:
    both = frame("[1]") + frame("[2]")
    whole = told(both)
    assert len(whole) == 2
    assert all(told(both[:at], both[at:]) == whole for at in range(len(both)))
    assert told(*(both[at : at + 1] for at in range(len(both)))) == whole


def test_nothing_is_told_of_a_stream_that_has_no_frames() -> None:
    assert told((MAX_FRAME_BYTES + 1).to_bytes(4, "little"), b"GET", frame("[1]")) == []


def test_lines_of_the_trace_are_part_of_it_but_for_its_checksums() -> None:
    story = Story()
    story.line("1001.000000 <j.example#1> is killed")
    story.line("1001.500000 <ann#1> > <j.example#1> 12 0123abcd")
    assert story.told(9) == ["     1.000  j.example#1 is killed"]
