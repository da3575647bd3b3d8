"""AsyncAPI documents of types: valid by AsyncAPI's own schema, and read again as they were meant."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from tests import javascript

from bester.schemas.asyncapi import NoDocument, document, read
from bester.schemas.breaks import breaks

ORDER = {
    "$ref": "#/$defs/Order",
    "$defs": {
        "Order": {
            "type": "object",
            "required": ["pizza"],
            "properties": {
                "pizza": {"enum": ["Funghi"]},
                "with": {"anyOf": [{"$ref": "#/$defs/Order"}, {"type": "null"}]},
            },
        }
    },
}


def row(type: str, **more: Any) -> dict[str, Any]:
    unsaid: dict[str, Any] = dict.fromkeys(("description", "version", "request", "answer", "parts"))
    return {"type": type, "samples": [], **unsaid, **more}


ROWS = [
    row("order", request=ORDER, answer={"type": "integer"}, version="1", samples=[{"pizza": "Funghi"}]),
    row("söme type/with ~all", description="First line.\nSecond.", request=True, parts={"type": "string"}),
    row("s me type", request=False),
    row("plain"),
]


def made() -> dict[str, Any]:
    return document(ROWS, "j.example", ["unix:///run/s", "tls://0.0.0.0:2224", "ws://[::1]:80/ws"], "admin@j.example")


def test_it_is_valid() -> None:
    path = javascript.asyncapi()
    if path is None:
        pytest.skip("AsyncAPI's schema is not installed; python -m tests.javascript --install gets it")
    schema = json.loads(path.read_text(encoding="utf-8"))
    found = [f"{one.instance_path}: {one.message}" for one in jsonschema_rs.validator_for(schema).iter_errors(made())]
    assert found == []


def test_what_it_has() -> None:
    found = made()
    assert [one["address"] for one in found["channels"].values()] == [one["type"] for one in ROWS]
    assert all(one["protocol"] == "bester" for one in found["servers"].values())
    assert found["servers"]["listener0"] == {
        "host": "localhost",
        "protocol": "bester",
        "description": "j.example, unix",
        "pathname": "/run/s",
    }
    assert found["components"]["messages"]["order.request"]["examples"] == [
        {"name": "sample1", "payload": {"pizza": "Funghi"}}
    ]
    assert set(found["channels"]["plain"]["messages"]) == {"request", "answer"}
    reply = found["operations"]["s_me_type_with_all.send"]["reply"]["messages"]
    assert [one["$ref"].rpartition("/")[2] for one in reply] == ["answer", "parts"]
    every = json.dumps(found)
    for reference in set(every.split('"$ref": "')[1:]):
        assert reference.startswith("#/")


def test_its_schemas_are_read_again() -> None:
    found = made()
    read_again = read(json.loads(json.dumps(found)))
    assert list(read_again) == [one["type"] for one in ROWS]
    order = read_again["order"]
    bundled = {**order.request, "components": found["components"]}
    assert jsonschema_rs.is_valid(bundled, {"pizza": "Funghi", "with": {"pizza": "Funghi", "with": None}})
    assert not jsonschema_rs.is_valid(bundled, {"pizza": "Funghi", "with": {"pizza": "Tonno"}})
    assert (read_again["plain"].request, read_again["plain"].answer) == (None, None)
    assert breaks(read_again, read_again, found, found) == []
    narrower = json.loads(json.dumps(found).replace('"Funghi"]', '"Funghi", "Tonno"]'))
    one, *others = breaks(read(narrower), read_again, narrower, found)
    assert (one.type, one.place, one.why) == ("order", "request.pizza", '"Tonno" is no longer taken')
    assert [other.place for other in others] == ["request.with.pizza"]


NO_DOCUMENTS: list[tuple[Any, str]] = [
    (None, "no AsyncAPI 3 document"),
    ({"asyncapi": "2.6.0"}, "no AsyncAPI 3 document"),
    ({"asyncapi": "3.0.0", "channels": []}, "channels must be an object"),
    ({"asyncapi": "3.0.0", "channels": {"a": {"messages": []}}}, "channels.a and its messages"),
    (
        {"asyncapi": "3.0.0", "channels": {"a": {"messages": {"request": {"payload": {"$ref": "#/x"}}}}}},
        "#/x is not in the document",
    ),
]


@pytest.mark.parametrize(("found", "text"), NO_DOCUMENTS)
def test_what_is_no_document(found: Any, text: str) -> None:
    with pytest.raises(NoDocument, match=text):
        read(found)
