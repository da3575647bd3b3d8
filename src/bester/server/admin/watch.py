"""Watches for problems: for the log, for metrics and for the service manager.

The log gets a line when a problem begins, once a day while it lasts, and when it is over. Metrics and the service
manager are told what the last look found.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from bester.server.admin.problems import KINDS, MAX_PROBLEMS, Problem, find
from bester.server.admin.services import AdminServices
from bester.timeouts import within

log = logging.getLogger("bester.problems")

LOOK_S = 10.0
"""How often the watch looks."""
REMIND_S = 24 * 60 * 60.0
"""How often a problem that lasts is logged."""


class Watch:
    """Looks for problems without being asked, while :meth:`run` runs."""

    def __init__(self, services: AdminServices) -> None:
        self._services = services
        self.changed: list[Callable[[str], None]] = []
        """Each is called with all problems in a line, when they have changed."""
        self._asked = asyncio.Event()
        self._known: dict[tuple[str, str], float] = {}
        """The problems of the last look, by kind and name, and when they were logged."""
        self._before = ""

    def look_soon(self) -> None:
        """Looks now, because something has changed that may be a problem."""
        self._asked.set()

    async def run(self) -> None:
        """Looks every :data:`LOOK_S`, until it is cancelled."""
        while True:
            self._asked.clear()
            try:
                self._compare(await find(self._services))
            except Exception:  # one look that fails is not to be the last
                log.exception("problems could not be looked for")
            try:
                async with within(LOOK_S):
                    await self._asked.wait()
            except TimeoutError:
                continue

    def counts(self) -> dict[str, int]:
        """Returns how many problems of each kind there are, as of the last look."""
        found = Counter(what for what, _ in self._known)
        return {what: found[what] for what in KINDS}

    def _compare(self, found: list[Problem]) -> None:
        now, known = self._services.runtime.clock(), self._known
        self._known = {}
        for problem in found:
            key = problem["what"], problem["name"]
            logged = known.pop(key, None)
            if logged is None or now - logged >= REMIND_S:
                log.warning("%s", in_a_line(problem))
                logged = now
            self._known[key] = logged
        if len(found) < MAX_PROBLEMS:  # else one that is missing may only have had no room
            for what, name in known:
                log.warning("no longer a problem: %s: %s", what, ascii(name)[1:-1])
        text = "; ".join(map(in_a_line, found[:3])) + ("; ..." if len(found) > 3 else "")
        status = f"{len(found)} problem{'s' if len(found) > 1 else ''}: {text}" if found else "no problems"
        if self._before != status:
            self._before = status
            for callback in self.changed:
                callback(f"{self._services.runtime.config.server.name} is ready, {status}")


def in_a_line(problem: Problem) -> str:
    """Returns a problem in words, in which nothing breaks the line."""
    return ascii(f"{problem['what']}: {problem['name']}: {problem['detail']}")[1:-1]
