"""A kitchen to play with: an oven, a fridge, a kettle and a dishwasher that behave, about, as real ones do.

Each appliance has an ``advance`` that lets some seconds go by, a ``state`` that it tells on its topic, and takes what
is set. Temperatures approach an equilibrium exponentially: ``T += (T_eq - T) * (1 - exp(-dt / tau))``.
"""

from __future__ import annotations

import asyncio
from math import exp
from typing import Any, Protocol

import msgspec

from bester_gadgets.kitchen.settings import KitchenSettings
from bester_gadgets.kitchen.source import Received, SourceAway

ROOM_C = 21.0
TICK_S = 0.5
"""Of real time, between two states."""
STEP_S = 5.0
"""Of simulated time, at most, in one step of the physics."""

_DEVICES: dict[str, Any] = {
    "oven": {
        "units": {"temperature": "°C", "target": "°C"},
        "set": {
            "on": {"values": [True, False]},
            "target": {"min": 50, "max": 275},
            "door": {"values": ["open", "closed"]},
        },
    },
    "fridge": {
        "units": {"temperature": "°C", "target": "°C"},
        "set": {"target": {"min": 2, "max": 9}, "door": {"values": ["open", "closed"]}},
    },
    "kettle": {
        "units": {"temperature": "°C", "water": "l"},
        "set": {"on": {"values": [True, False]}, "water": {"min": 0, "max": 1.7}},
    },
    "dishwasher": {
        "units": {"temperature": "°C", "minutesLeft": "min"},
        "set": {"program": {"values": ["eco", "quick", "off"]}},
    },
}
SETTINGS = KitchenSettings.model_validate(
    {
        "devices": {
            name: {
                "kind": name,
                "topic": f"kitchen/{name}",
                "commandTopic": f"kitchen/{name}/set",
                "see": ["accounts"],
                "command": ["accounts"],
                **more,
            }
            for name, more in _DEVICES.items()
        }
    }
)
"""The settings of ``--simulate``: everybody may see and command everything."""


def approached(now: float, goal: float, seconds: float, tau_s: float) -> float:
    """Returns a temperature after some time on its way to its equilibrium."""
    return now + (goal - now) * (1 - exp(-seconds / tau_s))


class Appliance(Protocol):
    """One simulated device."""

    def set(self, key: str, value: Any) -> None:
        """Takes one of its commands, which was checked before."""
        ...

    def advance(self, seconds: float) -> None:
        """Lets time go by."""
        ...

    def state(self) -> dict[str, Any]:
        """Returns what it tells."""
        ...


class Oven:
    """2.5 kW behind a thermostat; an open door lets the heat out."""

    def __init__(self) -> None:
        self.temperature = ROOM_C
        self.on = False
        self.target = 180.0
        self.door = "closed"
        self.heating = False

    def set(self, key: str, value: Any) -> None:
        setattr(self, key, value)

    def advance(self, seconds: float) -> None:
        if not self.on or self.temperature >= self.target + 3:
            self.heating = False
        elif self.temperature <= self.target - 3:
            self.heating = True
        tau_s = 120.0 if self.door == "open" else 1500.0
        gain = 520.0 if self.door == "closed" else 60.0
        self.temperature = approached(self.temperature, ROOM_C + gain * self.heating, seconds, tau_s)

    def state(self) -> dict[str, Any]:
        shown = {"temperature": round(self.temperature, 1), "target": self.target, "on": self.on}
        return shown | {"heating": self.heating, "door": self.door}


class Fridge:
    """A compressor that runs and rests, and food that keeps it cool."""

    def __init__(self) -> None:
        self.temperature = 5.0
        self.target = 5.0
        self.door = "closed"
        self.cooling = False

    def set(self, key: str, value: Any) -> None:
        setattr(self, key, value)

    def advance(self, seconds: float) -> None:
        if self.temperature >= self.target + 1:
            self.cooling = True
        elif self.temperature <= self.target - 1:
            self.cooling = False
        tau_s = 600.0 if self.door == "open" else 9000.0
        self.temperature = approached(self.temperature, ROOM_C - 45.0 * self.cooling, seconds, tau_s)

    def state(self) -> dict[str, Any]:
        shown = {"temperature": round(self.temperature, 1), "target": self.target}
        return shown | {"cooling": self.cooling, "door": self.door}


