"""Fixtures for the tests of the exchange."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.core.playbook import Playbook
from tests.core.world import Talk, World

from bester.core.limits import Limits


@pytest.fixture(autouse=True)
def every_play_is_asserted() -> Iterator[None]:
    Playbook.unasserted.clear()
    yield
    assert not Playbook.unasserted, "a play was written and not asserted"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def limits() -> Limits:
    return Limits(max_hops=3, max_in_flight=2, max_recipients=3, max_held_bytes=4096)


@pytest.fixture
def talk(world: World) -> Talk:
    return Talk(world)
