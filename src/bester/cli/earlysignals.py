"""Handles signals that arrive while a program is still starting, so that they do not kill it."""

from __future__ import annotations

import signal
import sys
from types import FrameType


class EarlySignals:
    """Handles signals from the first line of the program until its event loop handles them.

    SIGTERM and SIGINT end the program, which has opened nothing yet. SIGHUP is remembered, and leads to a reload once
    the program runs.
    """

    def __init__(self) -> None:
        self.reload = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        signal.signal(signal.SIGHUP, self._remember)

    def _end(self, number: int, frame: FrameType | None) -> None:
        sys.exit(0)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.reload = True
