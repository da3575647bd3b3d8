"""References within a document of JSON Schemas."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

MAX_REFERENCES = 32
"""How many references are followed from one to the next."""


def target(document: Any, reference: str) -> Any:
    """Returns what a reference names, such as ``#/$defs/Pizza``; None if it is not in the document."""
    if not reference.startswith("#"):
        return None
    found = document
    for part in unquote(reference[1:]).split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isdigit() and int(key) < len(found):
            found = found[int(key)]
        else:
            return None
    return found


def resolved(document: Any, schema: Any) -> Any:
    """Returns a schema with what it refers to in its place; annotations beside the reference win."""
    beside: dict[str, Any] = {}
    for _ in range(MAX_REFERENCES):
        if not isinstance(schema, dict) or not isinstance(schema.get("$ref"), str):
            break
        beside = {key: value for key, value in schema.items() if key != "$ref"} | beside
        schema = target(document, schema["$ref"])
    return {**schema, **beside} if isinstance(schema, dict) and beside else schema


def moved(schema: Any, place: str) -> Any:
    """Returns a schema whose references to itself name it at a place of a larger document, such as ``#/a/b``."""
    if isinstance(schema, list):
        return [moved(one, place) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: place + value[1:]
        if key == "$ref" and isinstance(value, str) and value.startswith("#")
        else moved(value, place)
        for key, value in schema.items()
        if key not in ("$id", "$schema") or not isinstance(value, str)
    }
