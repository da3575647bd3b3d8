"""Signals that come while a program is still starting: it ends, or remembers them, in place of being killed by them."""

from __future__ import annotations

import signal
import sys
from types import FrameType


class EarlySignals:
    """Takes signals from the first line of the program until its loop does.

    SIGTERM and SIGINT end the program, which has opened nothing yet. SIGHUP asks for a reload when it runs.
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
