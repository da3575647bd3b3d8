"""The machines of a simulated world."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from bester.lab.disk import Disk
from bester.lab.loop import START_S, LabLoop
from bester.lab.process import Process

EPOCH = 1_767_225_600.0
"""The date at which each world begins, in seconds since 1970. OpenSSL sees the real clock, so it is in the past."""


class Machine:
    """A machine: processes, a folder, a clock.

    Args:
        loop: the world's loop.
        name: its host name.
        address: its IPv4 address.
        folder: a real folder, for its configuration and small files.
        disk: has its databases.
        new_pid: returns the next process id.
    """

    def __init__(
        self, loop: LabLoop, name: str, address: str, folder: Path, disk: Disk, new_pid: Callable[[], int]
    ) -> None:
        self._loop = loop
        self.name = name
        self.address = address
        self.folder = folder
        self.disk = disk
        self._new_pid = new_pid
        self.processes: list[Process] = []
        """All that ever ran here; those that were killed stay, because their tasks must not be collected."""
        self.on = True
        """Whether it has power."""
        self.skew_s = 0.0
        """How far its system clock is from the true date; tests set it."""
        self._boots = itertools.count(1)
        self.boot = f"{name}-boot-{next(self._boots)}"
        self._booted_at = START_S - 100.0
        self.on_start: list[Callable[[Process], None]] = []
        """Called with each new process, before it runs."""
        self.on_power_cut: list[Callable[[], None]] = []
        self.on_power_back: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<machine {self.name}>"

    def wall(self) -> float:
        """Returns what its system clock shows, in seconds since 1970."""
        return EPOCH + self._loop.time() - START_S + self.skew_s

    def uptime(self) -> float:
        """Returns the seconds since it was switched on."""
        return self._loop.time() - self._booted_at

    def process(self, name: str) -> Process:
        """Starts a process.

        Raises:
            RuntimeError: the machine is off.
        """
        if not self.on:
            raise RuntimeError(f"{self.name} is off")
        made = Process(self._loop, name, self, self._new_pid())
        self.processes.append(made)
        for call in self.on_start:
            call(made)
        return made

    def cut_power(self) -> None:
        """Ends all processes at once; what was not synced to its disk is gone, and other machines hear nothing."""
        self.on = False
        for process in self.processes:
            process.kill(power=True)
        self.disk.cut()
        for call in self.on_power_cut:
            call()

    def switch_on(self) -> None:
        """Gives it power again; its processes must be started anew."""
        self.on = True
        self.boot = f"{self.name}-boot-{next(self._boots)}"
        self._booted_at = self._loop.time()
        for call in self.on_power_back:
            call()
