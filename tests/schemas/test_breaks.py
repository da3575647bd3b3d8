"""What a new description of types breaks for clients of the old one."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bester.schemas.asyncapi import TypeSchemas
from bester.schemas.breaks import Break, breaks


def of_request(old: Any, new: Any) -> list[tuple[str, str]]:
    found = breaks({"t": TypeSchemas(request=old)}, {"t": TypeSchemas(request=new)}, old, new)
    return [(one.place, one.why) for one in found]


def of_answer(old: Any, new: Any) -> list[tuple[str, str]]:
    found = breaks({"t": TypeSchemas(answer=old)}, {"t": TypeSchemas(answer=new)}, old, new)
    return [(one.place, one.why) for one in found]


def members(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


INT: dict[str, Any] = {"type": "integer"}
TEXT: dict[str, Any] = {"type": "string"}
NULL: dict[str, Any] = {"type": "null"}
LATER = {"$defs": {"P": members("x", x=INT, next={"anyOf": [{"$ref": "#/$defs/P"}, NULL]})}, "$ref": "#/$defs/P"}
WIDER = {
    "$defs": {"Q": members("x", x={"type": "number"}, next={"anyOf": [NULL, {"$ref": "#/$defs/Q"}]})},
    "$ref": "#/$defs/Q",
}

GOOD_REQUESTS: dict[str, tuple[Any, Any]] = {
    "nothing": (members("a", a=INT), members("a", a=INT)),
    "an optional member more": (members("a", a=INT), members("a", a=INT, b=TEXT)),
    "a member less": (members(a=INT, b=TEXT), members(a=INT)),
    "a member that may be missing now": (members("a", a=INT), members(a=INT)),
    "a wider type": (INT, {"type": "number"}),
    "one of several types": (INT, {"type": ["string", "integer"]}),
    "a union": ({"anyOf": [INT, NULL]}, {"anyOf": [NULL, TEXT, INT]}),
    "a list of types as a union": ({"type": ["integer", "null"]}, {"anyOf": [NULL, INT]}),
    "an enum grows": ({"enum": ["a", "b"]}, {"enum": ["a", "b", "c"]}),
    "an enum of a type": ({"enum": ["a", "b"]}, TEXT),
    "wider bounds": ({"type": "integer", "minimum": 3, "maximum": 5}, {"minimum": 0, "exclusiveMaximum": 6}),
    "a new schema": (None, INT),
    "no schema any more": (INT, None),
    "references": (LATER, WIDER),
    "a closed object": (members(a=INT) | {"additionalProperties": False}, members(a=INT)),
    "other words": ({**INT, "title": "A"}, {**INT, "description": "B", "default": 5}),
    "a map of wider values": ({"additionalProperties": INT}, {"additionalProperties": {"type": "number"}}),
    "longer texts": ({"type": "string", "maxLength": 5}, {"type": "string", "maxLength": 9}),
    "a tuple": ({"type": "array", "prefixItems": [INT, TEXT], "items": False}, {"type": "array", "prefixItems": [INT]}),
}


@pytest.mark.parametrize("case", GOOD_REQUESTS)
def test_changes_of_a_request_that_break_nothing(case: str) -> None:
    assert of_request(*GOOD_REQUESTS[case]) == []


BAD_REQUESTS: dict[str, tuple[Any, Any, list[tuple[str, str]]]] = {
    "a required member": (members(a=INT), members("b", a=INT, b=TEXT), [("request.b", "is required now")]),
    "required now": (members(a=INT), members("a", a=INT), [("request.a", "is required now")]),
    "a narrower type": (
        members(a={"type": "number"}),
        members(a=INT),
        [("request.a", "number is no longer taken (allowed: integer)")],
    ),
    "a type less": ({"type": ["string", "null"]}, TEXT, [("request", "null is no longer taken (allowed: string)")]),
    "an enum shrinks": ({"enum": ["a", "b"]}, {"enum": ["a"]}, [("request", '"b" is no longer taken')]),
    "an enum": (TEXT, {"enum": ["a"]}, [("request", 'any other value than "a" is no longer taken')]),
    "closed": (
        members(a=INT, b=INT),
        members(a=INT) | {"additionalProperties": False},
        [("request.b", "is no longer taken")],
    ),
    "bounds": (INT, {**INT, "minimum": 1}, [("request", "less than 1 is no longer taken")]),
    "a length": (TEXT, {**TEXT, "maxLength": 5}, [("request", "more than 5 characters is no longer taken")]),
    "a pattern": (TEXT, {**TEXT, "pattern": "a"}, [("request", 'pattern is "a" now')]),
    "items": (
        members(a={"type": "array", "items": INT}),
        members(a={"type": "array", "items": TEXT}),
        [("request.a[]", "integer is no longer taken (allowed: string)")],
    ),
    "what cannot be compared": (TEXT, {"not": {"const": "a"}}, [("request", "cannot be compared: not differs")]),
    "within references": (WIDER, LATER, [("request.x", "number is no longer taken (allowed: integer)")]),
    "anything": (
        {},
        members(a=INT),
        [("request", "array, boolean, null, number, string is no longer taken (allowed: object)")],
    ),
    "a branch less": (
        {"anyOf": [INT, TEXT]},
        {"anyOf": [INT, NULL]},
        [("request", "string is no longer taken (allowed: integer)")],
    ),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_changes_of_a_request_that_break_clients(case: str) -> None:
    old, new, expected = BAD_REQUESTS[case]
    assert of_request(old, new)[: len(expected)] == expected


def test_changes_of_an_answer() -> None:
    old = members("a", "b", a=INT, b=TEXT, c=TEXT)
    assert of_answer(old, members("a", "b", "d", a=INT, b={"enum": ["x"]}, c=TEXT, d=TEXT)) == []
    assert of_answer(old, members("a", a={"type": "number"}, b=TEXT)) == [
        ("answer.b", "may be missing"),
        ("answer.a", "number may come now (allowed: integer)"),
        ("answer.c", "is no longer given"),
    ]
    assert of_answer(old, None) == [("answer", "nothing is said of it any more")]
    assert of_answer({"enum": ["a"]}, {"enum": ["a", "b"]}) == [("answer", '"b" may come now')]


def test_types() -> None:
    assert breaks({"a": TypeSchemas()}, {"b": TypeSchemas(request=INT)}, {}, {}) == [
        Break("a", "", "the type is no longer there")
    ]


# -- in general -------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c"])
SCALARS = st.sampled_from([None, True, False, 0, 1, 2, 7, 1.5, "", "x", "xyz"])
LIMITS = st.integers(0, 4)


def _some(**options: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=options)


def _with_type(kind: str, **options: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return _some(**options).map(lambda more: {"type": kind, **more})


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return _with_type(
        "object",
        properties=st.dictionaries(NAMES, inner, max_size=3),
        required=st.lists(NAMES, unique=True, max_size=2),
        additionalProperties=st.booleans() | inner,
    )


def _deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        _objects(inner),
        _with_type(
            "array", items=inner, minItems=LIMITS, maxItems=LIMITS, prefixItems=st.lists(inner, min_size=1, max_size=2)
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: {"anyOf": some}),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: {"oneOf": some}),
        st.lists(inner, min_size=1, max_size=2).map(lambda some: {"allOf": some}),
        st.tuples(_objects(inner), inner).map(lambda two: {**two[0], "anyOf": [two[1], {}]}),
        inner.map(lambda one: {"$defs": {"x": one}, "allOf": [one]}),
    )


SCHEMAS: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.booleans(),
        st.sampled_from([{}, {"type": "null"}, {"type": "boolean"}]),
        _with_type("integer", minimum=LIMITS, maximum=LIMITS, multipleOf=st.integers(1, 3)),
        _with_type("number", exclusiveMinimum=LIMITS, exclusiveMaximum=LIMITS),
        _with_type("string", minLength=LIMITS, maxLength=LIMITS, pattern=st.sampled_from(["x", "^x"])),
        st.lists(SCALARS, min_size=1, max_size=4).map(lambda some: {"enum": some}),
        SCALARS.map(lambda one: {"const": one}),
        st.lists(st.sampled_from(["integer", "string", "null", "number"]), min_size=1, unique=True).map(
            lambda some: {"type": some}
        ),
    ),
    _deeper,
    max_leaves=8,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def _changed(draw: st.DrawFn, schema: Any) -> Any:
    """Returns a schema that differs a little, or in one place within it."""
    if not isinstance(schema, dict) or not schema or draw(st.integers(0, 5)) == 0:
        return draw(SCHEMAS)
    key = draw(st.sampled_from(sorted(schema)))
    value = schema[key]
    change: Any
    if draw(st.booleans()) and key != "type":
        return {name: one for name, one in schema.items() if name != key}
    if key == "properties":
        change = {name: _changed(draw, one) if draw(st.booleans()) else one for name, one in value.items()}
    elif key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        change = [_changed(draw, one) if draw(st.booleans()) else one for one in value]
    elif key in ("items", "additionalProperties"):
        change = _changed(draw, value)
    elif key in ("enum", "required"):
        change = draw(st.lists(st.sampled_from(value), unique_by=repr)) if value else value
        change = change if change or key == "required" else value
    elif isinstance(value, int) and not isinstance(value, bool):
        change = max(1, value + draw(st.integers(-1, 1)))
    else:
        return schema
    return {**schema, key: change}


def _value(draw: st.DrawFn, schema: Any) -> Any:
    """Returns a value that fits a schema more often than not, with members that the schema names."""
    if not isinstance(schema, dict) or not schema:
        return draw(VALUES)
    for key in ("enum", "anyOf", "oneOf", "allOf"):
        if key in schema and (key == "enum" or "properties" not in schema or draw(st.booleans())):
            found = draw(st.sampled_from(schema[key]))
            return found if key == "enum" else _value(draw, found)
    if "const" in schema:
        return schema["const"]
    named = schema.get("type")
    kind = draw(st.sampled_from(named)) if isinstance(named, list) else named
    if kind in ("integer", "number"):
        return draw(st.integers(0, 8) | st.sampled_from([1.5, 2.0])) if kind == "number" else draw(st.integers(0, 8))
    if kind == "string":
        return draw(st.text("xy", max_size=5))
    if kind == "array":
        first = [_value(draw, one) for one in schema.get("prefixItems", []) if draw(st.integers(0, 3))]
        return first + [_value(draw, schema.get("items", True)) for _ in range(draw(st.integers(0, 3)))]
    if kind == "object":
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        found = {
            name: _value(draw, one)
            for name, one in properties.items()
            if name in schema.get("required", []) or draw(st.booleans())
        }
        if others is not None or "properties" not in schema:
            beyond = True if others is None else others
            more = draw(st.lists(NAMES, unique=True, max_size=2))
            found |= {name: _value(draw, beyond) for name in more if name not in properties}
        return found
    return draw(st.booleans() | st.none())


@st.composite
def cases(draw: st.DrawFn) -> tuple[Any, Any, Any]:
    """Returns a schema, a changed one, and a value that fits the first."""
    old = draw(SCHEMAS)
    value = _value(draw, old)
    assume(jsonschema_rs.is_valid(old, value))
    return old, _changed(draw, old), value


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(cases())
def test_what_the_old_schema_takes_the_new_one_takes_where_nothing_is_found(case: tuple[Any, Any, Any]) -> None:
    old, new, value = case
    if not of_request(old, new):
        assert jsonschema_rs.is_valid(new, value)


@settings(max_examples=150, deadline=None)
@given(SCHEMAS)
def test_a_schema_breaks_nothing_of_itself(schema: Any) -> None:
    assert of_request(schema, schema) == of_answer(schema, schema) == []
