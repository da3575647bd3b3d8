"""The scenarios: each builds a world, puts a load on it, and returns its figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lab.scale.figures import ended, figures, histogram
from lab.scale.network import continent, lan
from lab.scale.network import world as earth
from lab.scale.topologies import Route, chains, direct, group, over, relay, tiers, translate
from lab.scale.world import World

Targets = Callable[[int], int]
"""Takes a sender, and returns the server that its next message is for."""
LINK_UP_S = 1.0
QUIET_S = 600.0
"""For how long a world is waited for at most, after its load."""


def load(world: World, type: str, senders: range, targets: Targets, rate: float, seconds: float) -> None:
    """Lets each sender send at a rate, at moments of its own, from now on."""
    random, now = world.random("load"), world.engine.now
    pause = 1 / rate

    def send(sender: int, until: float) -> None:
        world.send(sender, type, targets(sender))
        if world.engine.now + pause < until:
            world.engine.at(world.engine.now + pause, send, sender, until)

    for sender in senders:
        world.engine.at(now + random.uniform(0, pause), send, sender, now + seconds)


def steady(
    world: World,
    route: Route,
    type: str,
    senders: range,
    targets: Targets,
    rate: float,
    seconds: float,
    warm_s: float,
    warm: int = 1,
) -> dict[str, Any]:
    """Runs a world under a steady load, and until all is there.

    Before that each sender sends ``warm`` messages within ``warm_s``, which open the links; they are not counted.
    """
    relay(world, route)
    if type == "portuguese":
        translate(world)
    load(world, type, senders, targets, warm / warm_s, warm_s)
    world.run(warm_s + LINK_UP_S)
    world.begin()
    load(world, type, senders, targets, rate, seconds)
    world.run(seconds)
    found = figures(world)
    world.run_until_quiet(QUIET_S)
    return ended(world, found)


def founding(count: int, seed: int, rate: float = 2.0, seconds: float = 4.0, length: int = 5) -> dict[str, Any]:
    """Rows of five servers: the first one's client writes Portuguese; it is translated, and goes to the last one's."""
    count -= count % length
    with World(count, seed, lan) as world:
        senders = range(0, count, length)
        return steady(world, chains(length), "portuguese", senders, lambda at: at + length - 1, rate, seconds, 2.0)


def hub(count: int, seed: int, rate: float = 1.0, seconds: float = 3.0) -> dict[str, Any]:
    """All servers know one hub alone, and their clients write to each other."""
    with World(count, seed, continent) as world:
        random = world.random("targets")
        senders = range(1, count)
        return steady(world, over(0), "english", senders, lambda at: random.randrange(1, count), rate, seconds, 5.0)


def two_tiers(count: int, seed: int, rate: float = 1.0, seconds: float = 2.0) -> dict[str, Any]:
    """A hundred hubs that know each other, and servers that know one of them each."""
    hubs = max(2, round(count**0.5))
    with World(count, seed, continent) as world:
        random = world.random("targets")
        senders = range(hubs, count)
        targets: Targets = lambda at: random.randrange(hubs, count)  # noqa: E731
        return steady(world, tiers(hubs), "english", senders, targets, rate, seconds, 2.0)


def mesh(count: int, seed: int, links: int = 8, rate: float = 1.0, seconds: float = 2.0) -> dict[str, Any]:
    """Each server talks to some others, chosen at random, in turns."""
    with World(count, seed, earth) as world:
        return steady(world, direct, "english", range(count), neighbours(world, links), rate, seconds, 4.0, links)


def neighbours(world: World, links: int) -> Targets:
    """Gives each server others, and returns who of them is next."""
    random = world.random("neighbours")
    count = world.count
    known = [[(at + random.randrange(1, count)) % count for _ in range(links)] for at in range(count)]
    turns = [random.randrange(links) for _ in range(count)]

    def target(sender: int) -> int:
        turns[sender] = turn = (turns[sender] + 1) % links
        return known[sender][turn]

    return target


def power_law(count: int, seed: int, rate: float = 1.0, seconds: float = 3.0) -> dict[str, Any]:
    """Each new server comes to know four others, the more likely the more know them already; most know few."""
    with World(count, seed, earth) as world:
        random = world.random("neighbours")
        known: list[list[int]] = [[1], [0]]
        famous = [0, 1]
        for at in range(2, count):  # as Barabasi and Albert let networks grow
            mine = sorted({random.choice(famous) for _ in range(4)})
            known.append(mine)
            famous += [*mine, *[at] * len(mine)]
            for other in mine:
                known[other].append(at)
        targets: Targets = lambda at: random.choice(known[at])  # noqa: E731
        return steady(world, direct, "english", range(count), targets, rate, seconds, 2.0)


def crowd(count: int, seed: int, writers: int = 1000) -> dict[str, Any]:
    """A group with members on half of the servers, some of whom write at once."""
    members = list(range(1, count // 2 + 1))
    with World(count // 2 + 1, seed, continent) as world:
        group(world, 0, members)
        random = world.random("load")
        for writer in random.sample(members, min(writers, len(members))):
            world.engine.at(LINK_UP_S + random.uniform(0, 0.1), world.send, writer, "group", -1, len(members))
        world.run(LINK_UP_S + 0.1)
        world.begin(LINK_UP_S)
        world.run_until_quiet(QUIET_S)
        took = max(world.ledger.reported_at) - LINK_UP_S
        found = ended(world, figures(world, took))
        hub = world.servers[0]
        fresh = max((len(one.pending.fresh) for one in hub.federation.destinations.values()), default=0)
        return found | {"tookS": took, "freshAtEnd": fresh}


def partition(
    count: int, seed: int, hubs: int = 0, rate: float = 0.05, cut_s: float = 60.0, before_s: float = 10.0
) -> dict[str, Any]:
    """A third of the servers is cut off for a minute, under load, in a mesh or around hubs."""
    with World(count, seed, continent) as world:
        targets = neighbours(world, 8)
        if hubs:
            random = world.random("targets")
            relay(world, tiers(hubs))
            targets = lambda at: random.randrange(hubs, count)  # noqa: E731
        else:
            relay(world, direct)
        seconds = before_s + cut_s + 10.0
        load(world, "english", range(hubs, count), targets, rate, seconds)
        world.run(before_s)
        third = world.random("partition").sample(range(hubs, count), count // 3)
        dialled = len(world.network.dials)
        world.network.partition(frozenset(third))
        most, ends = 0, before_s + cut_s
        curve: list[tuple[float, int]] = []
        while world.engine.now < ends:
            world.run(1.0)
            curve.append((world.engine.now, world.stored))
        world.network.heal()
        while world.engine.now < ends + QUIET_S and (world.engine.now < seconds or not _healed(world)):
            world.run(0.5)
            curve.append((world.engine.now, world.stored))
        most = max(stored for _, stored in curve)
        found = ended(world, figures(world))
        emptied = max(server.outbox.emptied_at for server in world.servers)
        late = [arrived for arrived, took in zip(world.ledger.arrived, world.ledger.latencies, strict=True)
                if arrived > ends > arrived - took]  # fmt: skip
        return found | {
            "cutOff": len(third),
            "storedMost": most,
            "storedCurve": curve,
            "backlogsEmptyS": max(0.0, emptied - ends),
            "lastLateS": max(late, default=ends) - ends,
            "dialsFrom": dialled,
            "dialCurve": histogram(world.network.dials, 0.5, 0.0, world.engine.now),
            "healedAt": ends,
        }


def _healed(world: World) -> bool:
    return not (world.stored or world.ledger.count(0) or world.ledger.lost)


SCENARIOS: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "founding": founding,
    "hub": hub,
    "hub, 2/s": lambda count, seed: hub(count, seed, 2.0),
    "two tiers": two_tiers,
    "mesh of 8": mesh,
    "mesh of 32": lambda count, seed: mesh(count, seed, 32),
    "power law": power_law,
    "crowd, 20 write": lambda count, seed: crowd(count, seed, 20),
    "crowd, 50 write": lambda count, seed: crowd(count, seed, 50),
    "crowd, 200 write": lambda count, seed: crowd(count, seed, 200),
    "crowd, 1,000 write": crowd,
    "partition of a mesh": partition,
    "partition of a star": lambda count, seed: partition(count, seed, 1),
}
