"""What a handler says of its types when it attaches, from its functions (docs/protocol.md, section 6.9).

The docstring is the description, and annotations become JSON Schemas. A function that takes a request has no schema.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from bester.handler.payload import is_model
from bester.handler.registered import Registered
from bester.handler.registry import Registry
from bester.protocol.descriptions import MAX_BYTES, Description
from bester.protocol.frames import encode_text
from bester.protocol.values import encode_data

MAX_ALL_BYTES = 512 * 1024
"""How much a handler says of all its types; a server takes a frame of 1 MiB unless it is configured otherwise."""
_DROPPED = ("samples", "parts", "answer", "request")
"""What is left out of a description that is too large, in this order."""

log = logging.getLogger("bester.handler")


def descriptions(registry: Registry) -> dict[str, Description]:
    """Returns the descriptions of the types of which there is something to say."""
    found: dict[str, Description] = {}
    total = 0
    for type in registry.types:
        registered = registry.get(type)
        described = _fitting(type, describe(registered)) if registered is not None else None
        if described is None:
            continue
        total += len(encode_text(described))
        if total > MAX_ALL_BYTES:
            log.warning("%s and the types after it are not described: all is too large", type)
            break
        found[type] = described
    return found


def describe(registered: Registered) -> Description:
    """Returns the description of one function, of whatever size."""
    return Description(
        description=registered.doc or None,
        version=registered.version or None,
        request=schema_of(registered.data_type),
        answer=schema_of(registered.answer_type),
        parts=schema_of(registered.part_type),
        samples=[Raw(encode_data(sample)) for sample in registered.samples],
    )


def _fitting(type: str, description: Description) -> Description | None:
    """Returns a description without what makes it too large; None if nothing is left to say."""
    for name in _DROPPED:
        if len(encode_text(description)) <= MAX_BYTES:
            break
        log.warning("%s is described without its %s: a description has at most %d bytes", type, name, MAX_BYTES)
        description = msgspec.structs.replace(description, **{name: [] if name == "samples" else None})
    if len(encode_text(description)) > MAX_BYTES:
        description = msgspec.structs.replace(description, description=None)
    return description if description != Description() else None


def schema_of(kind: Any) -> dict[str, Any] | None:
    """Returns the JSON Schema of an annotation; None if it has none, or allows anything."""
    if kind is UNSET or kind in (Any, object, None):
        return None
    try:
        found = _model_schema(kind) if is_model(kind) else msgspec.json.schema(kind, schema_hook=_inner_schema)
    except Exception as error:  # what a type's own hooks raise, too
        log.info("%s has no JSON Schema: %s", kind, error)
        return None
    return _without_own_docs(found) or None


def _model_schema(kind: Any) -> dict[str, Any]:
    from pydantic import TypeAdapter  # loaded already: the annotation is a model

    found: dict[str, Any] = TypeAdapter(kind).json_schema()
    return found


def _inner_schema(kind: Any) -> dict[str, Any]:
    """Returns the schema of a pydantic model within a Struct, where its references to itself have no place."""
    if not is_model(kind):
        raise NotImplementedError(f"{kind} has no JSON Schema")  # as a hook of msgspec says that it knows no schema
    found = _model_schema(kind)
    return {"type": "object", "title": found.get("title", "")} if "$defs" in found else found


def _without_own_docs(schema: Any) -> Any:
    """Takes out the docstrings that Python writes itself, for dataclasses."""
    if isinstance(schema, list):
        return [_without_own_docs(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    title, text = schema.get("title"), schema.get("description")
    dull = isinstance(title, str) and isinstance(text, str) and text.startswith(f"{title}(")
    return {key: _without_own_docs(one) for key, one in schema.items() if not (dull and key == "description")}
