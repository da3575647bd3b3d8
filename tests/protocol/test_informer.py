"""Both ends of the informer's conversation, back to back."""

from __future__ import annotations

import pytest

from bester.errors import Malformed
from bester.protocol.informer import Answer, Presence, answer, decode_answer, decode_query, event, failed, query


def body(frame: bytes) -> bytes:
    assert int.from_bytes(frame[:4], "little") == len(frame) - 4
    return frame[4:]


def test_queries() -> None:
    asked = decode_query(body(query("listClients")))
    assert (asked.type, len(asked.raw), asked.data) == ("listClients", 0, None)
    asked = decode_query(body(query("isClient", "g")))
    assert (asked.type, asked.data) == ("isClient", "g")


def test_answers() -> None:
    told = decode_answer(body(answer(["g", "t"])))
    assert isinstance(told, Answer)
    assert (told.good, told.data) == (True, ["g", "t"])
    told = decode_answer(body(answer()))
    assert isinstance(told, Answer)
    assert (told.good, told.data) == (True, None)
    told = decode_answer(body(failed()))
    assert isinstance(told, Answer)
    assert not told.good
    told = decode_answer(b'{"status":0,"data":1}')
    assert isinstance(told, Answer)
    assert told.good


def test_events() -> None:
    assert decode_answer(body(event("g", True))) == Presence("g", True)
    assert decode_answer(body(event("g", False))) == Presence("g", False)


@pytest.mark.parametrize("wrong", [b"{}", b"[]", b'{"command":{}}', b'{"command":{"type":1}}'])
def test_wrong_queries(wrong: bytes) -> None:
    with pytest.raises(Malformed):
        decode_query(wrong)


@pytest.mark.parametrize("wrong", [b"{}", b"[]", b'{"event":"asleep","user":"g"}'])
def test_wrong_answers(wrong: bytes) -> None:
    with pytest.raises(Malformed):
        decode_answer(wrong)
