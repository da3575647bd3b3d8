"""Finds the last value of each repeated key if an earlier value has the wrong type (docs/protocol.md, section 1.2).

msgspec checks each value of a repeated key against the field's type, and fails at the first mismatch. So this module
decodes the known members again without types, which keeps the last value of each, and encodes them for another try.
msgspec does all the work except one step per struct that the message's type names.
"""

from __future__ import annotations

import functools
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin

import msgspec
from msgspec import UNSET, Raw, Struct
from msgspec.json import Decoder

_encode = msgspec.json.Encoder().encode


class Member(NamedTuple):
    """A member whose value is a struct or a list of structs."""

    name: str
    kind: type[Struct]
    many: bool
    """Whether the value is a list."""


@functools.cache
def members(kind: type[Struct]) -> list[Member]:
    """Returns the members of a struct that hold structs."""
    found = []
    for field in msgspec.structs.fields(kind):
        options = get_args(field.type) if get_origin(field.type) in (Union, UnionType) else (field.type,)
        for option in options:
            many = get_origin(option) is list
            inner = get_args(option)[0] if many else option
            if _is_untagged(inner):
                found.append(Member(field.name, inner, many))
    return found


def _is_untagged(kind: object) -> bool:
    """Returns whether this is a struct type without a tag that ignores unknown members."""
    if not (isinstance(kind, type) and issubclass(kind, Struct)):
        return False
    return kind.__struct_config__.tag is None and not kind.__struct_config__.forbid_unknown_fields


@functools.cache
def _loose(kind: type[Struct]) -> tuple[Decoder[Any], Decoder[Any]]:
    """Returns decoders for the struct and for a list of such structs that accept any values of the known members."""
    fields = msgspec.structs.fields(kind)
    names = {field.name: field.encode_name for field in fields}
    loose = msgspec.defstruct(kind.__name__, [(name, Raw, UNSET) for name in names], rename=names, gc=False)
    return Decoder(loose), Decoder(list[loose])  # type: ignore[valid-type]


def last_values(kind: type[Struct], body: bytes) -> bytes:
    """Returns a message of this type with only its known members, each once.

    Raises:
        msgspec.DecodeError: the body is not such a message, whichever values count.
    """
    if not _is_untagged(kind):
        raise msgspec.DecodeError("there is nothing to be looked for")
    top = _loose(kind)[0].decode(body)
    _keep_last(kind, [top])
    return _encode(top)


def _keep_last(kind: type[Struct], structs: list[Any]) -> None:
    for name, inner, many in members(kind):
        decode = _loose(inner)[many].decode
        below: list[Any] = []
        for struct in structs:
            value = getattr(struct, name)
            if value is not UNSET and bytes(memoryview(value)[:4]) != b"null":
                found = decode(value)
                setattr(struct, name, found)
                below += found if many else (found,)
        _keep_last(inner, below)
