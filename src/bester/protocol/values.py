"""Encodes and decodes the ``data`` of messages for clients and handlers (docs/protocol.md, section 1).

The server never looks at ``data``. This module encodes Python values, and decodes data only on request.

JSON's numbers have no bounds, but Python's ``int()`` and ``float`` have: a number beyond them becomes a
:class:`decimal.Decimal` with all its digits, and is encoded as the same number. All code that reads JSON from outside
uses this module; a ruff rule enforces that.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import msgspec
from msgspec import Raw
from msgspec.json import Decoder, Encoder

from bester.protocol.messages import NULL, Data

T = TypeVar("T")


def _encode_model(value: object) -> Raw:
    """Encodes a pydantic model, which msgspec does not know."""
    dump = getattr(value, "model_dump_json", None)
    if dump is None:
        raise TypeError(f"there is no JSON for the type {type(value).__name__}")
    return Raw(dump().encode())


_encode = Encoder(decimal_format="number", enc_hook=_encode_model).encode
_decode = Decoder().decode


class BadNumber(ValueError):
    """A number that Python cannot hold, not even as a :class:`decimal.Decimal`: its exponent has 18 digits or more.

    If an application fails with this, the client treats the message as handled, since it would fail again.
    """

    def __init__(self, place: str, number: str) -> None:
        self.place = place
        """The number's place, such as ``data.sizes[3]``."""
        shown = number if len(number) <= 40 else f"{number[:20]}...{number[-17:]}"
        super().__init__(f"{place} is a number that Python cannot hold, {shown}; message.raw has it")


class _TooLarge(NamedTuple):
    number: str


def encode_data(value: object) -> Data:
    """Returns a value as JSON; :class:`msgspec.Raw` is copied byte for byte, and must be JSON.

    Accepts all types that msgspec encodes: besides JSON's own types also structs, dataclasses, dates, bytes (as
    base64) and more; a :class:`decimal.Decimal` becomes a number. Accepts pydantic models, too.

    Raises:
        TypeError: the value has no JSON form.
        ValueError: the value contains a number that JSON does not have (an infinity or NaN), or an ``int`` of more
            digits than Python writes.
    """
    if type(value) is Raw:
        return value if len(value) else NULL
    try:
        encoded = _encode(value)
    except UnicodeEncodeError:
        # A lone surrogate: JSON can express it as an escape, but msgspec cannot.
        return _encode_escaped(value)
    if type(value) is str or value is None:
        return encoded
    if b"null" in encoded or b"NaN" in encoded or b"Infinity" in encoded:
        _check_finite(_plain(value))  # msgspec encodes a number that JSON does not have as one of these
    return encoded


def _plain(value: object) -> Any:
    def hook(value: object) -> object:
        if type(value) is Raw:
            return decode_data(value)
        return decode_data(_encode_model(value))

    return msgspec.to_builtins(value, builtin_types=(Decimal,), enc_hook=hook)


def _encode_escaped(value: object) -> bytes:
    plain = _plain(value)
    _check_finite(plain)
    # Decimals are written as strings with a unique mark; then the mark and the quotes are removed.
    mark = f"{uuid4()} "
    text = json.dumps(plain, separators=(",", ":"), default=lambda number: f"{mark}{number}")
    return re.sub(f'"{mark}([^"]*)"', r"\1", text).encode()


def _check_finite(value: object) -> None:
    values = [value]
    while values:
        value = values.pop()
        if isinstance(value, dict):
            values += value.values()
        elif isinstance(value, list | tuple):
            values += value
        elif isinstance(value, Decimal | float) and not Decimal(value).is_finite():
            raise ValueError(f"JSON does not have the number {value}")


def decode_data(raw: Data) -> Any:
    """Returns JSON as a Python value; empty data is None.

    Raises:
        ValueError: the data is not JSON, or (as a :class:`BadNumber`) contains a number that Python cannot hold.
    """
    if not len(raw):
        return None
    try:
        return _decode(raw)
    except msgspec.DecodeError:
        # JSON allows lone surrogates and numbers that msgspec cannot hold.
        return decode_text(bytes(raw))


def decode_text(text: str | bytes) -> Any:
    """Returns any JSON as a Python value.

    Raises:
        json.JSONDecodeError: the text is not JSON.
        BadNumber: the text contains a number that Python cannot hold.
        ValueError: the text is not UTF-8, or contains a constant that JSON does not have.
        RecursionError: the text is nested too deep.
    """
    found: list[_TooLarge] = []

    def parse_decimal(number: str) -> object:
        try:
            return Decimal(number)
        except InvalidOperation:
            found.append(_TooLarge(number))
            return found[-1]

    def parse_int(number: str) -> object:
        try:
            return int(number)
        except ValueError:  # more digits than int() takes
            return parse_decimal(number)

    def parse_float(number: str) -> object:
        value = float(number)
        return value if isfinite(value) else parse_decimal(number)

    value = json.loads(text, parse_int=parse_int, parse_float=parse_float, parse_constant=_no_constant)
    if found:
        raise BadNumber(*_first_too_large(value))
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _first_too_large(value: object) -> tuple[str, str]:
    """Returns the place of the first number that is too large, and the number."""
    values: list[tuple[str, object]] = [("data", value)]
    while values:
        place, value = values.pop()
        if isinstance(value, _TooLarge):
            return place, value.number
        if isinstance(value, dict):
            named = [(f"{place}.{key}"[:200], one) for key, one in value.items()]
            values += named[::-1]
        elif isinstance(value, list):
            numbered = [(f"{place}[{number}]"[:200], one) for number, one in enumerate(value)]
            values += numbered[::-1]
    return "data", "which a later value of its key replaces"
