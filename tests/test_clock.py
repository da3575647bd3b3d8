"""The steady clock: it counts what passes, and nobody who sets the system clock makes anything older or younger."""

from __future__ import annotations

import time

import pytest

from bester import clock as module
from bester.clock import JUMP_S, JUMP_SHOWN_S, MAX_STOP_S, SavedTime, SteadyClock, elapsed

DAY_S = 86_400.0
NOW = 2_000_000_000.0


class Machine:
    """Its system clock, and what passes."""

    def __init__(self, wall: float = NOW) -> None:
        self.wall_s = wall
        self.elapsed_s = 5.0
        self.boots = 0

    def boot(self) -> None:
        self.elapsed_s = 1.0
        self.boots += 1

    def clock(self) -> SteadyClock:
        return SteadyClock(lambda: self.wall_s, lambda: self.elapsed_s, f"boot {self.boots}")

    def wait(self, seconds: float) -> None:
        self.wall_s += seconds
        self.elapsed_s += seconds


@pytest.mark.parametrize("by_s", [-30 * 365 * DAY_S, -61.0, -59.0, 59.0, 61.0, 30 * 365 * DAY_S])
def test_setting_the_system_clock_moves_nothing(by_s: float) -> None:
    machine = Machine()
    clock = machine.clock()
    machine.wait(10)
    machine.wall_s += by_s
    machine.wait(10)
    assert clock.now() == NOW + 20
    assert clock.shown(NOW + 15) == machine.wall_s - 5  # five seconds ago
    assert clock.look() is (abs(by_s) > JUMP_S)
    assert not clock.look()
    jump = clock.recent_jump()
    assert (jump is not None) is (abs(by_s) > JUMP_S)
    machine.wait(JUMP_SHOWN_S + 1)
    assert clock.recent_jump() is None


@pytest.mark.parametrize(
    ("stop_s", "counted_s"),
    [(0.0, 0.0), (100.0, 100.0), (DAY_S, DAY_S), (31 * DAY_S, MAX_STOP_S), (1e9, MAX_STOP_S), (-1e9, 0.0)],
)
def test_a_stop_counts_as_far_as_that_can_be_known(stop_s: float, counted_s: float) -> None:
    machine = Machine()
    kept = machine.clock().moment()
    machine.wall_s += stop_s
    machine.boot()
    clock = machine.clock()
    clock.resume(kept)
    assert clock.now() == NOW + counted_s
    assert clock.uncounted_s == max(stop_s, 0.0) - counted_s
    jump = clock.recent_jump()
    assert (jump is not None) is (stop_s < 0)
    assert not clock.look()


@pytest.mark.parametrize("by_s", [-1e9, -100.0, 0.0, 100.0, 31 * DAY_S, 1e9])
def test_a_stop_of_a_machine_that_ran_is_known(by_s: float) -> None:
    machine = Machine()
    kept = machine.clock().moment()
    machine.wait(1000)
    machine.wall_s += by_s
    clock = machine.clock()
    clock.resume(kept)
    assert clock.now() == NOW + 1000
    jump = clock.recent_jump()
    assert (jump.by_s if jump is not None else 0.0) == by_s
    machine.wait(31 * DAY_S)
    later = machine.clock()
    later.resume(kept)
    assert later.now() == NOW + MAX_STOP_S


def test_a_machine_without_a_battery_counts_on() -> None:
    """Each start is years in the past, and is set right after a while; what is kept grows old by what it runs."""
    machine = Machine()
    clock = machine.clock()
    for _ in range(10):
        kept = clock.moment()
        machine.boot()
        machine.wall_s = 1_500_000_000.0
        clock = machine.clock()
        clock.resume(kept)
        machine.wait(100)
        machine.wall_s = NOW
        assert clock.look()
        machine.wait(100)
    assert clock.now() == NOW + 10 * 200


def test_a_jump_says_by_how_much_and_when() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.wall_s += 5 * 365.25 * DAY_S
    assert clock.look()
    assert clock.jump is not None
    assert (clock.jump.direction, str(clock.jump)[:35]) == ("set forward", "by 5 years while the server ran; li")
    machine.wall_s -= 90.0
    assert clock.look()
    assert (clock.jump.direction, str(clock.jump)[:10]) == ("set back", "by 90 s wh")
    machine.wall_s -= 3 * DAY_S
    later = machine.clock()
    later.resume(SavedTime(clock.now(), machine.wall_s + 3 * DAY_S, machine.elapsed_s, "boot 0"))
    assert str(later.jump).startswith("by 3 days while the server was stopped; ")


def test_what_passes_counts_sleep_of_the_machine_where_that_can_be_asked() -> None:
    assert getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC) == module._ELAPSED
    before = elapsed()
    assert 0 <= elapsed() - before < 10
