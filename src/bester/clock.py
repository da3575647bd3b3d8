"""What time it is: one door to the clocks, and the clock that lifetimes are counted by.

The system clock can be set while a program runs. A machine without a battery starts years in the past and is set right
when it has found a time server; an operator corrects a wrong date. So the system clock is good for what people are
shown and for what another machine must agree on, and for nothing that ends. What ends (mail, tokens, retries, memories)
goes by a :class:`SteadyClock`. While the program runs it counts the seconds that pass, sleep of the machine included,
and no setting of the system clock moves it. Its time is kept beside what it dates, with what the other clocks said
then. The next start goes on from there, and adds what has passed meanwhile: what the machine has counted, where that
has run all the time, else what the system clock says, never less than nothing; and at most :data:`MAX_STOP_S`, because
nobody can tell a long stop from a clock that was set (docs/reliability.md).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

MAX_STOP_S = 86_400.0
"""How much one stop counts at most."""
JUMP_S = 60.0
"""By how much the system clock has to differ from the seconds that passed before that is called a jump."""
JUMP_SHOWN_S = 3600.0
"""How long a jump is a problem."""
KEEP_S = 300.0
"""How often the time is kept; what a kill loses of it, the next start adds by the system clock."""

# Both go on while the machine sleeps, which `time.monotonic` does not.
_ELAPSED = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

KEPT_SCHEMA = """CREATE TABLE clock (
    one INTEGER PRIMARY KEY CHECK (one = 1), -- the only row
    steady REAL NOT NULL,
    wall REAL NOT NULL,
    elapsed REAL NOT NULL,
    boot TEXT NOT NULL
)"""
"""The table of an SQLite file whose rows are dated by a steady clock."""


def wall_time() -> float:
    """Returns what the system clock says, in seconds since 1970: to be shown or compared with another machine's time,
    and never to say when something ends."""
    return time.time()


def elapsed() -> float:
    """Returns seconds that only grow, by as much as passes, while the machine sleeps too."""
    return time.clock_gettime(_ELAPSED)


@cache
def boot_id() -> str:
    """Returns what tells this run of the machine from its others; empty where it has no such thing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


class Kept(NamedTuple):
    """A moment, on all clocks."""

    steady: float
    wall: float
    elapsed: float
    boot: str
    """Of which run of the machine the elapsed seconds are."""


class Jump(NamedTuple):
    """The system clock was set."""

    by_s: float
    """Below 0: back."""
    at: float
    """When, on the steady clock."""
    stopped: bool
    """Whether the program did not run then."""

    @property
    def direction(self) -> str:
        """``set back`` or ``set forward``."""
        return "set back" if self.by_s < 0 else "set forward"

    def __str__(self) -> str:
        when = "while the server was stopped" if self.stopped else "while the server ran"
        return f"by {_span(abs(self.by_s))} {when}; what is kept keeps its lifetime, and times shown before are off"


class SteadyClock:
    """Seconds that lifetimes are counted by; about seconds since 1970 where the system clock was never wrong.

    Args:
        wall, elapsed: the clocks beneath it.
        boot: of which run of the machine those are; None: of this one.
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
        """What is added to the elapsed seconds."""
        self._wall_ahead_s = self._ahead_s
        """What the system clock added to them when it was looked at last."""
        self._keep_at = 0.0
        self.uncounted_s = 0.0
        """How much of the last stop, as the system clock has it, was not counted."""
        self.jump: Jump | None = None
        """The last time that the system clock was set."""

    def now(self) -> float:
        """Returns the time, which never goes back."""
        return self._elapsed() + self._ahead_s

    def shown(self, at: float) -> float:
        """Returns what the system clock, as it is set now, would call a time on this one."""
        return at + self._wall() - self.now()

    def moment(self) -> Kept:
        """Returns what is to be kept for the next start, which is done now."""
        self._keep_at = self._elapsed() + KEEP_S
        return Kept(self.now(), self._wall(), self._elapsed(), self._boot)

    def resume(self, kept: Kept | None) -> None:
        """Goes on from what was kept, once, before anything is dated; None begins with the system clock's time."""
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
        """Begins with a time that others share."""
        self._ahead_s = now - self._elapsed()

    def look(self) -> bool:
        """Notices whether the system clock was set since the last look, and returns whether it was."""
        ahead_s = self._wall() - self._elapsed()
        by_s = ahead_s - self._wall_ahead_s
        if abs(by_s) < JUMP_S:
            return False
        self._wall_ahead_s = ahead_s
        self.jump = Jump(by_s, self.now(), False)
        return True

    @property
    def is_due(self) -> bool:
        """Whether the time should be kept, because it was not for a while."""
        return self._elapsed() >= self._keep_at

    def recent_jump(self) -> Jump | None:
        """Returns the last jump, while that is a problem."""
        jump = self.jump
        return jump if jump is not None and self.now() - jump.at < JUMP_SHOWN_S else None


def read_kept(connection: sqlite3.Connection) -> Kept | None:
    """Returns what was kept in a file, if anything was."""
    row = connection.execute("SELECT steady, wall, elapsed, boot FROM clock").fetchone()
    return None if row is None else Kept(*row)


def keep_when_due(connection: sqlite3.Connection, clock: SteadyClock) -> None:
    """Keeps the time in a file, with the transaction under way, where that is due or the system clock was set."""
    if clock.look() or clock.is_due:
        write_kept(connection, clock.moment())


def write_kept(connection: sqlite3.Connection, moment: Kept) -> None:
    """Keeps a moment in a file, with the transaction that is under way or at once."""
    connection.execute(
        "INSERT OR REPLACE INTO clock (one, steady, wall, elapsed, boot) VALUES (1, ?, ?, ?, ?)", moment
    ).close()


def _span(seconds: float) -> str:
    for name, size_s in (("years", 365.25 * 86_400), ("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size_s:
            return f"{seconds / size_s:.0f} {name}"
    return f"{seconds:.0f} s"
