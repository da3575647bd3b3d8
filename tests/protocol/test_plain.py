"""Plain messages and answers are read as all others are, whether or not the scanner is built."""

from __future__ import annotations

import pytest
from msgspec import Raw

from bester.errors import Malformed
from bester.protocol.messages import (
    BadAnswer,
    Command,
    HandlerHeader,
    HandlerMessage,
    Message,
    OutgoingPayload,
    Payload,
    decode_handler_message,
    decode_message,
)
from bester.protocol.plain import read_handler_message, read_message, whole_answer, whole_message

DEEP = b"[" * 200 + b"]" * 200


@pytest.mark.parametrize("header", [b"", b'"header":{},'])
@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'"type":"chat","id":"7","data":{"a":1}', ("chat", b'"7"', b'{"a":1}')),
        (b'"data":[ 1.50 ],"type":"chat"', ("chat", b'""', b"[ 1.50 ]")),
        (b'"type":"","id":"a/<\x7f"', ("", b'"a/<\x7f"', b"null")),
        (b'"type":"dummy","data":null', ("dummy", b'""', b"null")),
        (rb'"type":"chat","data":"\u00e4\"\\"', ("chat", b'""', rb'"\u00e4\"\\"')),
    ],
)
def test_a_plain_message(header: bytes, payload: bytes, expected: tuple[str, bytes, bytes]) -> None:
    body = b"{" + header + b'"payload":{' + payload + b"}}"
    message = read_message(body)
    assert isinstance(message, tuple)
    type, id, data = message
    assert (type, id, bytes(data)) == expected
    assert whole_message(message) == decode_message(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"header":{"once":true},"payload":{"type":"chat"}}',
        b'{"header":{"traceparent":"x"},"payload":{"type":"chat"}}',
        b'{"payload":{"type":"chat"},"header":{"dryRun":true}}',
        b'{"header":{"unknown":[]},"payload":{"type":"chat"}}',
    ],
)
def test_a_message_with_a_header_is_whole(body: bytes) -> None:
    assert read_message(body) == decode_message(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"payload":{"type":"ch\\u00e4t","id":"\\"","data":1}}',
        '{"payload":{"type":"chät","id":"😀","data":"é"}}'.encode(),
        rb'{"payload":{"type":"chat","data":"\ud800"}}',
        rb'{"payload":{"type":"chat","data":"\ud83d\ude00"}}',
        b'{"payload":{"type":5,"type":"chat"}}',
        b'{"payload":{"type":"chat","unknown":1},"more":{}}',
        b' { "header" : { } , "payload" : { "type" : "chat" } } ',
        b'{"payload":{"type":"chat","data":"' + b"x" * 300 + b'"}}',
        b'{"payload":{"type":"chat","data":[' + b"{}," * 200 + b"0]}}",
    ],
)
def test_any_other_way_to_write_a_message_comes_to_the_same(body: bytes) -> None:
    message = read_message(body)
    assert (whole_message(message) if isinstance(message, tuple) else message) == decode_message(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"payload":{}}',
        b'{"payload":{"type":null}}',
        b'{"payload":{"type":"chat","id":7}}',
        b'{"payload":{"type":"chat"}}x',
        b'{"payload":{"type":"chat","data":"\xff"}}',
        b'{"payload":{"type":"chat","data":01}}',
        b'{"header":[],"payload":{"type":"chat"}}',
        b'{"payload":{"type":"chat","data":' + DEEP + b"}}",
    ],
)
def test_what_is_wrong_with_a_message_is_said(body: bytes) -> None:
    with pytest.raises(Malformed) as whole:
        decode_message(body)
    with pytest.raises(Malformed) as read:
        read_message(body)
    assert read.value.message == whole.value.message


def answer(command: bytes, rest: bytes = b"") -> bytes:
    return b'{"header":{"id":"4","status":"0","command":{' + command + b"}}" + rest + b"}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (answer(b'"type":"reply"', b',"payload":{"data":[ 1]}'), ("4", "reply", None, None, b"[ 1]")),
        (
            answer(b'"type":"sendClients","data":["g","t"]', b',"payload":{"type":"x","data":0},"data":1'),
            ("4", "sendClients", ["g", "t"], "x", b"0"),
        ),
        (answer(b'"data":"x","type":"sendHandler"', b',"data":{}'), ("4", "sendHandler", "x", None, b"{}")),
        (answer(b'"type":"sendServers","data":[]', b',"payload":{}'), ("4", "sendServers", [], None, b"null")),
        (answer(b'"type":"done","data":null', b',"payload":{},"data":2'), ("4", "done", None, None, b"2")),
        (answer(b'"type":"sendClients","data":"g"'), ("4", "sendClients", "g", None, b"null")),
    ],
)
def test_a_plain_answer(body: bytes, expected: tuple[str, str, object, str | None, bytes]) -> None:
    read = read_handler_message(body)
    assert isinstance(read, tuple)
    id, kind, to, type, data = read
    assert (id, kind, to, type, bytes(data)) == expected
    whole = HandlerMessage(HandlerHeader(id, "0", command=Command(kind, to)), OutgoingPayload(type, Raw(bytes(data))))
    assert whole_answer(read) == whole


@pytest.mark.parametrize(
    "body",
    [
        answer(b'"type":"reply","payload":{"data":1}'),
        answer(b'"type":"sendClients","data":["g"],"transient":true'),
        b'{"header":{"id":"4","status":"1","error":"no","command":{"type":"done"}}}',
        b'{"header":{"id":"4","status":0,"command":{"type":"done"}}}',
        b'{"header":{"id":"4","status":"0"}}',
        b'{"header":{"id":"4","status":"0","commands":[{"type":"done"}]}}',
        b'{"header":{"id":"4","status":"0","command":{"type":"done"},"commands":[]}}',
        b'{"header":{"messageType":"push","id":"4","status":"0","command":{"type":"done"}}}',
    ],
)
def test_other_answers_are_whole(body: bytes) -> None:
    assert isinstance(decode_handler_message(body), HandlerMessage)
    assert read_handler_message(body) == decode_handler_message(body)


def test_a_detach_is_its_id() -> None:
    assert read_handler_message(b'{"payload":{"type":"detach","id":"d"}}') == "d"


@pytest.mark.parametrize("to", [b"5", b'["g",5]', b"{}", b"true"])
def test_an_answer_whose_request_is_known_fails_that_alone(to: bytes) -> None:
    with pytest.raises(BadAnswer) as read:
        read_handler_message(answer(b'"type":"sendClients","data":' + to))
    assert read.value.id == "4"


def test_the_whole_form_of_a_message_has_raw_data_which_an_encoder_takes() -> None:
    assert whole_message(("chat", rb'"a\"\u00e4"', b"[1]")) == Message(Payload("chat", 'a"ä', Raw(b"[1]")))
    message = whole_answer(("4", "reply", None, None, b"[1]"))
    assert message.payload is not None
    assert isinstance(message.payload.data, Raw)
