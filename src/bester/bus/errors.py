"""Errors between this node and NATS."""

from __future__ import annotations

from bester.errors import Overloaded


class BusDown(Overloaded):
    """NATS cannot be reached now, so nothing was sent."""

    def __init__(self) -> None:
        super().__init__("this server's nodes cannot reach each other now")


class BusLost(Exception):
    """The connection was lost, or no answer came in time: the outcome of the request is unknown."""


class NoResponders(Exception):
    """Nobody subscribes to the subject, as NATS itself says."""
