"""What is encoded is decoded again, and data is carried as it came."""

from __future__ import annotations

import json
from decimal import Decimal
from math import isfinite
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from bester.protocol import frames
from bester.protocol.client import ClientConversation
from bester.protocol.handler import HandlerConversation
from bester.protocol.messages import (
    HandlerMessage,
    decode_classic,
    decode_first,
    decode_handler_message,
    decode_message,
)
from bester.protocol.received import ReceivedMessage
from bester.protocol.requests import Request
from bester.protocol.values import decode_data, encode_data

ANY = st.characters()  # lone surrogates included
SPACES = st.text(" \t\r\n", max_size=3)


def spelled(text: str) -> st.SearchStrategy[str]:
    """The spellings of a string in JSON."""

    def spell(upper: bool, escaped: bool) -> str:
        body = json.dumps(text, ensure_ascii=True)
        if not escaped and not any("\ud800" <= character <= "\udfff" for character in text):
            body = json.dumps(text, ensure_ascii=False)
        return body.replace("\\ud", "\\uD") if upper else body

    return st.builds(spell, st.booleans(), st.booleans())


strings = st.text(ANY, max_size=8).flatmap(spelled)
numbers = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["1e400", "-1E+999", "-0", "0.10", "1e-999", "9" * 400, "9" * 5000]),
)
atoms = st.one_of(strings, numbers, st.sampled_from(["null", "true", "false", r'"\ud800"', r'"\uDFFF\ue8ab\uA8ab"']))


def lists(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    inside = st.lists(st.builds(lambda a, b, c: a + b + c, SPACES, items, SPACES), max_size=4)
    return inside.map(lambda parts: "[" + ",".join(parts) + "]")


def objects(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.builds(lambda a, key, b, item: f"{a}{key}{b}:{item}", SPACES, strings, SPACES, items)
    return st.lists(member, max_size=4).map(lambda parts: "{" + ",".join(parts) + "}")


json_texts = st.recursive(atoms, lambda items: st.one_of(lists(items), objects(items)), max_leaves=12).map(str.encode)
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(ANY, max_size=8),
    ),
    lambda items: st.one_of(st.lists(items, max_size=4), st.dictionaries(st.text(ANY, max_size=8), items, max_size=4)),
    max_leaves=12,
)
texts = st.text(max_size=8).filter(lambda text: text.isprintable())


@given(values)
def test_encode_then_decode(value: Any) -> None:
    assert decode_data(encode_data(value)) == value


@given(json_texts)
def test_decode_then_encode_loses_no_number(text: bytes) -> None:
    value = decode_data(text)
    assert decode_data(encode_data(value)) == value
    assert b"Infinity" not in encode_data(value)


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,400})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,5})?", fullmatch=True))
def test_a_number_is_what_stands_there(text: str) -> None:
    value, exact = decode_data(text.encode()), Decimal(text)
    if isinstance(value, float):
        assert value == float(text)
        assert isfinite(value)
    else:
        assert value == exact
    again = decode_data(encode_data(value))
    assert (type(again), again) == (type(value), value)


@given(json_texts, texts, texts, SPACES)
def test_data_from_a_client_to_an_attached_handler(data: bytes, type: str, id: str, space: str) -> None:
    names = f'"type":{json.dumps(type)},{space}"id":{json.dumps(id)}'
    body = f'{{"payload":{{{names},"data":'.encode() + data + b"}}" + space.encode()
    for payload in (decode_message(body).payload, decode_first(body).payload):
        assert payload is not None
        assert (payload.type, payload.id, bytes(payload.data)) == (type, id, data)
    origin = frames.origin_part("client", "t", "j.example", True)
    frame = frames.request("1", origin, 0, frames.type_part(type), frames.encode_text(id), Raw(data))
    request = HandlerConversation().receive(frame[4:])
    assert isinstance(request, Request)
    assert (request.type, request.id, bytes(request.raw)) == (type, id, data)


@given(json_texts, texts, texts)
def test_data_to_another_server(data: bytes, type: str, id: str) -> None:
    message = decode_first(frames.to_server(type, id, data, 3)[4:])
    assert message.payload is not None
    assert (message.header.hops, message.payload.type, message.payload.id) == (3, type, id)
    assert bytes(message.payload.data) == data


@given(json_texts, texts)
def test_data_to_a_client(data: bytes, type: str) -> None:
    conversation = ClientConversation()
    event = conversation.receive(frames.received(frames.received_head(type), data)[4:])
    assert isinstance(event, ReceivedMessage)
    assert (event.type, bytes(event.raw)) == (type, data)


@given(json_texts, json_texts, json_texts)
def test_data_from_a_handler(own: bytes, shared: bytes, top: bytes) -> None:
    body = (
        b'{"header":{"id":"1","status":"0","commands":[{"type":"reply","payload":{"data":' + own + b"}},"
        b'{"type":"done"}]},"payload":{"data":' + shared + b'},"data":' + top + b"}"
    )
    for message in (decode_handler_message(body), decode_classic(body)):
        assert isinstance(message, HandlerMessage)
        assert message.header.commands is not None
        first, second = message.header.commands
        assert first.payload is not None
        assert message.payload is not None
        assert second.payload is None
        assert [bytes(first.payload.data), bytes(message.payload.data), bytes(message.data)] == [own, shared, top]
