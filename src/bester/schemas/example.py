"""A value that fits a JSON Schema, to begin with where there is no sample."""

from __future__ import annotations

from typing import Any

from bester.schemas.pointers import resolved

MAX_DEPTH = 6
_PLAIN: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False, "array": [], "null": None}


def example(schema: Any) -> Any:
    """Returns a value with the members that a schema requires; it fits most schemas."""
    return _example(schema, schema, MAX_DEPTH)


def _example(root: Any, schema: Any, depth: int) -> Any:
    schema = resolved(root, schema)
    if not isinstance(schema, dict):
        return None
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    for key in ("examples", "enum"):
        if isinstance(schema.get(key), list) and schema[key]:
            return schema[key][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(key), list) and schema[key] and depth and "properties" not in schema:
            return _example(root, schema[key][0], depth - 1)
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if (kind == "object" or "properties" in schema) and depth:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        needed = schema.get("required")
        names = [name for name in properties if isinstance(needed, list) and name in needed]
        return {name: _example(root, properties[name], depth - 1) for name in names}
    if kind == "array" and depth and isinstance(schema.get("minItems"), int) and schema["minItems"] > 0:
        return [_example(root, schema.get("items"), depth - 1)] * min(schema["minItems"], 10)
    if kind in ("integer", "number"):
        return schema.get("minimum", 0)
    return _PLAIN.get(str(kind), {} if kind == "object" else None)
