"""The client's end of the conversation, against what the server's end reads and writes."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from msgspec import Raw, Struct, ValidationError

from bester.errors import Malformed, NoHandler, SlowConsumer, TooLarge
from bester.protocol import frames
from bester.protocol.client import AUTHENTICATION_ID, ClientConversation
from bester.protocol.messages import NULL, decode_first, decode_message
from bester.protocol.received import Pong, ReceivedMessage
from bester.protocol.reports import FatalError, Refused, Report, ReportError, Result, Step
from bester.protocol.values import decode_data, encode_data


def body(frame: bytes) -> bytes:
    assert int.from_bytes(frame[:4], "little") == len(frame) - 4
    return frame[4:]


@pytest.fixture
def client() -> ClientConversation:
    return ClientConversation()


def test_hello_with_a_password(client: ClientConversation) -> None:
    first = decode_first(body(client.hello("t", password="pw", features=("ack", "route"))))
    assert first.header.scope == "client"
    assert first.header.features == ("ack", "route")
    assert first.header.authentication is not None
    assert (first.header.authentication.username, first.header.authentication.password) == ("t", "pw")
    assert first.payload is not None
    assert first.payload.type == "dummy"


def test_hello_with_a_token(client: ClientConversation) -> None:
    first = decode_first(body(client.hello("t", token="abc")))
    assert first.header.authentication is not None
    assert (first.header.authentication.password, first.header.authentication.token) == (None, "abc")


def test_hello_that_registers(client: ClientConversation) -> None:
    first = decode_first(body(client.hello("t", password="pw", register=True)))
    assert first.header.authentication is None
    assert first.payload is not None
    assert (first.payload.type, first.payload.id) == ("builtin", AUTHENTICATION_ID)
    assert json.loads(bytes(first.payload.data)) == {
        "command": {"type": "register", "args": {"username": "t", "password": "pw"}}
    }


def test_admission(client: ClientConversation) -> None:
    limits = b',"features":["ack"],"server":"j.example","token":"abc","limits":{"maxMessage":99,"maxInFlight":8}'
    report = client.receive(body(frames.report(frames.encode_text(AUTHENTICATION_ID), fields=limits)))
    assert isinstance(report, Report)
    assert report.limits is not None
    assert (report.token, report.limits.max_in_flight) == ("abc", 8)
    assert (client.authenticated, client.features, client.server, client.max_message) == (
        True,
        ("ack",),
        "j.example",
        99,
    )
    client.logged_out()
    assert not client.authenticated


def test_admission_by_a_server_without_extensions(client: ClientConversation) -> None:
    client.receive(b'{"header":{"messageType":"statusReport","status":"good"},"payload":{"id":"auth_special"}}')
    assert client.authenticated
    assert client.max_message == 1024 * 1024


def test_refusal(client: ClientConversation) -> None:
    client.receive(body(frames.report(frames.encode_text(AUTHENTICATION_ID), NoHandler())))
    assert not client.authenticated


@pytest.mark.parametrize("data", [None, 1, "x", [1, {"a": None}], {"ä": 2**80}, 0.5])
def test_messages_arrive_as_they_were_sent(client: ClientConversation, data: object) -> None:
    for _ in range(2):  # the second time the head is known
        message = decode_message(body(client.message("chat", "7", data)))
        assert (message.payload.type, message.payload.id) == ("chat", "7")
        assert decode_data(message.payload.data) == data


def test_raw_data_goes_byte_for_byte(client: ClientConversation) -> None:
    message = decode_message(body(client.message("chat", "7", Raw(b'{ "a" :1.0 }'))))
    assert bytes(message.payload.data) == b'{ "a" :1.0 }'
    assert decode_message(body(client.message("chat", "7", Raw(b"")))).payload.data == NULL


def test_flags(client: ClientConversation) -> None:
    header = decode_message(body(client.message("chat", "7", 1, once=True, dry_run=True))).header
    assert (header.once, header.route, header.dry_run) == (True, False, True)


def test_a_message_that_is_too_large_is_not_sent(client: ClientConversation) -> None:
    client.max_message = 100
    with pytest.raises(TooLarge):
        client.message("chat", "1", "x" * 100)


def test_the_known_heads_are_bounded(client: ClientConversation) -> None:
    for number in range(1200):
        client.message(f"type{number}", "", None)
    assert decode_message(body(client.message("type1199", "", None))).payload.type == "type1199"


def test_commands_pings_and_acks(client: ClientConversation) -> None:
    command = decode_message(body(client.builtin("listTypes", "3", {})))
    assert json.loads(bytes(command.payload.data)) == {"command": {"type": "listTypes"}}
    command = decode_message(body(client.builtin("kick", "3", {"username": "g"})))
    assert json.loads(bytes(command.payload.data)) == {"command": {"type": "kick", "args": {"username": "g"}}}
    assert decode_message(body(client.ping("p"))).payload.type == "dummy"
    assert json.loads(body(client.ack(["a", "b"]))) == {
        "header": {"messageType": "ack"},
        "payload": {"ids": ["a", "b"]},
    }


def test_a_bad_report(client: ClientConversation) -> None:
    results = [frames.result("g", "delivered"), frames.result("h", "failed", NoHandler())]
    route = (
        b',"route":[{"server":"j","step":"server","name":"k:1","ms":1.5,"status":"sent","route":[{"step":"handler"}]}]'
    )
    report = client.receive(body(frames.report(b'"1"', NoHandler(), results, Raw(b"[1]"), route)))
    assert isinstance(report, Report)
    assert not report.good
    assert report.error == ReportError("noHandler", NoHandler.meaning, False)
    assert report.results == [Result("g", "delivered"), Result("h", "failed", report.error)]
    assert report.route == [Step("j", "server", "k:1", 1.5, "sent", [Step(step="handler")])]
    assert report.data == [1]
    assert repr(report).startswith("Report(id='1', good=False")
    with pytest.raises(Refused, match="noHandler") as caught:
        report.raise_for_status()
    assert caught.value.report is report
    assert caught.value.code == "noHandler"


def test_a_bad_report_without_a_reason() -> None:
    refused = Refused(Report(id="1", good=False))
    assert refused.code == ""
    assert not refused.temporary


def test_a_good_report(client: ClientConversation) -> None:
    report = client.receive(body(frames.good_report(b'"1"')))
    assert isinstance(report, Report)
    assert report.raise_for_status() is report
    assert report.data is None


def test_received_messages(client: ClientConversation) -> None:
    event = client.receive(body(frames.received(frames.received_head("chat"), b'{"a": 1}')))
    assert isinstance(event, ReceivedMessage)
    assert (event.type, event.delivery_id, bytes(event.raw)) == ("chat", None, b'{"a": 1}')
    assert event.data is event.data
    assert event.data == {"a": 1}

    event = client.receive(b'{"header":{"messageType":"receivedMessage"},"payload":{"type":"c","deliveryId":"d"}}')
    assert isinstance(event, ReceivedMessage)
    assert (event.delivery_id, event.data) == ("d", None)


def test_other_spellings_say_the_same(client: ClientConversation) -> None:
    received = client.receive(b'{"payload":{"data":[1],"type":"chat"}, "header": {"messageType": "receivedMessage"}}')
    assert isinstance(received, ReceivedMessage)
    assert (received.type, received.data) == ("chat", [1])
    report = client.receive(b'{"payload": {"id": "1"}, "header": {"status": "good", "messageType": "statusReport"}}')
    assert isinstance(report, Report)
    assert (report.id, report.good) == ("1", True)
    for id in ("", 'a"b', "a b", "é"):
        report = client.receive(body(frames.good_report(frames.encode_text(id))))
        assert isinstance(report, Report)
        assert (report.id, report.good) == (id, True)


def test_data_as_a_type(client: ClientConversation) -> None:
    class Chat(Struct):
        text: str

    message = ReceivedMessage("chat", raw=Raw(b'{"text":"hello"}'))
    assert message.read(Chat).text == "hello"
    with pytest.raises(ValidationError):
        message.read(int)


def test_pong_and_fatal(client: ClientConversation) -> None:
    assert client.receive(body(frames.pong(b'"p"'))) == Pong("p")
    assert not client.closed
    fatal = client.receive(body(frames.fatal(SlowConsumer())))
    assert fatal == FatalError(ReportError("slowConsumer", SlowConsumer.meaning, True))
    assert client.closed
    assert client.receive(b'{"header":{"messageType":"fatal"}}') == FatalError(ReportError())


@pytest.mark.parametrize("wrong", [b"[]", b"{}", b'{"header":{}}', b'{"header":{"messageType":"news"}}'])
def test_what_no_server_says(client: ClientConversation, wrong: bytes) -> None:
    with pytest.raises(Malformed):
        client.receive(wrong)


def test_values_that_msgspec_does_not_know() -> None:
    assert encode_data({"a": "\ud800"}) == b'{"a":"\\ud800"}'
    assert decode_data(b'"\\ud800"') == "\ud800"
    assert decode_data(b"1e400") == Decimal("1e400")
    assert decode_data(b"123456789012345678901234567890") == 123456789012345678901234567890
    assert decode_data(b"") is None
    with pytest.raises(TypeError):
        encode_data(object())
    with pytest.raises(ValueError, match="Expecting"):
        decode_data(b"{")


def test_a_message_whose_answer_may_have_parts(client: ClientConversation) -> None:
    assert json.loads(body(client.message("chat", "7", 1, parts=16))) == {
        "header": {"parts": 16},
        "payload": {"type": "chat", "id": "7", "data": 1},
    }
    assert json.loads(body(client.more("7", 8))) == {
        "header": {"messageType": "more"},
        "payload": {"id": "7", "parts": 8},
    }
    assert json.loads(body(client.cancel("7"))) == {"header": {"messageType": "cancel"}, "payload": {"id": "7"}}


@pytest.mark.parametrize(
    "text",
    [
        b'{"header":{"messageType":"receivedMessage","partOf":"7","more":true},"payload":{"type":"c","data":[1]}}',
        b'{"header":{"partOf":"7","messageType":"receivedMessage"}, "payload":{"data":[1],"type":"c"}}',
    ],
)
def test_a_part(client: ClientConversation, text: bytes) -> None:
    event = client.receive(text)
    assert isinstance(event, ReceivedMessage)
    assert (event.part_of, event.reply_to, event.delivery_id, event.type, event.data) == ("7", None, None, "c", [1])


def test_a_part_that_needs_an_acknowledgement(client: ClientConversation) -> None:
    head = b'{"header":{"messageType":"receivedMessage","partOf":"a\\"b"},'
    event = client.receive(head + b'"payload":{"type":"c","data":1,"deliveryId":"d"}}')
    assert isinstance(event, ReceivedMessage)
    assert (event.part_of, event.delivery_id) == ('a"b', "d")
    with pytest.raises(Malformed):
        client.receive(head + b'"payload":1}')
