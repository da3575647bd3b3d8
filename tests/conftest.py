"""For all tests: a password costs next to nothing where the test is not about that; and one NATS server for all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.nats import NatsServer

from bester.store import passwords

REAL_WORK = {"MEMORY_KIB": passwords.MEMORY_KIB, "PASSES": passwords.PASSES}


@pytest.fixture(autouse=True, scope="session")
def _little_work() -> Iterator[None]:
    """As little work as argon2 can be told to do, in this process; the real work is 20 ms for each login."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "MEMORY_KIB", 8)
        patch.setattr(passwords, "PASSES", 1)
        yield


@pytest.fixture
def real_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work that a server does."""
    for name, value in REAL_WORK.items():
        monkeypatch.setattr(passwords, name, value)


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A real NATS server; each test has a server's name of its own there."""
    made = NatsServer(tmp_path_factory.mktemp("nats"))
    yield made
    made.kill()
