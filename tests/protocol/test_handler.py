"""The handler's end of the conversation, against what the server's end reads and writes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from bester.errors import Malformed, NotAllowed, ShuttingDown
from bester.protocol import frames
from bester.protocol.answers import commands_of
from bester.protocol.commands import (
    Command,
    Done,
    Reply,
    Response,
    SendClients,
    SendHandler,
    SendServers,
    commands_in,
)
from bester.protocol.handler import (
    ATTACH_ID,
    DETACH_ID,
    HandlerConversation,
    classic_answer,
    classic_failure,
    classic_request,
)
from bester.protocol.messages import HandlerMessage, attach_data, decode_attach, decode_classic, decode_handler_message
from bester.protocol.reports import FatalError, Report
from bester.protocol.requests import UNTOLD, Cancel, MoreParts, Request, Sender

REQUEST = Request("chat", "tag", request_id="42", raw=Raw(b'{"own": 1}'))


def body(frame: bytes) -> bytes:
    assert int.from_bytes(frame[:4], "little") == len(frame) - 4
    return frame[4:]


def said(message: HandlerMessage | str) -> list[tuple[str, Any, str | None, Any, bool]]:
    """What a server takes from a response: each command with its recipients, type and data."""
    assert isinstance(message, HandlerMessage)
    found = []
    for command in commands_of(message):
        shared = message.payload
        type = command.payload.type if command.payload else None
        data = command.payload.data if command.payload else Raw(b"")
        type = type or (shared.type if shared else None)
        data = data if len(data) else shared.data if shared else message.data
        data = data if len(data) else message.data
        found.append(
            (command.type, command.data, type, json.loads(bytes(data)) if len(data) else None, command.transient)
        )
    return found


@pytest.fixture
def handler() -> HandlerConversation:
    return HandlerConversation()


def test_attach(handler: HandlerConversation) -> None:
    message = decode_attach(body(handler.attach(["chat", "news"], "both", 8, ("dryRun",))))
    assert message.header.scope == "handler"
    assert message.header.features == ("dryRun",)
    assert message.payload is not None
    data = attach_data(message.payload)
    assert (message.payload.type, message.payload.id) == ("attach", ATTACH_ID)
    assert (data.types, data.name) == (["chat", "news"], "both")
    assert data.concurrency == 8
    assert decode_attach(body(handler.attach(["chat"]))).header.features == ()


def test_attached_and_detached(handler: HandlerConversation) -> None:
    assert isinstance(handler.receive(body(frames.good_report(frames.encode_text(ATTACH_ID)))), Report)
    assert handler.attached
    assert decode_handler_message(body(handler.detach())) == DETACH_ID
    handler.receive(body(frames.good_report(frames.encode_text(DETACH_ID))))
    assert handler.detached
    handler.receive(body(frames.good_report(b'"push-1"')))
    assert not handler.closed


def test_refused(handler: HandlerConversation) -> None:
    handler.receive(body(frames.report(frames.encode_text(ATTACH_ID), NotAllowed())))
    assert not handler.attached


def test_request(handler: HandlerConversation) -> None:
    origin = frames.origin_part("client", "t", "j.example", True)
    event = handler.receive(body(frames.request("42", origin, 3, frames.type_part("chat"), b'"tag"', b'{ "a":1}')))
    assert isinstance(event, Request)
    assert event.sender == Sender("t", "j.example", True)
    assert (event.type, event.id, event.scope, event.hops, event.dry_run) == ("chat", "tag", "client", 3, False)
    assert (event.request_id, bytes(event.raw), event.data) == ("42", b'{ "a":1}', {"a": 1})


def test_dry_run(handler: HandlerConversation) -> None:
    event = handler.receive(b'{"header":{"messageType":"request","id":"1","dryRun":true},"payload":{"type":"c"}}')
    assert isinstance(event, Request)
    assert event.dry_run
    assert event.sender is UNTOLD


def test_fatal(handler: HandlerConversation) -> None:
    event = handler.receive(body(frames.fatal(ShuttingDown())))
    assert isinstance(event, FatalError)
    assert event.error.code == "shuttingDown"
    assert handler.closed
    assert handler.receive(b'{"header":{"messageType":"fatal"},"payload":{}}') == FatalError(event.error.__class__())


@pytest.mark.parametrize(
    "wrong",
    [
        b"{}",
        b'{"header":{"messageType":"news"},"payload":{}}',
        b'{"header":{"messageType":"news"},"payload":{"type":"request"}}',
    ],
)
def test_what_no_server_says(handler: HandlerConversation, wrong: bytes) -> None:
    with pytest.raises(Malformed):
        handler.receive(wrong)


OWN = {"own": 1}
RESPONSES: list[tuple[Response, list[tuple[str, Any, str | None, Any, bool]]]] = [
    (None, [("done", None, None, None, False)]),
    ([], [("done", None, None, None, False)]),
    (Done(), [("done", None, None, None, False)]),
    (SendClients(["g"]), [("sendClients", ["g"], None, OWN, False)]),
    (SendClients(("g", "h"), 5), [("sendClients", ["g", "h"], None, 5, False)]),
    (SendClients(["g"], None), [("sendClients", ["g"], None, None, False)]),
    (SendClients(["g"], "x", "news", True), [("sendClients", ["g"], "news", "x", True)]),
    (SendClients(["g"], type="news"), [("sendClients", ["g"], "news", OWN, False)]),
    ([SendServers(["k:1"], [1])], [("sendServers", ["k:1"], None, [1], False)]),
    (SendServers(["k:1"], transient=True), [("sendServers", ["k:1"], None, OWN, True)]),
    (SendHandler("M2"), [("sendHandler", "M2", None, OWN, False)]),
    (SendHandler("M2", 2), [("sendHandler", "M2", None, 2, False)]),
    (Reply({"a": 1}), [("reply", None, None, {"a": 1}, False)]),
    (Reply(), [("reply", None, None, OWN, False)]),
    (
        [SendClients(["g"]), Reply("yes"), SendServers(["k"], type="n"), Done()],
        [
            ("sendClients", ["g"], None, OWN, False),
            ("reply", None, None, "yes", False),
            ("sendServers", ["k"], "n", OWN, False),
            ("done", None, None, OWN, False),
        ],
    ),
    (
        (
            Reply(1),
            SendHandler(
                "M2",
                2,
            ),
            SendClients(["g"], 3, "n"),
        ),
        [
            ("reply", None, None, 1, False),
            ("sendHandler", "M2", None, 2, False),
            ("sendClients", ["g"], "n", 3, False),
        ],
    ),
]


@pytest.mark.parametrize(("response", "expected"), RESPONSES)
def test_responses(handler: HandlerConversation, response: Response, expected: list[Any]) -> None:
    attached = decode_handler_message(body(handler.answer(REQUEST, response)))
    assert isinstance(attached, HandlerMessage)
    assert (attached.header.id, attached.header.status) == ("42", "0")
    assert said(attached) == expected
    classic = decode_classic(body(classic_answer(REQUEST, response)))
    assert classic.header.status == "0"
    assert said(classic) == expected


def test_own_data_is_carried_byte_for_byte_and_once(handler: HandlerConversation) -> None:
    text = handler.answer(REQUEST, [SendClients(["g"]), SendClients(["h"], type="n"), SendServers(["k"])])
    assert text.count(b'{"own": 1}') == 1


def test_the_classic_form_has_its_data_at_the_top() -> None:
    assert json.loads(body(classic_answer(REQUEST, SendClients(["g"], 1)))) == {
        "header": {"status": "0", "command": {"type": "sendClients", "data": ["g"]}},
        "data": 1,
    }
    assert json.loads(body(classic_answer(REQUEST, Reply(1, "n")))) == {
        "header": {"status": "0", "command": {"type": "reply"}},
        "payload": {"type": "n", "data": 1},
        "data": 1,
    }


def test_failures(handler: HandlerConversation) -> None:
    attached = decode_handler_message(body(handler.fail(REQUEST)))
    assert isinstance(attached, HandlerMessage)
    assert (attached.header.id, attached.header.status) == ("42", "1")
    assert decode_classic(body(classic_failure())).header.status == "1"


def test_push(handler: HandlerConversation) -> None:
    pushed = decode_handler_message(body(handler.push("h1", SendClients(["g"], "hot"), "kitchen")))
    assert isinstance(pushed, HandlerMessage)
    assert (pushed.header.message_type, pushed.header.id) == ("push", "h1")
    assert said(pushed) == [("sendClients", ["g"], "kitchen", "hot", False)]
    pushed = decode_handler_message(body(handler.push("h2", [SendClients(["g"], 1), SendClients(["h"])], "k")))
    assert said(pushed) == [
        ("sendClients", ["g"], "k", 1, False),
        ("sendClients", ["h"], "k", None, False),
    ]


def test_a_classic_request() -> None:
    request = classic_request("chat", b"[1 ]")
    assert (request.type, request.sender, request.data, bytes(request.raw)) == ("chat", UNTOLD, [1], b"[1 ]")


@pytest.mark.parametrize(
    "wrong",
    [
        "g",
        {"a": 1},
        [SendClients(["g"]), None],
        Command(),
        SendClients("g"),
        SendServers([1]),  # type: ignore[list-item]
        SendHandler(["a"]),  # type: ignore[arg-type]
        Reply(object()),
    ],
)
def test_a_bad_response_is_refused(handler: HandlerConversation, wrong: Any) -> None:
    with pytest.raises(TypeError):
        handler.answer(REQUEST, wrong)


def test_commands_in() -> None:
    assert commands_in((Done(), Reply(1))) == [Done(), Reply(1)]


def test_attach_with_all_features(handler: HandlerConversation) -> None:
    message = decode_attach(body(handler.attach(["chat"], features=("dryRun", "parts", "cancel"))))
    assert message.header.features == ("dryRun", "parts", "cancel")


def test_a_request_says_how_many_parts_it_takes(handler: HandlerConversation) -> None:
    one = b'{"header":{"messageType":"request","id":"42"%s},"payload":{"type":"chat","id":"7","data":1}}'
    event = handler.receive(one % b',"parts":16')
    assert isinstance(event, Request)
    assert (event.request_id, event.parts) == ("42", 16)
    for text, parts in ((b',"parts":0', 0), (b"", None)):
        event = handler.receive(one % text)
        assert isinstance(event, Request)
        assert event.parts == parts
    with pytest.raises(Malformed):
        handler.receive(one % b',"parts":"many"')


@pytest.mark.parametrize("response", [Reply(1), None, SendClients(["g"], 2, "news"), [Reply(1), Reply(2)]])
def test_an_answer_after_which_more_follows(handler: HandlerConversation, response: Response) -> None:
    last, more = (json.loads(body(handler.answer(REQUEST, response, more))) for more in (False, True))
    assert "more" not in last["header"]
    assert more["header"].pop("more") is True
    assert more == last
    again = decode_handler_message(body(handler.answer(REQUEST, response, more=True)))
    assert isinstance(again, HandlerMessage)
    assert (again.header.id, again.header.status) == ("42", "0")


def test_the_sender_takes_more_parts_or_gives_up(handler: HandlerConversation) -> None:
    more = handler.receive(b'{"header":{"messageType":"more","id":"42","parts":8}}')
    assert more == MoreParts("42", 8)
    assert handler.receive(b'{"header":{"messageType":"cancel","id":"42"}}') == Cancel("42")
    assert handler.receive(b'{"payload":{}, "header": {"id":"request","messageType":"cancel"}}') == Cancel("request")
    with pytest.raises(Malformed):
        handler.receive(b'{"header":{"messageType":"more","id":"42","parts":null}}')
