"""Turns topics and payloads into readings, and keeps the last of each device.

Everything that a device sends is bounded here: how many devices and readings, how long and how deep a value is. What is
beyond is not taken, and counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bester_gadgets.kitchen.rules import MAX_NUMBER
from bester_gadgets.kitchen.settings import DeviceSettings, KitchenSettings, is_device_name

MAX_DEPTH = 16
MAX_DEVICE_BYTES = 64 * 1024
"""Of all readings of one device together, as JSON: they are told in one message."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The last value of one reading."""

    value: Any
    at: float
    """By the monotonic clock, when we received it."""
    retained: bool
    """The broker had kept it: nobody knows since when."""
    size: int
    """Bytes, as JSON."""


@dataclass(slots=True)
class Device:
    """One device, with what it said last."""

    name: str
    settings: DeviceSettings
    discovered: bool = False
    readings: dict[str, Reading] = field(default_factory=dict)


Changed = Callable[[Device, str, Reading], None]
"""Called with the device and the reading's name, for every value that came and is not what is known already."""


class Devices:
    """All devices.

    Args:
        settings: which there are, and how much is taken.
        changed: called for every value.
    """

    def __init__(
        self, settings: KitchenSettings, changed: Changed, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = settings.limits
        self._discover = settings.discover
        self._changed = changed
        self._clock = clock
        self.refused = 0
        """How much was not taken: too large, too deep, no text, or one device or reading too many."""
        self._devices = {name: Device(name, one) for name, one in settings.devices.items()}
        self._places: dict[str, list[tuple[Device, str | None]]] = {}
        for device in self._devices.values():
            if device.settings.topic is not None:
                self._places.setdefault(device.settings.topic, []).append((device, None))
            for reading, topic in device.settings.topics.items():
                self._places.setdefault(topic, []).append((device, reading))

    def __iter__(self) -> Iterator[Device]:
        return iter(self._devices.values())

    def get(self, name: str) -> Device | None:
        """Returns the device of this name."""
        return self._devices.get(name)

    @property
    def filters(self) -> list[str]:
        """The topic filters to subscribe to."""
        if self._discover is None:
            return list(self._places)
        # None of them overlap: else the broker would send some messages twice.
        prefix = self._discover.prefix
        others = [topic for topic in self._places if topic != prefix and not topic.startswith(f"{prefix}/")]
        return [*others, f"{prefix}/#"]

    def receive(self, topic: str, payload: bytes, retained: bool = False) -> None:
        """Takes what came on a topic; never raises.

        Args:
            topic: where it came.
            payload: as it came.
            retained: the broker had kept it.
        """
        places = self._places.get(topic) or self._found(topic)
        if not places:
            return
        try:
            value = decode_payload(payload, self._limits.payload)
        except ValueError:
            self.refused += 1
            return
        for device, reading in places:
            if reading is not None:
                self._set(device, reading, value, retained)
            elif isinstance(value, dict):
                for key, one in value.items():
                    self._set(device, key, one, retained)
            else:
                self._set(device, "value", value, retained)

    def _set(self, device: Device, reading: str, value: Any, retained: bool) -> None:
        known = device.readings.get(reading)
        if retained and known is not None and type(known.value) is type(value) and known.value == value:
            return  # of which more may be known: when it was said
        if reading not in device.readings and (
            len(device.readings) >= self._limits.readings or not is_device_name(reading)
        ):
            self.refused += 1
            return
        size = len(msgspec.json.encode(value))
        others = sum(one.size for name, one in device.readings.items() if name != reading)
        if size + others > MAX_DEVICE_BYTES:
            self.refused += 1
            return
        made = device.readings[reading] = Reading(value, self._clock(), retained, size)
        self._changed(device, reading, made)

    def _found(self, topic: str) -> list[tuple[Device, str | None]]:
        """Returns the discovered device that a topic is of; makes it, if there is room."""
        if self._discover is None or not topic.startswith(self._discover.prefix + "/"):
            return []
        name, _, rest = topic[len(self._discover.prefix) + 1 :].partition("/")
        reading = rest.replace("/", ".") or None
        device = self._devices.get(name)
        if device is None:
            if len(self._devices) >= self._limits.devices or not is_device_name(name):
                self.refused += 1
                return []
            settings = DeviceSettings(kind=self._discover.kind, topic=topic, see=self._discover.see)
            device = self._devices[name] = Device(name, settings, discovered=True)
        elif not device.discovered:
            return []  # what is declared says itself which topics are its own
        return [(device, reading)]


def decode_payload(payload: bytes, max_bytes: int) -> Any:
    """Returns a payload as JSON, or else as the text that it is.

    Raises:
        ValueError: too large, too deep, or neither.
    """
    if len(payload) > max_bytes:
        raise ValueError("too large")
    try:
        value = msgspec.json.decode(payload)
    except RecursionError as error:
        raise ValueError("too deep") from error
    except msgspec.ValidationError as error:
        raise ValueError("a number that others cannot read") from error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return payload.decode()  # whose error is a ValueError
    if not _is_plain(value, MAX_DEPTH):
        raise ValueError("too deep, or a number that others cannot read")
    return value


def _is_plain(value: Any, depth: int) -> bool:
    if isinstance(value, dict):
        return depth > 0 and all(_is_plain(one, depth - 1) for one in value.values())
    if isinstance(value, list):
        return depth > 0 and all(_is_plain(one, depth - 1) for one in value)
    return not isinstance(value, int | float) or abs(value) < MAX_NUMBER
