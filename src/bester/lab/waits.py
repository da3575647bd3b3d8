"""Who waits for what, for a play that does not end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import bester
from bester.lab.machine import Machine

_LIBRARY = str(Path(bester.__file__).parent)
_ASYNCIO = str(Path(asyncio.__file__).parent)
MAX_LINES = 20


def waits(machines: Iterable[Machine]) -> list[str]:
    """Returns a line for each task that waits in code that is not Bester's, and for the play's."""
    lines = []
    for machine in machines:
        for process in machine.processes:
            for task in process.tasks if process.alive else ():
                place = _place(task.get_coro())
                if place is not None:
                    lines.append(f"  {process.name} waits in {place}{', paused' if process.paused else ''}")
    return lines[:MAX_LINES]


def _place(coroutine: Any) -> str | None:
    """Returns the innermost line of other people's code that a coroutine waits in, and what it called."""
    place = called = None
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            file, name = frame.f_code.co_filename, frame.f_code.co_qualname
            if file.startswith((_LIBRARY, _ASYNCIO)):
                called = called or name
            else:
                place, called = f"{name} ({file}:{frame.f_lineno})", None
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return None if place is None else place + (f", for {called}" if called else "")
