"""The frames that a server sends, byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from bester.errors import BadAddress, BesterError, MailboxFull, ShuttingDown, all_kinds
from bester.protocol import frames

ODD = rb'{ "a":1e400 ,"a":"\ud800"}'


def read(frame: bytes) -> Any:
    assert int.from_bytes(frame[:4], "little") == len(frame) - 4
    return json.loads(frame[4:])


@pytest.mark.parametrize("id", ["", "7", 'a"b\\\n', "é😀\u2028"])
def test_a_good_report(id: str) -> None:
    text = frames.encode_text(id)
    assert frames.good_report(text) == frames.report(text)
    assert read(frames.report(text)) == {
        "header": {"messageType": "statusReport", "status": "good"},
        "payload": {"id": id},
    }


def test_a_report_with_everything() -> None:
    error = MailboxFull()
    results = [frames.result("t", "delivered"), frames.result('"g', "failed", error)]
    told = {"code": "mailboxFull", "message": MailboxFull.meaning, "temporary": True}
    assert read(frames.report(b'"7"', error, results, Raw(b"[ 1]"), b',"server":"j"')) == {
        "header": {"messageType": "statusReport", "status": "bad"},
        "payload": {
            "id": "7",
            "error": told,
            "results": [{"to": "t", "status": "delivered"}, {"to": '"g', "status": "failed", "error": told}],
            "data": [1],
            "server": "j",
        },
    }


def test_a_report_without_results_has_no_such_member() -> None:
    assert frames.report(b'"7"', results=[]) == frames.good_report(b'"7"')
    assert "data" in read(frames.report(b'"7"', data=b"null"))["payload"]


def test_the_cause_of_an_error_stays_inside() -> None:
    error = BadAddress("not shown what follows")
    error.__cause__ = ValueError("secret")
    assert b"secret" not in frames.fatal(error)


@pytest.mark.parametrize("kind", all_kinds().values())
def test_fatal(kind: type[BesterError]) -> None:
    assert read(frames.fatal(kind())) == {
        "header": {"messageType": "fatal", "status": "bad"},
        "payload": {"error": {"code": kind.code, "message": kind.meaning, "temporary": kind.temporary}},
    }
    assert read(frames.fatal(ShuttingDown('a "reason"')))["payload"]["error"]["message"] == 'a "reason"'


def test_pong() -> None:
    assert read(frames.pong(b'"p1"')) == {
        "header": {"status": "0"},
        "payload": {"type": "dummy", "data": None, "id": "p1"},
    }


def test_a_received_message_carries_data_byte_for_byte() -> None:
    frame = frames.received(frames.received_head('ch"at'), Raw(ODD))
    assert frame[4:] == b'{"header":{"messageType":"receivedMessage"},"payload":{"type":"ch\\"at","data":' + ODD + b"}}"
    assert read(frame)["payload"]["type"] == 'ch"at'


def test_a_request_carries_data_byte_for_byte() -> None:
    origin = frames.origin_part("client", "é", "j.example", True)
    frame = frames.request("12", origin, 3, frames.type_part("t\\"), b'"\\"tag\\""', ODD)
    assert frame.endswith(b',"data":' + ODD + b"}}")
    message = read(frame)
    assert message["header"] == {
        "messageType": "request",
        "id": "12",
        "scope": "client",
        "from": {"user": "é", "server": "j.example", "verified": True},
        "hops": 3,
    }
    assert (message["payload"]["type"], message["payload"]["id"]) == ("t\\", '"tag"')


def test_a_request_of_a_server_that_proved_nothing() -> None:
    origin = frames.origin_part("server", None, None, False)
    header = read(frames.request("1", origin, 0, frames.type_part("t"), b'""', b"null"))["header"]
    assert (header["scope"], header["from"]) == ("server", {"user": None, "server": None, "verified": False})


def test_a_message_for_another_server() -> None:
    frame = frames.to_server('"t"', "", ODD, 2)
    assert (
        frame[4:] == b'{"header":{"scope":"server","hops":2},"payload":{"type":"\\"t\\"","id":"","data":' + ODD + b"}}"
    )