class Kettle:
    """2.2 kW into at most 1.7 l; switches itself off when the water boils, and does not start without water."""

    POWER_W = 2200.0
    HEAT_J_PER_L_K = 4186.0

    def __init__(self) -> None:
        self.temperature = ROOM_C
        self.water = 1.0
        self.on = False

    def set(self, key: str, value: Any) -> None:
        if key == "water":
            fresh = max(0.0, value - self.water)
            if fresh:
                self.temperature = (self.temperature * self.water + ROOM_C * fresh) / (self.water + fresh)
            self.water = float(value)
        else:
            self.on = value
        self.on = self.on and self.water >= 0.1

    def advance(self, seconds: float) -> None:
        self.temperature = approached(self.temperature, ROOM_C, seconds, 2400.0)
        if self.on:
            self.temperature += self.POWER_W * seconds / (self.HEAT_J_PER_L_K * self.water)
        if self.temperature >= 100:
            self.temperature, self.on = 100.0, False

    def state(self) -> dict[str, Any]:
        return {"temperature": round(self.temperature, 1), "water": round(self.water, 2), "on": self.on}


_PROGRAMS = {
    "eco": [("washing", 90, 50.0), ("rinsing", 40, 45.0), ("drying", 50, 40.0)],
    "quick": [("washing", 15, 60.0), ("rinsing", 10, 55.0), ("drying", 5, 45.0)],
}


class Dishwasher:
    """Goes through the phases of its program, each with its minutes and its water's temperature."""

    def __init__(self) -> None:
        self.temperature = ROOM_C
        self.program = "off"
        self.left_s = 0.0
        self.done = False

    def set(self, key: str, value: Any) -> None:
        self.program = value
        self.left_s = 60.0 * sum(minutes for _, minutes, _ in _PROGRAMS.get(value, []))
        self.done = False

    def _phase(self) -> tuple[str, float]:
        left_s = self.left_s
        for name, minutes, goal in reversed(_PROGRAMS.get(self.program, [])):
            if 0 < left_s <= 60 * minutes:
                return name, goal
            left_s -= 60 * minutes
        return ("done" if self.done else "idle"), ROOM_C

    def advance(self, seconds: float) -> None:
        self.temperature = approached(self.temperature, self._phase()[1], seconds, 300.0)
        if self.program != "off":
            self.left_s = max(0.0, self.left_s - seconds)
            if not self.left_s:
                self.program, self.done = "off", True

    def state(self) -> dict[str, Any]:
        shown = {"phase": self._phase()[0], "program": self.program, "temperature": round(self.temperature, 1)}
        return shown | {"minutesLeft": round(self.left_s / 60, 1)}


class Simulation:
    """The source of a kitchen that needs no broker.

    Args:
        speed: seconds of the kitchen in one second.
    """

    connected = True

    def __init__(self, speed: float = 20.0) -> None:
        self._speed = speed
        self.appliances: dict[str, Appliance] = {
            "oven": Oven(),
            "fridge": Fridge(),
            "kettle": Kettle(),
            "dishwasher": Dishwasher(),
        }
        self._told: dict[str, bytes] = {}
        self._received: Received | None = None

    async def run(self, filters: list[str], received: Received) -> None:
        """Lets the time go by; tells what changed."""
        loop = asyncio.get_running_loop()
        self._received = received
        last = loop.time()
        while True:
            now = loop.time()
            self.advance((now - last) * self._speed)
            last = now
            self._tell()
            await asyncio.sleep(TICK_S)

    def advance(self, seconds: float) -> None:
        """Lets this time go by, in small steps."""
        seconds = min(seconds, 24 * 3600.0)  # a machine that slept has no need of all of it
        while seconds > 0:
            step_s = min(seconds, STEP_S)
            for appliance in self.appliances.values():
                appliance.advance(step_s)
            seconds -= step_s

    def _tell(self) -> None:
        assert self._received is not None
        for name, appliance in self.appliances.items():
            payload = msgspec.json.encode(appliance.state())
            if payload != self._told.get(name):
                self._told[name] = payload
                self._received(f"kitchen/{name}", payload, False)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Gives a command to an appliance, which tells at once what that changed.

        Raises:
            SourceAway: the simulation does not run yet.
        """
        appliance = self.appliances[topic.split("/")[1]]
        if self._received is None:
            raise SourceAway("the kitchen is not there yet")
        for key, value in msgspec.json.decode(payload).items():
            appliance.set(key, value)
        self._tell()
