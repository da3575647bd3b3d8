"""The web listener's tests run with both event loops: asyncio's own, and uvloop, which ``besterd`` uses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loops, by the names that stand in the tests' ids."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
