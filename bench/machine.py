"""Facts of the machine: processor time and memory of processes, and a description of it."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from bester.compiled import build


class Cores(NamedTuple):
    """The cores that a server may use, and its handler and clients; None: all that there are."""

    server: frozenset[int] | None = None
    load: frozenset[int] | None = None

    @classmethod
    def one(cls) -> Cores:
        """Returns one for all of them."""
        core = frozenset([max(os.sched_getaffinity(0))])
        return cls(core, core)

    @classmethod
    def apart(cls) -> Cores:
        """Returns one for the server, and the others for the load, so that it can keep the server busy.

        The server's is the last, for the first is where most machines have their interrupts.
        """
        *others, last = sorted(os.sched_getaffinity(0))
        return cls(frozenset([last]), frozenset(others or [last]))


ANY = Cores()


def cpu_seconds(pids: Iterable[int]) -> float:
    """Returns the processor time, user's and system's, that these processes have used with all their threads."""
    # The kernel's name for the clock of another process, as clock_getcpuclockid(3) makes it.
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids)


def waited_seconds(pids: Iterable[int]) -> float:
    """Returns for how long the threads of these processes could have run, and others had their core.

    A kernel that does not count this gives 0.
    """
    waited = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with suppress(OSError):  # the thread has ended
                waited += int(task.read_text().split()[1])
    return waited / 1e9


def memory_kib(pids: Iterable[int]) -> int:
    """Returns the memory that these processes have to themselves: dirty and anonymous pages, not shared libraries."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Anonymous:"):
                total += int(line.split()[1])
    return total


def raise_file_limit() -> int:
    """Lets this process and its children open as many files as they may; returns how many that is."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def nats_server() -> str | None:
    """Returns the path of nats-server, of this virtual environment if it has one."""
    return shutil.which("nats-server", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))


def command_path(command: str) -> str | None:
    """Returns the path of a server's command, which may be where a user's PATH does not lead."""
    return shutil.which(command, path=os.pathsep.join((os.environ["PATH"], "/usr/local/sbin", "/usr/sbin")))


def describe() -> dict[str, str]:
    """Returns the machine and the versions, as they belong beside every figure."""
    found = {
        "cpu": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    for package in ("bester", "uvloop", "msgspec", "nats-py"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    found["bester"] += f" ({build()})"
    server = nats_server()
    if server is not None:
        said = subprocess.run([server, "--version"], capture_output=True, text=True, check=False).stdout
        found["nats-server"] = said.rpartition(" ")[2].strip()
    found["load before"] = " ".join(f"{load:.2f}" for load in os.getloadavg())
    return found


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.machine()
