"""Reads the models as a tree of keys, to find unknown keys, describe allowed values, and write the documentation."""

from __future__ import annotations

import types
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from bester.config.problems import KeyPath
from bester.config.values import Block

KEY_MARK = "[key]"
"""pydantic appends this to an error's place if the error is in a name, not in the value under it."""


def words(field: FieldInfo) -> dict[str, Any]:
    """Returns a field's metadata (see :func:`bester.config.values.field`)."""
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def keys(model: type[Block]) -> dict[str, FieldInfo]:
    """Returns a block's fields by their keys in the file."""
    return {
        field.alias or name: field for name, field in model.model_fields.items() if not words(field).get("internal")
    }


def block_of(annotation: Any) -> type[Block] | None:
    """Returns the block that a field holds, or None if it holds something else."""
    kinds = [kind for kind in _alternatives(annotation) if isinstance(kind, type) and issubclass(kind, Block)]
    return kinds[0] if kinds else None


def entries_of(annotation: Any) -> type[Block] | None:
    """Returns the block of a field that holds several blocks, by name or in a list; None if it holds something else."""
    for kind in _alternatives(annotation):
        if get_origin(kind) is dict:
            return block_of(get_args(kind)[1])
        if get_origin(kind) is tuple:
            return block_of(get_args(kind)[0])
    return None


def describe(model: type[Block], path: KeyPath) -> tuple[str, bool]:
    """Returns a description of the values allowed at a place, and whether its value is secret."""
    current: type[Block] | None = model
    allowed, secret = "an object", False
    rest = path
    while rest and current is not None:
        field = keys(current)[str(rest[0])]
        about, rest = words(field), rest[1:]
        allowed, secret = about["allowed"], secret or bool(about.get("secret"))
        current = block_of(field.annotation)
        if current is None and rest:
            if rest[1:] == (KEY_MARK,):
                return about["key"], False
            allowed, rest = about["item"], rest[1:]
            current = entries_of(field.annotation)
    return allowed, secret


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [kind for alternative in get_args(annotation) for kind in _alternatives(alternative)]
    return [annotation]
