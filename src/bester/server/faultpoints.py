"""Points in the work at which a test lets this process die, as a power failure would.

``BESTER_DIE_AT=outbox.stored:3`` kills the process, without any cleaning up, when it arrives at that point for the
third time. A simulation is told of every arrival (:data:`observer`). Else an arrival does nothing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

_NAME, _, _COUNT = os.environ.get("BESTER_DIE_AT", "").partition(":")
_left = int(_COUNT) if _COUNT.isdecimal() else 1

observer: Callable[[str], None] | None = None
"""Called with the name of each point that is arrived at; only a simulation sets it, for all of its processes."""


def hit(name: str) -> None:
    """Kills the process if it is to die at the point of this name."""
    global _left
    if observer is not None:
        observer(name)
    if name == _NAME:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
