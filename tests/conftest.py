"""What the tests of several nodes share: one real NATS server for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.nats import NatsServer


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """Each test has a server's name of its own there."""
    made = NatsServer(tmp_path_factory.mktemp("nats"))
    yield made
    made.kill()
