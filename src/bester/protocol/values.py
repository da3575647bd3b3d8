"""The ``data`` of messages on the side of those who understand it: clients and handlers (docs/protocol.md, section 1).

The server never looks at ``data``. Here a Python value becomes its bytes, and its bytes become a Python value, only
when somebody asks for it.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct
from msgspec.json import Decoder, Encoder

from bester.protocol.messages import NOTHING, NULL
from bester.protocol.strictjson import decode

T = TypeVar("T")

_encode = Encoder().encode
_decode = Decoder().decode


def encode_data(value: object) -> Raw | bytes:
    """Returns a value as JSON; :class:`msgspec.Raw` is taken byte for byte, and must be JSON.

    Takes what msgspec encodes: besides JSON's own types also structs, dataclasses, dates, bytes (as base64) and more.

    Raises:
        TypeError: there is no JSON for it.
    """
    if type(value) is Raw:
        return value if len(value) else NULL
    try:
        return _encode(value)
    except UnicodeEncodeError:
        # A lone surrogate: JSON can say it, as an escape, but msgspec does not.
        return json.dumps(msgspec.to_builtins(value), separators=(",", ":"), allow_nan=False).encode()


def decode_data(raw: Raw | bytes) -> Any:
    """Returns JSON as a Python value; no bytes at all are None.

    Raises:
        ValueError: not JSON.
    """
    if not len(raw):
        return None
    try:
        return _decode(raw)
    except msgspec.DecodeError:
        # Lone surrogates, and numbers beyond a float's range, which JSON allows and msgspec does not.
        return json.loads(bytes(raw))


def decode_quickly(decoder: Decoder[T], body: bytes, max_depth: int) -> T:
    """As :func:`bester.protocol.strictjson.decode`, sooner for what is small and plain, as most messages are.

    Raises:
        Malformed: as there.
    """
    # Each level takes two bytes: what is no longer than this cannot be too deep.
    if len(body) <= 2 * max_depth and body.isascii():
        try:
            return decoder.decode(body)
        except msgspec.DecodeError:
            pass  # the other one knows why, or what else it may be
    return decode(decoder, body, max_depth)


class WithData(Struct, kw_only=True, eq=False):
    """The base of all messages that carry data."""

    raw: Raw = NOTHING
    """The data's bytes as they came, untouched; to pass them on as they are, pass this."""
    _value: Any = UNSET

    @property
    def data(self) -> Any:
        """The data as a Python value, decoded when it is first asked for.

        Raises:
            ValueError: not JSON (possible only where nobody checked: in a classic handler).
        """
        value = self._value
        if value is UNSET:
            value = self._value = decode_data(self.raw)
        return value

    def read(self, kind: type[T]) -> T:
        """Returns the data as a type that msgspec knows: a Struct, a dataclass, ``list[int]``, ...

        Raises:
            msgspec.ValidationError: the data is not of this type.
        """
        return msgspec.json.decode(self.raw, type=kind)

    def __repr__(self) -> str:
        fields = ((name, getattr(self, name)) for name in self.__struct_fields__ if name not in ("raw", "_value"))
        told = "".join(f"{name}={value!r}, " for name, value in fields if value not in (None, [], ()))
        return f"{type(self).__name__}({told}raw={bytes(self.raw)!r})"
