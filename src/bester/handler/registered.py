"""The function that handles a type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bester.protocol.requests import Request


@dataclass(frozen=True, slots=True)
class Registered:
    """The function of one type."""

    call: Callable[[Request], Any]
    """Returns a response, or an awaitable of it."""
    asynchronous: bool
    dry_run: bool = True
    """Whether the function is called in dry runs."""
