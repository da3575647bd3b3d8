"""The fixtures of Bester, which pytest finds by the entry point of this distribution.

They are plain fixtures with a server in a thread, so they are for tests that are plain functions, and for coroutines of
whatever plug-in. The first test that uses one imports the server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from bester.sync import Client
    from bester.testing.running import LocalServer


@pytest.fixture
def bester_config() -> Mapping[str, Any]:
    """More of the configuration of ``bester_server``; replace this fixture by one of your own."""
    return {}


@pytest.fixture
def bester_server(bester_config: Mapping[str, Any]) -> Iterator[LocalServer]:
    """A server of the test's own; ``attach(handler)`` attaches a handler, ``client("g")`` returns a blocking client."""
    from bester.testing.running import LocalServer

    with LocalServer(bester_config) as server:
        yield server


@pytest.fixture
def bester_client(bester_server: LocalServer) -> Client:
    """A blocking client of that server, logged in as ``t``."""
    return bester_server.client("t")
