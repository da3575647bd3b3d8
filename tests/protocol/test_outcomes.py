"""An outcome is the same however the handler has spelled its answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bester.errors import HandlerTimeout
from bester.protocol.builtin import cancelled
from bester.protocol.frames import encode_text
from bester.protocol.messages import decode_classic
from bester.protocol.outcomes import failed, outcome_of


def outcome(header: Any, **more: Any) -> Any:
    message = decode_classic(json.dumps({"header": {"status": "0", **header}, **more}).encode())
    return json.loads(encode_text(outcome_of(message, "order")))


@pytest.mark.parametrize(
    ("header", "more"),
    [
        ({"command": {"type": "reply"}}, {"data": 1}),
        ({"command": {"type": "reply"}}, {"payload": {"data": 1}, "data": 2}),
        ({"commands": [{"type": "reply", "payload": {"data": 1}}]}, {"payload": {"data": 2}}),
        ({"commands": [{"type": "reply", "data": "unused", "payload": {"data": 1, "type": "order"}}], "status": 0}, {}),
        ({"commands": [{"type": "reply", "transient": False}]}, {"payload": {"data": 1, "type": "order"}}),
    ],
)
def test_spellings(header: Any, more: Any) -> None:
    assert outcome(header, **more) == {"commands": [{"type": "reply", "payload": {"type": "order", "data": 1}}]}


def test_what_is_no_good_answer() -> None:
    assert outcome({"status": "1"}) == {"refused": {}}
    assert outcome({"status": "1", "error": {"code": "x", "message": "y"}}) == {
        "refused": {"code": "x", "message": "y"}
    }
    assert outcome({})["failed"]["code"] == "badResponse"
    assert outcome({"command": {"type": "reply", "payload": {"type": "builtin"}}})["failed"]["code"] == "notAllowed"
    assert failed(HandlerTimeout()) == {"failed": {"code": "handlerTimeout", "message": HandlerTimeout.meaning}}


@pytest.mark.parametrize(
    ("body", "id"),
    [
        (b'{"header":{"messageType":"cancel"},"payload":{"id":"7"}}', "7"),
        (b'{"header":{"messageType":"cancel"},"payload":{}}', ""),
        (b'{"header":{"messageType":"cancel"}}', None),
        (b'{"header":{"messageType":"other"},"payload":{"id":"cancel"}}', None),
        (b'{"header":{},"payload":{"id":"7"}}', None),
        (b'"cancel"', None),
    ],
)
def test_cancels(body: bytes, id: str | None) -> None:
    assert cancelled(body) == id
