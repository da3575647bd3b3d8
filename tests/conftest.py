"""For all tests: a password costs next to nothing where the test is not about that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
