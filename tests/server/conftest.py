"""The server's tests run with uvloop, which ``besterd`` uses; those where the loop matters with asyncio's own as well,
which those have who run a server in a test of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

BOTH = frozenset(
    {
        "attached_handlers",
        "classic_handlers",
        "clients",
        "connection_counts",
        "federation",
        "handler_processes",
        "limits",
        "links",
        "listeners",
        "orderly_ends",
        "shutdown",
    }
)
"""The modules whose tests are about sockets, processes and the end of both."""


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loops, by the names that stand in the tests' ids."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"uvloop": uvloop.new_event_loop}
    if item.path.stem.removeprefix("test_") in BOTH:
        loops["asyncio"] = asyncio.new_event_loop
    return loops
