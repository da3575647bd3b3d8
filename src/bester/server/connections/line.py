"""The line of connections that sent more than their share of a turn of the loop; few ever do."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

SERVE_S = 0.002
"""How long one turn of the loop serves waiting connections; at least one is served."""


class TakesTurns(Protocol):
    """A connection that can wait."""

    def take_turn(self) -> None:
        """Handles waiting frames, or some of them; then the connection may line up again."""


class Line:
    """Connections in the order in which they lined up.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._waiting: OrderedDict[TakesTurns, None] = OrderedDict()
        self._moves = False

    def line_up(self, connection: TakesTurns) -> None:
        """Serves a connection when its turn comes, after all sockets that may be read."""
        self._waiting[connection] = None
        self._move()

    def _move(self) -> None:
        if self._waiting and not self._moves:
            self._moves = True
            self._loop.call_soon(self._serve)

    def _serve(self) -> None:
        """Serves the connections that have waited longest; the others wait until the loop has read all sockets."""
        until = self._clock() + SERVE_S
        while self._waiting:
            connection, _ = self._waiting.popitem(last=False)
            connection.take_turn()
            if self._clock() >= until:
                break
        self._moves = False
        self._move()
