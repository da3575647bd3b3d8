"""The disks of a world's machines, put in the places of the real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

from bester.clock import wall_time
from bester.lab.disk import Disk
from bester.lab.filesystem import FileSystem
from bester.lab.process import Process, current
from bester.lab.vfs import NoVfs, simulated
from bester.lab.worker import LabWorker
from bester.store.worker import Resolve, make_worker


class Storage:
    """Simulates the databases below a folder, which has a folder for each machine.

    Args:
        folder: the real folder.
        random: returns a source of chance for a purpose.
    """

    def __init__(self, folder: Path, random: Callable[[str], Random]) -> None:
        self._prefix = f"{folder.resolve()}/"
        self._random = random
        self.unsimulated: str | None = None
        """Why databases are real files, on this Python: no fault of a disk befalls them. None: they are not."""
        self._disks: dict[str, Disk] = {}
        self._workers: list[LabWorker] = []
        self._system = FileSystem(self.find, current.get)

    def disk(self, machine: str) -> Disk:
        """Returns the disk of a machine, which is made at the first call."""
        disk = self._disks.get(machine)
        if disk is None:
            disk = self._disks[machine] = Disk(self._random(f"disk of {machine}"))
        return disk

    def find(self, path: str) -> Disk | None:
        """Returns the disk that a path is on; None: a real one."""
        if not path.startswith(self._prefix):
            return None
        return self._disks.get(path[len(self._prefix) :].split("/", 1)[0])

    def replacements(self) -> Mapping[tuple[str, str], object]:
        """Returns what takes the place of the system's functions, by module and name."""
        return self._system.replacements()

    def serve(self, process: Process) -> None:
        """Has a new process run its databases on the loop."""
        disk, random = self.disk(process.machine.name), self._random(f"worker of {process.name} {process.pid}")

        def make(resolve: Resolve) -> LabWorker:
            made = LabWorker(resolve, random, disk)
            self._workers.append(made)
            return made

        process.context.run(make_worker.set, make)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Has SQLite use the disks; at the end, when all processes have ended, closes what they have open."""
        with ExitStack() as stack:
            try:
                stack.enter_context(simulated(self.find, current.get, self._random("sqlite"), wall_time))
            except NoVfs as error:
                self.unsimulated = error.reason
            stack.callback(self._system.close)
            stack.callback(self._end_workers)
            yield

    def _end_workers(self) -> None:
        for worker in self._workers:
            worker.abandon()
        self._workers.clear()
