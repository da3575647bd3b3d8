"""A world: machines, their network, and one clock, all from one seed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import tempfile
import warnings
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import cached_property
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, TypeVar

from bester.lab.loop import START_S, LabLoop, Stuck
from bester.lab.machine import EPOCH, Machine
from bester.lab.network import Network
from bester.lab.outside import replaced, replacements
from bester.lab.process import Process, current, leave_if_dead
from bester.lab.storage import Storage
from bester.lab.trace import Trace
from bester.lab.waits import waits

T = TypeVar("T")


class World:
    """Runs one play, on simulated time; the same seed gives the same trace.

    So it is as long as no code in it acts by the order of a set, whose elements lie by their hashes: those of strings
    differ with ``PYTHONHASHSEED``, and those of objects with their addresses.

    Args:
        seed: what all chance comes from.
        listener: receives each line of the trace.
    """

    def __init__(self, seed: int, listener: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.loop = LabLoop(self.random("loop"))
        self.trace = Trace(self.loop.time, listener)
        self.network = self.loop.network = Network(self.loop, self.random("network"), self.trace.note)
        self.machines: dict[str, Machine] = {}
        self._pids = itertools.count(1001)
        self._addresses = itertools.count(1)
        self._service_records: dict[str, list[Any]] = {}
        self.on_fault_point: Callable[[Process, str], None] | None = None
        """Called when a process arrives at a named fault point; it may kill it."""

    def wall(self) -> float:
        """Returns the true date, in seconds since 1970."""
        return EPOCH + self.loop.time() - START_S

    def random(self, purpose: str) -> Random:
        """Returns a source of chance of its own for a purpose, so that one's draws do not move another's."""
        return Random(f"{self.seed} {purpose}")

    # -- what is in it -------------------------------------------------------------------------------------------

    def machine(self, name: str) -> Machine:
        """Returns the machine with a name, which is made at the first call."""
        found = self.machines.get(name)
        if found is None:
            number = next(self._addresses)
            address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
            folder = self.folder / name
            folder.mkdir()
            disk = self.storage.disk(name)
            found = self.machines[name] = Machine(self.loop, name, address, folder, disk, lambda: next(self._pids))
            found.on_start.append(self.storage.serve)
            self.network.add(found)
            found.on_power_cut.append(lambda: self.network.power_lost(self.machines[name]))
            found.on_power_back.append(lambda: self.network.power_back(self.machines[name]))
        return found

    @cached_property
    def folder(self) -> Path:
        """A real folder for the machines' files, which goes with the world."""
        return Path(tempfile.mkdtemp(prefix="bester-lab-"))

    @cached_property
    def storage(self) -> Storage:
        """The machines' disks."""
        return Storage(self.folder, self.random)

    def add_service_record(self, name: str, host: str, port: int, priority: int = 0, weight: int = 0) -> None:
        """Adds an SRV record for servers to the world's DNS."""
        record = SimpleNamespace(target=f"{host}.", port=port, priority=priority, weight=weight)
        self._service_records.setdefault(name, []).append(record)

    def service_records(self, name: str) -> list[Any]:
        """Returns the SRV records of a name."""
        return self._service_records.get(name, [])

    # -- to run --------------------------------------------------------------------------------------------------

    def run(self, play: Coroutine[Any, Any, T]) -> T:
        """Runs a play to its end, and then ends the world: it can run only one.

        Raises:
            bester.lab.loop.Stuck: the play waits for what can never happen.
        """
        with replaced(self._replacements(), self.seed), self.storage.active(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "unclosed transport", ResourceWarning)  # of processes that were killed
            try:
                return self.loop.run_until_complete(play)
            except Stuck as error:
                error.add_note("\n".join(["Who waits:", *waits(self.machines.values())]))
                raise
            finally:
                self._end()

    def _replacements(self) -> Any:
        return {
            **replacements(self.loop, self.random("system"), self._sleep, self),
            **self.storage.replacements(),
            ("bester.server.faultpoints", "observer"): self._at_fault_point,
        }

    def _at_fault_point(self, name: str) -> None:
        process = current.get()
        if process is not None and self.on_fault_point is not None:
            self.on_fault_point(process, name)
            leave_if_dead()

    def _sleep(self, seconds: float) -> None:
        """A process sleeps without yielding: nothing of it runs until then."""
        process = current.get()
        if process is not None:
            self.pause(process, seconds)

    def pause(self, process: Process, seconds: float) -> None:
        """Lets nothing of a process run for a time, unless it is dead or paused already."""
        if process.alive and not process.paused:
            process.paused = True
            self.loop.call_later(seconds, self.loop.resume, process, context=Context())

    def _end(self) -> None:
        """Kills everything, and closes what the killed left half done, while nothing of it can reach anything."""
        asyncio._set_running_loop(self.loop)  # else what is closed would make loops of its own
        for machine in self.machines.values():
            for process in machine.processes:
                process.kill()
                for task in list(process.tasks):
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    with contextlib.suppress(BaseException):
                        process.enter().run(task.get_coro().close)
        asyncio._set_running_loop(None)
        self.loop.set_exception_handler(lambda _, __: None)
        self.loop.forget_tls()
        self.loop.close()
        shutil.rmtree(self.folder, ignore_errors=True)
