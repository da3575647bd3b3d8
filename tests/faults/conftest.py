"""Faults are tried with both event loops, as the server's other tests."""

from __future__ import annotations

from tests.server.conftest import pytest_asyncio_loop_factories as pytest_asyncio_loop_factories
