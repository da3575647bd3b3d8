"""What dials is tested with uvloop, which the server uses, and with asyncio's own loop, which clients have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loops, by the names that stand in the tests' ids."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.path.stem in ("test_dialling", "test_identity"):
        loops["uvloop"] = uvloop.new_event_loop
    return loops
