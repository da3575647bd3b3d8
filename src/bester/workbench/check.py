"""A check of a handler, and its outcome."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from bester.workbench.bench import Bench
from bester.workbench.contract import Form


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that the contract demands."""

    id: str
    """Stable: it stands in reports and in the settings of those who run them."""
    section: str
    """Of docs/protocol.md."""
    contract: str
    """What it says there, in a sentence."""
    run: Callable[[Bench], Awaitable[None]]
    """Raises :class:`Failed` or :class:`Skipped`."""
    forms: tuple[Form, ...] = (Form.ATTACHED, Form.CLASSIC)
    echo: bool = False
    """Whether it can be judged only where the data comes back."""


def check(
    id: str, section: str, contract: str, *, form: Form | None = None, echo: bool = False
) -> Callable[[Callable[[Bench], Awaitable[None]]], Check]:
    """Makes the coroutine function below it a check; both forms' unless a form is given."""

    def make(run: Callable[[Bench], Awaitable[None]]) -> Check:
        return Check(id, section, contract, run, (form,) if form else tuple(Form), echo)

    return make


class Outcome(enum.StrEnum):
    """What came of a check."""

    OK = "ok"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Result:
    """One check's outcome."""

    check: Check
    outcome: Outcome
    seconds: float
    detail: str = ""
    """What went wrong, why it was skipped, or what is worth a note."""
    transcript: list[str] = field(default_factory=list)
    """Of a failure: the bytes that went (``>``) and came (``<``), shown as text, long ones cut."""
    output: list[str] = field(default_factory=list)
    """Of a failure: the last lines that the handler's process wrote."""
    judged: bool = True
    """Whether it could be made; false where what failed before leaves nothing to judge, which ``detail`` names."""
