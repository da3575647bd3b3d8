"""A seed gives one trace, wherever the hashes of strings and the addresses of objects lie, and whatever ran before."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

import pytest
from tests.lab.troubled import END, PLAYS, federated

from bester.lab.outside import owner_of
from bester.lab.world import World

REPOSITORY = Path(__file__).parents[2]
LIBRARIES = {"aiohappyeyeballs", "argon2", "asyncio", "dns", "logging", "msgspec", "nats", "pydantic", "uuid"}
"""What runs in worlds beside Bester, for which ``tests/test_order.py`` reads the source."""


def traces(plays: Sequence[str], hash_seed: int) -> dict[str, list[str]]:
    """Returns the traces of plays, one after the other in one new interpreter."""
    command = [sys.executable, "-m", "tests.lab.troubled", "11", *plays]
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
    run = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return {play: text.splitlines() for play, text in zip(plays, run.stdout.split(END), strict=True)}


@pytest.fixture(scope="module")
def twice() -> list[dict[str, list[str]]]:
    """The traces of all plays, in two orders, so that something else ran before each."""
    plays = [*PLAYS]
    return [traces(plays, hash_seed=1), traces(plays[::-1], hash_seed=2)]


@pytest.mark.parametrize("play", PLAYS)
def test_a_seed_gives_one_trace(play: str, twice: list[dict[str, list[str]]]) -> None:
    one, other = (traces[play] for traces in twice)
    assert len(one) > 500
    different = [(number, *lines) for number, lines in enumerate(zip_longest(one, other)) if lines[0] != lines[1]]
    assert different[:1] == []


def test_seeds_give_different_traces() -> None:
    digests = []
    for seed in (1, 2):
        world = World(seed)
        world.run(federated(world))
        digests.append(world.trace.digest)
    assert digests[0] != digests[1]


def in_place(world: World) -> dict[int, object]:
    """Returns what is in the places that a world replaces, by its id."""
    found = [getattr(owner_of(place), name) for place, name in world._replacements()]
    return {id(one): one for one in found if callable(one)}


def keepers(objects: dict[int, object]) -> Iterator[str]:
    """Yields the modules that have one of some objects, under any name, or as a default argument of a function."""
    for name, module in [*sys.modules.items()]:
        for value in [*vars(module).values()] if isinstance(module, types.ModuleType) else ():
            parts = [value, *vars(value).values()] if isinstance(value, type) and value.__module__ == name else [value]
            for part in parts:
                defaults: tuple[object, ...] = ()
                if isinstance(part, types.FunctionType) and part.__module__ == name:
                    defaults = (*(part.__defaults__ or ()), *(part.__kwdefaults__ or {}).values())
                if any(id(one) in objects for one in (part, *defaults)):
                    yield name


def test_nobody_keeps_what_a_world_replaces_or_has_put_in_place() -> None:
    world = World(1)
    real = in_place(world)
    simulated: dict[int, object] = {}

    async def play() -> None:
        simulated.update(in_place(world))
        await federated(world)

    world.run(play())
    assert simulated.keys().isdisjoint(real)
    # Some of it is Bester's own, such as LoopReadiness, which other tests import.
    others = [one for one in keepers(simulated) if not one.startswith(("bester.", "tests."))]
    assert not others, "import it before a world runs"
    homes = {place for place, _ in world._replacements()}
    homes.add("dns.resolver")  # keeps what it would put back if somebody overrode the system's look-ups
    assert not [one for one in set(keepers(real)) - homes if one.partition(".")[0] in LIBRARIES]
