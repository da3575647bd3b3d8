"""The fields of a JSON Schema as rows that a person reads at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bester.schemas.pointers import resolved

MAX_ROWS = 200
MAX_DEPTH = 6
MAX_TEXT = 160
_BOUNDS = (
    ("minimum", ">= {}"),
    ("exclusiveMinimum", "> {}"),
    ("maximum", "<= {}"),
    ("exclusiveMaximum", "< {}"),
    ("multipleOf", "a multiple of {}"),
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("minItems", "at least {} items"),
    ("maxItems", "at most {} items"),
    ("pattern", "matches {}"),
)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an object, at any depth."""

    place: str
    """Such as ``items[].price``; ``""`` for the whole value."""
    kind: str
    """Such as ``integer >= 1`` or ``"small" | "large"``."""
    required: bool
    about: str


def fields(schema: Any) -> list[Field]:
    """Returns the fields of a schema, an object's before those within; at most :data:`MAX_ROWS`."""
    found: list[Field] = []
    for field in _walk(schema, schema, "", True, MAX_DEPTH):
        found.append(field)
        if len(found) == MAX_ROWS:
            break
    return found


def _walk(root: Any, schema: Any, place: str, required: bool, depth: int) -> Iterator[Field]:
    found = resolved(root, schema)
    if not isinstance(found, dict):
        yield Field(place, "anything" if found is not False else "nothing", required, "")
        return
    properties = found.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    if place or not properties:
        yield Field(place, kind(root, found), required, _about(found))
    if depth == 0:
        return
    names = found.get("required")
    for name, inner in properties.items():
        needed = isinstance(names, list) and name in names
        yield from _walk(root, inner, f"{place}.{name}" if place else name, needed, depth - 1)
    for inner, mark in ((found.get("items"), "[]"), (found.get("additionalProperties"), ".*")):
        known = resolved(root, inner)
        if isinstance(known, dict) and known.get("properties"):
            yield from _inside(root, known, f"{place}{mark}", depth - 1)
    for one in _branches(found):
        known = resolved(root, one)
        if isinstance(known, dict) and known.get("properties"):
            yield from _inside(root, known, place, depth - 1)


def _inside(root: Any, schema: dict[str, Any], place: str, depth: int) -> Iterator[Field]:
    """Yields the fields of an object whose own row has been written."""
    if depth <= 0:
        return
    names = schema.get("required")
    for name, inner in schema["properties"].items():
        needed = isinstance(names, list) and name in names
        yield from _walk(root, inner, f"{place}.{name}" if place else name, needed, depth - 1)


def _branches(schema: dict[str, Any]) -> list[Any]:
    return [one for key in ("anyOf", "oneOf", "allOf") if isinstance(schema.get(key), list) for one in schema[key]]


def kind(root: Any, schema: Any, depth: int = MAX_DEPTH) -> str:
    """Returns what a schema allows, in a few words."""
    schema = resolved(root, schema)
    if not isinstance(schema, dict):
        return "nothing" if schema is False else "anything"
    if "const" in schema:
        return _json(schema["const"])
    if isinstance(schema.get("enum"), list):
        return _cut(" | ".join(map(_json, schema["enum"])))
    branches = schema.get("anyOf", schema.get("oneOf"))
    if isinstance(branches, list) and depth:
        kinds = [kind(root, one, depth - 1) for one in branches]
        return _cut(" | ".join(dict.fromkeys(kinds)))
    if isinstance(schema.get("allOf"), list) and depth and "type" not in schema:
        return _cut(" & ".join(dict.fromkeys(kind(root, one, depth - 1) for one in schema["allOf"])))
    named = schema.get("type")
    text = " | ".join(map(str, named)) if isinstance(named, list) else str(named or _guessed(schema))
    if text == "array" and depth:
        items = schema.get("items")
        text = f"array of {kind(root, items, depth - 1)}" if items is not None and items is not True else "array"
    if text == "object":
        title = schema.get("title")
        text = f"object {title}" if isinstance(title, str) else text
    if isinstance(schema.get("format"), str):
        text += f" ({schema['format']})"
    bounds = [words.format(schema[key]) for key, words in _BOUNDS if key in schema]
    return _cut(", ".join([text, *bounds]))


def _guessed(schema: dict[str, Any]) -> str:
    return "object" if "properties" in schema else "array" if "items" in schema else "anything"


def _about(schema: dict[str, Any]) -> str:
    text = schema.get("description")
    text = " ".join(text.split()) if isinstance(text, str) else ""
    if "default" in schema:
        text = f"{text} Default: {_json(schema['default'])}".strip()
    return text if len(text) <= 3 * MAX_TEXT else f"{text[: 3 * MAX_TEXT]}..."


def _json(value: Any) -> str:
    return _cut(json.dumps(value, ensure_ascii=False))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."
