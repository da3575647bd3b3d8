"""What a check of a handler is, what it is run with, and what can come of it."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bester.workbench.bench import Bench

MAX_MESSAGE = 1024 * 1024
"""What the servers that are played here take from clients, in bytes: the default of ``limits.maxMessage``."""
MAX_FRAME = MAX_MESSAGE + 64 * 1024
"""The largest body that goes to a handler, or comes from one (docs/protocol.md, section 1.1)."""

SAMPLE = b'{"to":"t","text":"Hello"}'
"""The data that is asked, where no other is given."""


class Form(enum.StrEnum):
    """How a handler is connected to its server."""

    CLASSIC = "classic"
    ATTACHED = "attached"


class Failed(Exception):
    """The handler does not do what the contract says; the text tells what it did."""


class Gone(Failed):
    """The handler's end of the connection is gone, and perhaps its process."""


class Skipped(Exception):
    """There is nothing to judge; the text tells why."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the checks are told about the handler."""

    type: str = "check"
    """What the environment's ``BESTER_TYPE`` says; the type that is asked, where the handler has no others."""
    sample: bytes = SAMPLE
    """Data, as JSON."""
    understood: bool = False
    """Whether the handler must take the sample, that is, answer it with status ``"0"``."""
    echo: bool = False
    """Whether the handler passes the data on as it came, so that what comes back can be compared."""
    timeout_s: float = 5.0
    """For an answer, and for whatever else the handler does at once."""
    reattach_s: float = 10.0
    """For a handler to start, or to come back after its connection was lost."""


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
