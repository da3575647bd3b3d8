"""Generates the load of ``bester bench``: clients with several messages under way each, all in one process."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bester import Client


@dataclass(frozen=True)
class Plan:
    """The parameters of a load, which ends after ``seconds`` or ``count`` messages, whichever comes first."""

    type: str
    clients: int
    outstanding: int
    seconds: float
    count: int | None
    size: int
    """The bytes of data per message."""


@dataclass
class Outcome:
    """The figures of a load."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """The latencies of the messages that were reported good, in seconds."""
    bad: int = 0
    last_error: str = ""
    received: int = 0

    def percentile_ms(self, share: float) -> float:
        """Returns the latency that this share of the messages did not exceed."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Load:
    """One run of a load; ``outcome`` is updated while it runs."""

    def __init__(self, plan: Plan, make_client: Callable[[Callable[[object], None]], Client]) -> None:
        self.plan = plan
        self.outcome = Outcome()
        self._make_client = make_client
        self._left = plan.count
        self._ends = 0.0

    async def run(self, started: Callable[[], None]) -> Outcome:
        """Connects, calls ``started``, and sends until the end.

        Raises:
            bester.ClientError: a connection cannot be made, or is lost.
        """
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(self._make_client(self._received)) for _ in range(self.plan.clients)
            ]
            started()
            began = time.perf_counter()
            self._ends = began + self.plan.seconds
            try:
                async with asyncio.TaskGroup() as group:
                    for client in clients:
                        for _ in range(self.plan.outstanding):
                            group.create_task(self._send(client))
            except BaseExceptionGroup as failures:
                raise failures.exceptions[0] from None
            self.outcome.seconds = time.perf_counter() - began
        return self.outcome

    def _received(self, message: object) -> None:
        self.outcome.received += 1

    async def _send(self, client: Client) -> None:
        outcome = self.outcome
        data = "x" * max(0, self.plan.size - 2)
        while (now := time.perf_counter()) < self._ends and self._left != 0:
            if self._left is not None:
                self._left -= 1
            report = await client.send(self.plan.type, data)
            if report.good:
                outcome.latencies.append(time.perf_counter() - now)
            else:
                outcome.bad += 1
                outcome.last_error = str(report.error.code if report.error else "bad")


def cpu_seconds(pid: int) -> float | None:
    """Returns the processor time that a process has used; None if it cannot be determined."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
