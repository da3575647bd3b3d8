"""The clocks: the only access to the system's clocks, and the clock that measures lifetimes.

The system clock can be set while a program runs. A machine without a battery starts years in the past and is set right
when it has found a time server; an operator corrects a wrong date. So the system clock may be shown to people and
compared with another machine's clock, but nothing may expire by it. Everything that expires (mail, tokens, retries,
remembered ids) goes by a :class:`SteadyClock`. While the program runs, this clock counts the seconds that pass, also
while the machine sleeps, and setting the system clock does not move it. Its time is saved with the data that it dates,
together with the times of the other clocks. The next start continues from there and adds the time that has passed: the
machine's own count if the machine has run all the time, otherwise the system clock's difference, but not less than
zero; and at most :data:`MAX_STOP_S`, because a long stop cannot be told from a clock that was set
(docs/reliability.md).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

MAX_STOP_S = 86_400.0
"""The most seconds that count for one stop."""
JUMP_S = 60.0
"""The least difference between the system clock and the seconds that passed that counts as a jump."""
JUMP_SHOWN_S = 3600.0
"""How long a jump is reported as a problem."""
KEEP_S = 300.0
"""How often the time is saved; the time that a kill loses is added by the next start, from the system clock."""

# Both go on while the machine sleeps, which `time.monotonic` does not.
_ELAPSED = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

CLOCK_SCHEMA = """CREATE TABLE clock (
    one INTEGER PRIMARY KEY CHECK (one = 1), -- the only row
    steady REAL NOT NULL,
    wall REAL NOT NULL,
    elapsed REAL NOT NULL,
    boot TEXT NOT NULL
)"""
"""The table with the saved time in an SQLite file whose rows are dated by a steady clock."""


def wall_time() -> float:
    """Returns the system clock's time, in seconds since 1970.

    It may be shown, or compared with another machine's time; nothing may expire by it.
    """
    return time.time()


def elapsed() -> float:
    """Returns monotonic seconds, which go on while the machine sleeps."""
    return time.clock_gettime(_ELAPSED)


@cache
def boot_id() -> str:
    """Returns the id of this boot of the machine; empty if the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


class SavedTime(NamedTuple):
    """One moment's time on all clocks."""

    steady: float
    wall: float
    elapsed: float
    boot: str
    """The boot of the machine that the elapsed seconds belong to."""


class Jump(NamedTuple):
    """A jump of the system clock, which somebody has set."""

    by_s: float
    """Negative if the clock was set back."""
    at: float
    """The time of the change, on the steady clock."""
    stopped: bool
    """Whether the program did not run then."""

    @property
    def direction(self) -> str:
        """``set back`` or ``set forward``."""
        return "set back" if self.by_s < 0 else "set forward"

    def __str__(self) -> str:
        when = "while the server was stopped" if self.stopped else "while the server ran"
        return f"by {_span(abs(self.by_s))} {when}; lifetimes are not affected, but times shown earlier are wrong"


class SteadyClock:
    """The clock that measures lifetimes; about seconds since 1970 if the system clock was never wrong.

    Args:
        wall, elapsed: the underlying clocks.
        boot: the boot of the machine that they belong to; None: the present one.
    """

    def __init__(
        self,
        wall: Callable[[], float] = wall_time,
        elapsed: Callable[[], float] = elapsed,
        boot: str | None = None,
    ) -> None:
        self._wall = wall
        self._elapsed = elapsed
        self._boot = boot_id() if boot is None else boot
        self._ahead_s = wall() - elapsed()
        """The seconds to add to the elapsed seconds."""
        self._wall_ahead_s = self._ahead_s
        """The system clock's difference from the elapsed seconds at the last look."""
        self._keep_at = 0.0
        self.uncounted_s = 0.0
        """The part of the last stop, by the system clock, that was not counted."""
        self.jump: Jump | None = None
        """The last change of the system clock."""

    def now(self) -> float:
        """Returns the time, which never goes back."""
        return self._elapsed() + self._ahead_s

    def shown(self, at: float) -> float:
        """Converts a time on this clock to the system clock, as that is set now."""
        return at + self._wall() - self.now()

    def moment(self) -> SavedTime:
        """Returns the time to save for the next start; the caller must save it now."""
        self._keep_at = self._elapsed() + KEEP_S
        return SavedTime(self.now(), self._wall(), self._elapsed(), self._boot)

    def resume(self, kept: SavedTime | None) -> None:
        """Continues from the saved time, once, before anything is dated; None begins with the system clock's time."""
        if kept is None:
            return
        now_s, by_wall_s = self._elapsed(), self._wall() - kept.wall
        if kept.boot and kept.boot == self._boot and now_s >= kept.elapsed:
            stop_s = now_s - kept.elapsed
        else:  # a clock that was set forward meanwhile cannot be told from a long stop
            stop_s = max(0.0, by_wall_s)
        counted_s = min(stop_s, MAX_STOP_S)
        self.uncounted_s = stop_s - counted_s
        self._ahead_s = kept.steady + counted_s - now_s
        if abs(by_wall_s - stop_s) > JUMP_S:
            self.jump = Jump(by_wall_s - stop_s, self.now(), True)

    def start_at(self, now: float) -> None:
        """Begins with a time that other nodes share."""
        self._ahead_s = now - self._elapsed()

    def look(self) -> bool:
        """Checks whether the system clock was set since the last look; returns whether it was."""
        ahead_s = self._wall() - self._elapsed()
        by_s = ahead_s - self._wall_ahead_s
        if abs(by_s) < JUMP_S:
            return False
        self._wall_ahead_s = ahead_s
        self.jump = Jump(by_s, self.now(), False)
        return True

    @property
    def is_due(self) -> bool:
        """Whether the time should be saved, because it was not saved for a while."""
        return self._elapsed() >= self._keep_at

    def recent_jump(self) -> Jump | None:
        """Returns the last jump, as long as it is reported as a problem."""
        jump = self.jump
        return jump if jump is not None and self.now() - jump.at < JUMP_SHOWN_S else None


def read_saved_time(connection: sqlite3.Connection) -> SavedTime | None:
    """Returns the time saved in a file, if there is one."""
    row = connection.execute("SELECT steady, wall, elapsed, boot FROM clock").fetchone()
    return None if row is None else SavedTime(*row)


def save_time_when_due(connection: sqlite3.Connection, clock: SteadyClock) -> None:
    """Saves the time in a file, within the present transaction, if that is due or the system clock was set."""
    if clock.look() or clock.is_due:
        save_time(connection, clock.moment())


def save_time(connection: sqlite3.Connection, moment: SavedTime) -> None:
    """Saves a moment's time in a file, within the present transaction if there is one."""
    connection.execute(
        "INSERT OR REPLACE INTO clock (one, steady, wall, elapsed, boot) VALUES (1, ?, ?, ?, ?)", moment
    ).close()


def _span(seconds: float) -> str:
    for name, size_s in (("years", 365.25 * 86_400), ("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size_s:
            return f"{seconds / size_s:.0f} {name}"
    return f"{seconds:.0f} s"
