"""The function that handles a type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET

from bester.protocol.requests import Request

Call = Callable[[Request], Any]


@dataclass(frozen=True, slots=True)
class Registered:
    """The function of one type, called with a request alone; what is annotated and unknown is ``UNSET``."""

    call: Call
    """Returns a response or any other value, or an awaitable of it; an async iterator of them if :attr:`streams`."""
    asynchronous: bool
    dry_run: bool = True
    """Whether the function is called in dry runs."""
    thread: bool = False
    """Whether the function runs in a thread, and so cannot be cancelled."""
    streams: bool = False
    """Whether the function yields parts."""
    around: Callable[[Call], Call] | None = None
    """Of a function that yields parts: puts middleware and error handlers around the coroutine that sends them."""
    data_type: Any = UNSET
    """The type of the parameter that takes the data."""
    answer_type: Any = UNSET
    """The type of the value that the function replies with; commands and None are left out of it."""
    part_type: Any = UNSET
    """The type of the values that it yields; commands are left out of it."""
    doc: str = ""
    """The docstring, without its indentation."""
