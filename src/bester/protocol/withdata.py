"""The base of all messages that carry ``data``, which is decoded only when it is asked for."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import msgspec
from msgspec import UNSET, Raw, Struct

from bester.protocol.messages import NOTHING
from bester.protocol.values import decode_data

T = TypeVar("T")

_encode = msgspec.json.Encoder(decimal_format="number").encode
MAX_FAULTS = 5
"""How many faults of a value one error lists."""


def read_inner(kind: Any, value: Any) -> Any:
    """Builds a value of a type that msgspec does not know; a value returned unchanged must have the type already."""
    if not hasattr(kind, "model_validate_json"):
        return value
    try:
        return kind.model_validate_json(_encode(value))
    except ValueError as error:
        raise ValueError(faults(error)) from error  # to which msgspec adds the place


def _read_model(kind: Any, raw: bytes) -> Any:
    try:
        return kind.model_validate_json(raw)
    except ValueError as error:
        raise msgspec.ValidationError(faults(error)) from error


def faults(error: Any) -> str:
    """Returns the faults that pydantic found, in msgspec's style."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    more = f"; and {len(found) - MAX_FAULTS} more" if len(found) > MAX_FAULTS else ""
    return "; ".join(f"{one['msg']} - at `{_place(one['loc'])}`" for one in found[:MAX_FAULTS]) + more


def _place(keys: tuple[str | int, ...]) -> str:
    return "$" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)


class WithData(Struct, kw_only=True, eq=False):
    """The base of all messages that carry data."""

    raw: Raw = NOTHING
    """The data's bytes as received; pass this to forward them unchanged."""
    _value: Any = UNSET

    @property
    def data(self) -> Any:
        """The data as a Python value, decoded when it is first asked for.

        Raises:
            BadNumber: the data contains a number that Python cannot hold.
            ValueError: the data is not JSON (only in a classic handler, where nothing checks it).
        """
        value = self._value
        if value is UNSET:
            value = self._value = decode_data(self.raw)
        return value

    def read(self, kind: type[T]) -> T:
        """Returns the data as a pydantic model, or a type that msgspec knows: a Struct, a dataclass, ``list[int]``, ...

        Raises:
            msgspec.ValidationError: the data is not of this type; the text names the place.
        """
        if hasattr(kind, "model_validate_json"):
            return cast("T", _read_model(kind, bytes(self.raw)))
        return msgspec.json.decode(self.raw, type=kind, dec_hook=read_inner)

    def __repr__(self) -> str:
        fields = ((name, getattr(self, name)) for name in self.__struct_fields__ if name not in ("raw", "_value"))
        shown = "".join(f"{name}={value!r}, " for name, value in fields if value not in (None, [], ()))
        return f"{type(self).__name__}({shown}raw={bytes(self.raw)!r})"
