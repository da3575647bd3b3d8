"""Exceptions that nobody in a world caught, but asyncio or a log."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bester.lab.loop import LabLoop
from bester.lab.process import Killed, current

LOGGER = "bester"
MAX_ERRORS = 100
"""How many are kept; the first ones say most."""


@dataclass(frozen=True, slots=True)
class Caught:
    """An exception, and where it came to an end."""

    error: BaseException
    place: str
    """The process, and what it was doing."""

    def __str__(self) -> str:
        return f"{self.place}: {traceback.format_exception_only(self.error)[-1].rstrip()}"


class _Collector(logging.Handler):
    def __init__(self, errors: list[Caught]) -> None:
        super().__init__(logging.ERROR)
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            add(self._errors, record.exc_info[1], record.getMessage())


@contextmanager
def collected(loop: LabLoop, errors: list[Caught]) -> Iterator[None]:
    """Appends what nobody catches meanwhile to a list; what Bester logs goes nowhere else, as there is much of it."""

    def unhandled(_: object, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Killed):
            loop.faults.append(context)
            add(
                errors,
                error if isinstance(error, BaseException) else RuntimeError(context["message"]),
                context["message"],
            )

    collector = _Collector(errors)
    logger = logging.getLogger(LOGGER)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    loop.set_exception_handler(unhandled)
    try:
        yield
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagates


def add(errors: list[Caught], error: BaseException, doing: str) -> None:
    """Adds an exception, once."""
    process = current.get()
    if len(errors) < MAX_ERRORS and all(one.error is not error for one in errors):
        errors.append(Caught(error, f"{'the world' if process is None else process.name}, {doing}"))
