"""The web listener's tests run with uvloop: only ``besterd`` serves it, and uses that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop, by the name that stands in the tests' ids."""
    return {"uvloop": uvloop.new_event_loop}
