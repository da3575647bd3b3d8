"""The doors to the outside, and what stands in their places while a world runs.

Clocks, chance, sockets, threads and processes of the interpreter are replaced here and nowhere else, for all code
alike: Bester's, the libraries', and that of handlers under test. What cannot be simulated raises
:class:`~bester.lab.loop.Outside`, so that nothing reaches the real world unseen. ``datetime.now()`` is the exception:
it reads the real clock, and cannot be replaced.
"""

from __future__ import annotations

import gc
import importlib
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from random import Random
from typing import Any, NoReturn, Protocol

from bester.lab.loop import START_S, LabLoop, Outside
from bester.lab.machine import EPOCH, Machine
from bester.lab.process import current
from bester.lab.sockets import LabSocket
from bester.server.handlers.readiness import LoopReadiness

Replacements = Mapping[tuple[str, str], object]
"""What takes the place of an attribute, by module and name."""


class Names(Protocol):
    """What resolves service records."""

    def service_records(self, name: str) -> list[Any]:
        """Returns the SRV records of a name."""


_NO_PROGRAMS = "do what the program does within this process, or put a stand-in in its place"
_NO_THREADS = "use asyncio.to_thread, or @handler.on(thread=True), which run the function in its turn"
_NO_NAMES = "look names up with asyncio, which knows the world's machines"


def _forbidden(what: str, instead: str) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise _outside(what, instead)

    return refuse


def _outside(what: str, instead: str) -> Outside:
    return Outside(f"{what} in a simulated world, where one seed decides the order of everything: {instead}")


def replacements(loop: LabLoop, chance: Random, hold: Callable[[float], None], names: Names) -> Replacements:
    """Returns the table for a world.

    Args:
        loop: its loop.
        chance: takes the place of the system's source of random bytes.
        hold: is told of a process that sleeps without yielding to its loop.
        names: answers for DNS.
    """

    def machine() -> Machine | None:
        process = current.get()
        return None if process is None else process.machine

    def wall() -> float:
        here = machine()
        return EPOCH + loop.time() - START_S if here is None else here.wall()

    def elapsed(clock: int = 0) -> float:
        if clock == time.CLOCK_REALTIME:
            return wall()
        here = machine()
        return loop.time() if here is None else here.uptime()

    def boot() -> str:
        here = machine()
        return "" if here is None else here.boot

    def host_name() -> str:
        here = machine()
        return "localhost" if here is None else here.name

    def pid() -> int:
        process = current.get()
        return 1 if process is None else process.pid

    def nanoseconds(clock: Callable[[], float]) -> Callable[[], int]:
        return lambda: int(clock() * 1_000_000_000)

    def numbers_only(host: Any, port: Any, type: int = 0, flags: int = 0) -> Any:
        if flags & socket.AI_NUMERICHOST:
            return look_up(host, port, type=type, flags=flags)
        raise _outside("socket.getaddrinfo", _NO_NAMES)

    look_up = socket.getaddrinfo

    async def service_records(name: str, kind: str = "SRV", **_: object) -> list[Any]:
        return names.service_records(str(name).removeprefix("_bester._tcp.").rstrip("."))

    return {
        ("time", "time"): wall,
        ("time", "time_ns"): nanoseconds(wall),
        ("time", "monotonic"): loop.time,
        ("time", "monotonic_ns"): nanoseconds(loop.time),
        ("time", "perf_counter"): loop.time,
        ("time", "perf_counter_ns"): nanoseconds(loop.time),
        ("time", "clock_gettime"): elapsed,
        ("time", "sleep"): hold,
        ("bester.clock", "boot_id"): boot,
        ("os", "urandom"): chance.randbytes,
        ("random", "_urandom"): chance.randbytes,
        ("os", "getpid"): pid,
        ("os", "fork"): _forbidden("os.fork", _NO_PROGRAMS),
        ("socket", "gethostname"): host_name,
        ("socket", "socket"): LabSocket,
        ("socket", "getaddrinfo"): numbers_only,
        ("dns.asyncresolver", "resolve"): service_records,
        ("threading.Thread", "start"): _forbidden("a thread", _NO_THREADS),
        ("subprocess.Popen", "__init__"): _forbidden("a process", _NO_PROGRAMS),
        # An epoll object cannot watch a simulated socket.
        ("bester.server.handlers.classic", "make_readiness"): LoopReadiness,
        # Who runs the world decides where the log goes.
        ("bester.server.server", "set_up_log"): lambda *_: None,
        # A world collects when it ends: what is collected when must not depend on what ran before it.
        ("gc", "collect"): lambda generation=2: 0,
        ("gc", "freeze"): lambda: None,
        # OpenSSL has chance of its own, which must not decide how long something is.
        ("bester.net.letters", "REPEATABLE"): True,
        ("bester.tls", "TICKETS"): 0,
        # A password costs 20 ms of real time on purpose, which nobody guesses here.
        ("bester.store.passwords", "MEMORY_KIB"): 8,
        ("bester.store.passwords", "PASSES"): 1,
    }


@contextmanager
def replaced(table: Replacements, seed: int) -> Iterator[None]:
    """Puts a table's replacements in place, and everything back at the end; the collector rests meanwhile."""
    before: list[tuple[Any, str, object]] = []
    state = random.getstate()
    collecting = gc.isenabled()
    gc.disable()
    random.seed(seed)
    try:
        for (place, name), replacement in table.items():
            owner = owner_of(place)
            before.append((owner, name, getattr(owner, name)))
            setattr(owner, name, replacement)
        yield
    finally:
        for owner, name, old in reversed(before):
            setattr(owner, name, old)
        random.setstate(state)
        if collecting:
            gc.enable()


_CLASSES: dict[str, type] = {"threading.Thread": threading.Thread, "subprocess.Popen": subprocess.Popen}


def owner_of(place: str) -> Any:
    """Returns the module or the class that has an attribute of the table."""
    return _CLASSES.get(place) or importlib.import_module(place)
