"""The trace of a world: what happened, line by line, and a digest of all of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from hashlib import blake2b

KEPT_LINES = 2000
"""How many of the newest lines are kept."""


class Trace:
    """Collects lines.

    Args:
        now: returns the world's time.
        listener: receives each line, if there is one.
    """

    def __init__(self, now: Callable[[], float], listener: Callable[[str], None] | None = None) -> None:
        self._now = now
        self._listener = listener
        self._hash = blake2b(digest_size=16)
        self.count = 0
        self.last: deque[str] = deque(maxlen=KEPT_LINES)
        """The newest lines."""

    def note(self, what: str) -> None:
        """Adds a line."""
        line = f"{self._now():.6f} {what}"
        self.count += 1
        self._hash.update(line.encode(errors="backslashreplace"))
        self._hash.update(b"\n")
        self.last.append(line)
        if self._listener is not None:
            self._listener(line)

    @property
    def digest(self) -> str:
        """The digest of all lines so far; two runs of one seed have the same."""
        return self._hash.hexdigest()
