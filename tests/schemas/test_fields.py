"""The fields of a schema as a person reads them, and a value to begin with."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from bester.schemas.example import example
from bester.schemas.fields import MAX_ROWS, fields, kind

PIZZA = {
    "type": "object",
    "title": "Pizza",
    "required": ["name", "size"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "description": "What the menu\ncalls it."},
        "size": {"enum": ["small", "large"]},
        "count": {"type": "integer", "minimum": 1, "default": 1},
        "extras": {"type": "array", "items": {"$ref": "#/$defs/Extra"}},
        "when": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
    },
    "$defs": {"Extra": {"type": "object", "properties": {"price": {"type": "number"}}, "required": ["price"]}},
}


def test_the_fields_of_an_object() -> None:
    found = [(one.place, one.kind, one.required, one.about) for one in fields(PIZZA)]
    assert found == [
        ("name", "string, at least 1 characters", True, "What the menu calls it."),
        ("size", '"small" | "large"', True, ""),
        ("count", "integer, >= 1", False, "Default: 1"),
        ("extras", "array of object", False, ""),
        ("extras[].price", "number", True, ""),
        ("when", "string (date-time) | null", False, ""),
    ]


KINDS: list[tuple[Any, str]] = [
    (True, "anything"),
    (False, "nothing"),
    ({}, "anything"),
    ({"const": None}, "null"),
    ({"type": ["string", "null"]}, "string | null"),
    ({"allOf": [{"type": "integer"}, {"minimum": 5}]}, "integer & anything, >= 5"),
    ({"$ref": "#/$defs/none"}, "anything"),
    ({"items": True}, "array"),
]


@pytest.mark.parametrize(("schema", "text"), KINDS)
def test_kinds(schema: Any, text: str) -> None:
    assert kind(schema, schema) == text
    (one,) = fields(schema)
    assert one.place == ""


def test_what_is_large_or_within_itself_is_cut() -> None:
    loop: dict[str, Any] = {"properties": {"next": {"$ref": "#"}, "also": {"$ref": "#"}}}
    assert len(fields(loop)) <= MAX_ROWS
    assert len(fields({"properties": {str(number): {} for number in range(1000)}})) == MAX_ROWS
    assert fields({"$ref": "#"})
    example({"$ref": "#"})
    example({"required": ["next"], **loop})


@pytest.mark.parametrize(
    "schema",
    [
        PIZZA,
        {"anyOf": [{"type": "integer", "minimum": 3}, {"type": "null"}]},
        {"type": "array", "minItems": 2, "items": {"type": "boolean"}},
        {"type": ["string", "null"]},
        {"enum": [5]},
        True,
    ],
)
def test_examples_fit(schema: Any) -> None:
    value = example(schema)
    if schema is PIZZA:
        assert value == {"name": "", "size": "small"}
    else:
        assert jsonschema_rs.is_valid(schema, value)
