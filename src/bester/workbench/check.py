"""A check of a handler, and its outcome."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from bester.workbench.bench import Bench


@dataclass(frozen=True, slots=True)
class Check:
    """A check of one requirement of the contract."""

    id: str
    """A stable id, which users' reports and settings contain."""
    section: str
    """The section of docs/protocol.md."""
    contract: str
    """The requirement of that section, in a sentence."""
    run: Callable[[Bench], Awaitable[None]]
    """Raises :class:`Failed` or :class:`Skipped`."""
    echo: bool = False
    """Whether the check applies only to handlers that return their data."""


def check(
    id: str, section: str, contract: str, *, echo: bool = False
) -> Callable[[Callable[[Bench], Awaitable[None]]], Check]:
    """Makes the decorated coroutine function a check."""

    def make(run: Callable[[Bench], Awaitable[None]]) -> Check:
        return Check(id, section, contract, run, echo)

    return make


class Outcome(enum.StrEnum):
    """The outcome of a check."""

    OK = "ok"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one check."""

    check: Check
    outcome: Outcome
    seconds: float
    detail: str = ""
    """The failure, the reason for skipping, or a remark."""
    transcript: list[str] = field(default_factory=list)
    """For a failure: the bytes sent (``>``) and received (``<``), shown as text, shortened if they are long."""
    output: list[str] = field(default_factory=list)
    """For a failure: the last lines that the handler's process wrote."""
    judged: bool = True
    """Whether the check could be run; False if an earlier failure, named in ``detail``, made that pointless."""
