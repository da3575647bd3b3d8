"""Plain numbers about connections; read when somebody asks."""

from __future__ import annotations


class Counts:
    """Each counts since the start."""

    __slots__ = ("connections", "logins", "logins_failed", "refused", "slow_consumers")

    def __init__(self) -> None:
        self.connections = 0
        self.logins = 0
        self.logins_failed = 0
        self.slow_consumers = 0
        self.refused: dict[str, int] = {}
        """Connections closed for an error, by its code."""

    def refuse(self, code: str) -> None:
        self.refused[code] = self.refused.get(code, 0) + 1
