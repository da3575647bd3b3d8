"""What devices send becomes readings, and is bounded."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bester_gadgets.kitchen.devices import MAX_DEVICE_BYTES, Device, Devices, Reading, decode_payload
from bester_gadgets.kitchen.settings import KitchenSettings

BOUNDED = settings(max_examples=60, deadline=None)
OVEN = {"topic": "home/oven", "topics": {"door": "home/doors/oven"}}


def devices(changes: list[tuple[str, str, Any]] | None = None, **more: Any) -> Devices:
    def changed(device: Device, name: str, reading: Reading) -> None:
        if changes is not None:
            changes.append((device.name, name, reading.value))

    return Devices(KitchenSettings.model_validate({"devices": {"oven": OVEN}} | more), changed)


def values(found: Devices, name: str) -> dict[str, Any]:
    device = found.get(name)
    return {} if device is None else {key: one.value for key, one in device.readings.items()}


def test_objects_are_readings_and_everything_else_is_one() -> None:
    changes: list[tuple[str, str, Any]] = []
    found = devices(changes)
    found.receive("home/oven", b'{"temperature": 201.5, "on": true, "program": {"name": "pizza"}}')
    found.receive("home/doors/oven", b"open")
    found.receive("home/oven", b" 5 ")
    found.receive("home/fridge", b"6")
    assert values(found, "oven") == {
        "temperature": 201.5,
        "on": True,
        "program": {"name": "pizza"},
        "door": "open",
        "value": 5,
    }
    assert changes[0] == ("oven", "temperature", 201.5)
    assert found.refused == 0


def test_the_age_and_where_it_came_from_are_kept() -> None:
    now = 100.0
    found = Devices(KitchenSettings.model_validate({"devices": {"oven": OVEN}}), lambda *_: None, lambda: now)
    found.receive("home/doors/oven", b"open", True)
    now = 160.0
    oven = found.get("oven")
    assert oven is not None
    assert (oven.readings["door"].at, oven.readings["door"].retained) == (100.0, True)
    found.receive("home/doors/oven", b"open")
    now = 200.0
    found.receive("home/doors/oven", b"open", True)  # as we know, and since when
    assert (oven.readings["door"].at, oven.readings["door"].retained) == (160.0, False)


def test_one_topic_can_be_of_several_devices() -> None:
    same = {"topic": "home/oven"}
    found = devices(devices={"oven": OVEN, "display": same})
    found.receive("home/oven", b"7")
    assert values(found, "oven") == values(found, "display") == {"value": 7}
    assert sorted(found.filters) == ["home/doors/oven", "home/oven"]


def test_devices_are_discovered_below_a_prefix() -> None:
    found = devices(discover={"prefix": "home", "kind": "sensor"}, limits={"devices": 2})
    assert found.filters == ["home/#"]  # and not those of the oven besides, which would come twice
    found.receive("home/cellar/temperature", b"12")
    found.receive("home/cellar/air/humidity", b"80")
    found.receive("home/oven/secret", b"1")  # of a declared device
    found.receive("home/attic", b"1")  # one too many
    found.receive("home/with space", b"1")
    found.receive("elsewhere/cellar/x", b"1")
    assert values(found, "cellar") == {"temperature": 12, "air.humidity": 80}
    assert values(found, "oven") == {}
    assert found.get("attic") is None
    assert found.refused == 2


def test_what_is_too_much_is_not_taken() -> None:
    found = devices(limits={"readings": 3, "payload": 40_000})
    found.receive("home/oven", b"[" * 30 + b"]" * 30)
    found.receive("home/oven", b'"' + b"x" * 40_000 + b'"')
    found.receive("home/oven", b"\xff")
    found.receive("home/oven", b"1e305")
    assert (found.refused, values(found, "oven")) == (4, {})
    found.receive("home/oven", b'{"a": 1, "b": 2, "c": 3, "d": 4, "a": 5}')
    assert values(found, "oven") == {"a": 5, "b": 2, "c": 3}
    assert found.refused == 5
    for key in "abc":
        found.receive("home/oven", json.dumps({key: "x" * 30_000}).encode())
    oven = found.get("oven")
    assert oven is not None
    assert sum(one.size for one in oven.readings.values()) <= MAX_DEVICE_BYTES
    assert len(values(found, "oven")["b"]) == 30_000
    assert values(found, "oven")["c"] == 3


@BOUNDED
@given(st.binary(max_size=200))
def test_any_payload_is_a_value_or_refused(payload: bytes) -> None:
    try:
        value = decode_payload(payload, 100)
    except ValueError:
        return
    assert msgspec.json.decode(msgspec.json.encode(value)) == value


@BOUNDED
@given(st.recursive(st.one_of(st.text(), st.booleans(), st.integers(-(10**299), 10**299)), st.lists, max_leaves=5))
def test_json_stays_what_it_was(value: Any) -> None:
    assert decode_payload(json.dumps(value).encode(), 10_000) == value


@pytest.mark.parametrize("payload", [b"[" * 100_000, b'{"a":' * 10_000, b"\xc3\x28", b"9" * 400])
def test_payloads_that_are_attacks(payload: bytes) -> None:
    found = devices(limits={"payload": 200_000})
    found.receive("home/oven", payload)
    for value in values(found, "oven").values():
        assert isinstance(value, str)


def test_a_number_beyond_a_float_is_no_reading() -> None:
    for payload in (b"1e400", b"[-1e999]", b"9" * 5000):
        with pytest.raises(ValueError, match="a number that others cannot read"):
            decode_payload(payload, 10_000)
