"""The functions of ``_scan.c``, where that is built.

It is built with the compiled modules, and does nothing that Python does not do, too: whoever asks for a function here
has the same in Python, and both pass the same tests.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def built(name: str) -> Callable[..., Any] | None:
    """Returns a function; None if it is not built."""
    try:
        module = import_module("bester.protocol._scan")
    except ImportError:
        return None
    function: Callable[..., Any] = getattr(module, name)
    return function
