"""Data as Python values: numbers beyond what Python's own types hold, and numbers that JSON does not have."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from bester import BadNumber, ReceivedMessage
from bester.protocol.values import decode_data, decode_text, encode_data

LONG = "9" * 5000


@pytest.mark.parametrize("text", [LONG, f"-{LONG}", "1e400", "-1.5E+400", "1e999999999999999999"[:12]])
def test_a_number_that_is_too_large_is_a_decimal(text: str) -> None:
    for value in (decode_data(text.encode()), decode_text(text), decode_data(f'[{text},"\\ud800"]'.encode())[0]):
        assert type(value) is Decimal
        assert value == Decimal(text)
    found = decode_data(f'{{"n":{text},"small":7,"s":"\\ud800 é"}}'.encode())
    assert decode_data(encode_data(found)) == found
    assert decode_data(encode_data({"n": Decimal(text)})) == {"n": Decimal(text)}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"a":[1,{"b c":NUMBER}]}', "data.a[1].b c"),
        ("NUMBER", "data"),
        ('{"a":NUMBER,"b":NUMBER}', "data.a"),
        ('{"a":NUMBER,"a":1}', "data"),
    ],
)
def test_a_number_that_nothing_holds_is_named(text: str, place: str) -> None:
    raw = text.replace("NUMBER", "1e9999999999999999999").encode()
    message = ReceivedMessage("t", raw=msgspec.Raw(raw))
    with pytest.raises(BadNumber) as caught:
        _ = message.data
    assert caught.value.place == place
    assert bytes(message.raw) == raw
    with pytest.raises(msgspec.ValidationError):
        message.read(float)


def test_what_is_no_json() -> None:
    for text in (b"NaN", b"[Infinity]", b"-Infinity", b"1 2", b"\xff", b"[" * 10):
        with pytest.raises(ValueError, match=r"."):
            decode_data(text)
    with pytest.raises(json.JSONDecodeError):
        decode_text("{")


@dataclass
class Sized:
    size: Any


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan"), Decimal("NaN"), Decimal("Infinity")])
def test_a_number_that_json_does_not_have_is_not_written(number: Any) -> None:
    for value in (number, [1, {"a": (number,)}], Sized(number), ["\ud800", number]):
        with pytest.raises(ValueError, match="JSON does not have the number"):
            encode_data(value)


def test_what_only_looks_like_one() -> None:
    for value in (None, [None, "NaN", "Infinity", {"null": 1.5}], {"a": None}):
        assert decode_data(encode_data(value)) == value
    assert encode_data(["\ud800", msgspec.Raw(b"[null]")]) == b'["\\ud800",[null]]'
    assert encode_data({"a": None, "b": msgspec.Raw(b"[null]")}) == b'{"a":null,"b":[null]}'


class Guest(BaseModel):
    name: str
    table: int | None = None


def test_models_of_pydantic_are_written() -> None:
    assert encode_data(Guest(name="ann")) == b'{"name":"ann","table":null}'
    assert encode_data({"guests": [Guest(name="ann", table=1)]}) == b'{"guests":[{"name":"ann","table":1}]}'
    assert encode_data(Guest(name="null")) == b'{"name":"null","table":null}'
    assert decode_data(encode_data([Guest(name="ann"), "\ud800"])) == [{"name": "ann", "table": None}, "\ud800"]
    with pytest.raises(TypeError, match="no JSON for the type object"):
        encode_data({"a": object()})
    with pytest.raises(ValueError, match="does not have the number"):
        encode_data([Guest(name="ann"), float("inf")])
