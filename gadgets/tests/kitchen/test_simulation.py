"""The simulated kitchen behaves, about, as a real one."""

from __future__ import annotations

import pytest

from bester_gadgets.kitchen.simulation import ROOM_C, Dishwasher, Fridge, Kettle, Oven, Simulation


def test_an_oven_heats_holds_and_cools() -> None:
    oven = Oven()
    oven.set("on", True)
    oven.set("target", 200)
    seconds = 0
    while oven.temperature < 200:
        before = oven.temperature
        oven.advance(5)
        assert oven.temperature > before
        seconds += 5
    assert 300 < seconds < 1200  # ten minutes, about
    held = []
    for _ in range(720):
        oven.advance(5)
        held.append(oven.temperature)
    assert 190 < min(held) < max(held) < 210
    oven.set("door", "open")
    for _ in range(60):
        oven.advance(5)
    assert oven.temperature < 120
    oven.set("on", False)
    for _ in range(7200):
        oven.advance(5)
    assert oven.temperature == pytest.approx(ROOM_C, abs=1)


def test_a_fridge_keeps_cool_unless_it_is_open() -> None:
    fridge = Fridge()
    seen = set()
    for _ in range(5000):
        fridge.advance(5)
        seen.add(fridge.cooling)
        assert 3.5 < fridge.temperature < 6.5
    assert seen == {True, False}
    fridge.set("door", "open")
    for _ in range(400):
        fridge.advance(5)
    assert fridge.temperature > fridge.target - 2


def test_a_kettle_boils_and_switches_itself_off() -> None:
    kettle = Kettle()
    kettle.set("water", 0)
    kettle.set("on", True)
    assert not kettle.on
    kettle.set("water", 1.0)
    kettle.set("on", True)
    seconds = 0
    while kettle.on:
        kettle.advance(1)
        seconds += 1
    assert 120 < seconds < 240
    assert kettle.temperature == 100
    kettle.set("water", 1.5)
    assert 70 < kettle.temperature < 76


def test_a_dishwasher_goes_through_its_program() -> None:
    dishwasher = Dishwasher()
    assert dishwasher.state()["phase"] == "idle"
    dishwasher.set("program", "quick")
    phases = [dishwasher.state()["phase"]]
    for _ in range(30 * 60 // 5):
        dishwasher.advance(5)
        if dishwasher.state()["phase"] != phases[-1]:
            phases.append(dishwasher.state()["phase"])
    assert phases == ["washing", "rinsing", "drying", "done"]
    assert dishwasher.state()["program"] == "off"
    dishwasher.set("program", "eco")
    assert dishwasher.state()["minutesLeft"] == 180
    dishwasher.set("program", "off")
    assert dishwasher.state()["phase"] == "idle"


def test_much_time_at_once_is_as_much_in_small_steps() -> None:
    at_once, slowly = Simulation(), Simulation()
    for simulation in (at_once, slowly):
        simulation.appliances["oven"].set("on", True)
    at_once.advance(600)
    for _ in range(120):
        slowly.advance(5)
    assert at_once.appliances["oven"].state() == slowly.appliances["oven"].state()
