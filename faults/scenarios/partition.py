"""A cluster in three places, each with a node and a NATS server, one of which is cut off from the others in turns.

NATS behaves in its own way in a partition: a stream whose leader is cut off has none for 4 to 9 s, and a server that
was deaf asks for another leader when it is heard again, so that there may be elections after the cut, too. Waits in
which a stream got another leader are counted apart from the others.

Messages that were under way at a cut may come out of order, and so may letters that were under way when the stream of
the mailboxes got another leader, which may be long after the cut (docs/scale.md). All others must be in order.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from faults.ledger import Ledger
from faults.nats import Nats, started
from faults.network import Network
from faults.players import Handler, Player, Receiver, Sender
from faults.plays import FAR, PATIENCE_S, federated, judge
from faults.run import Run
from faults.scenarios.cluster import TICK_S, Front
from faults.servers import Besterd

PLACES = 3
"""The other server is in a place of its own behind these, which is never cut off."""
FULL_S, EVERY_S, CUT_S = 300.0, 18.0, 8.0
QUICK_S, QUICK_EVERY_S, QUICK_CUT_S = 40.0, 13.0, 5.0
RATE = 100
"""``once`` messages in a second, of all senders; without it, each node has as many more for itself."""
WAYS = {"cut off": (True, True), "not heard": (True, False), "deaf": (False, True)}
"""Whether the packets of a place are dropped, and those to it."""
PORTS = (4222, 8222, 6222)
BACK_S, ELECTED_S = 5.0, 12.0
"""The longest waits of senders that are not cut off; the second one if a stream got another leader meanwhile."""
HEALED_S = 12.0
SETTLED_S = 4.0
"""How long after a cut new messages may still come out of order."""
MAIL = "_MAIL"
"""A part of the names of the streams of the mailboxes."""
LEADS_S = 0.5
"""How long after its election new letters may still not find a leader."""
LOCAL_S = 2.0
REFUSED_S = 13.0
"""The longest wait for a refusal: nodes wait for a leader for 12 s, because an election takes up to 9."""


@dataclass
class Cut:
    """A time in which a place was cut off."""

    place: int
    way: str
    at: float
    healed: float = 0.0


class Timed(Ledger):
    """Records when each message was given to its sender, and when it had its report."""

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[str, float] = {}
        self.told: dict[str, float] = {}
        self.refusals: list[tuple[float, float]] = []
        """When a message was refused for now, and how long after it had been sent."""
        self._good: dict[str, list[float]] = {}
        """By sender: when it had good reports."""

    def reported_good(self, key: str, status: str) -> None:
        super().reported_good(key, status)
        self.told[key] = time.monotonic()
        self._good.setdefault(key.rpartition(".")[0], []).append(self.told[key])

    def refused_for_now(self, key: str, code: str, after_s: float) -> None:
        super().refused_for_now(key, code, after_s)
        self.refusals.append((time.monotonic(), after_s))

    def waits(self, sender: str, since: float, until: float) -> list[tuple[float, float]]:
        """Returns a sender's waits for a good report that began between these times: their beginnings and ends."""
        return [(a, b) for a, b in itertools.pairwise(self._good.get(sender, ())) if since <= a < until]

    def next_after(self, sender: str, at: float) -> float:
        """Returns when a sender had its next good report."""
        return next((good for good in self._good.get(sender, ()) if good >= at), at + PATIENCE_S)

    def under_way(self, cuts: Sequence[Cut], elections: Sequence[float]) -> set[str]:
        """Returns messages that may come out of order.

        They were under way during a cut or soon after it, or when the stream of the mailboxes got another leader: a
        letter that found none is published again, behind newer ones.
        """
        times = [(cut.at, cut.healed + SETTLED_S) for cut in cuts]
        times += [(elected, elected + LEADS_S) for elected in elections]
        return {
            key
            for key, at in self.given.items()
            if any(at < end and self.told.get(key, at) > begin for begin, end in times)
        }


@dataclass
class World:
    """All servers and players."""

    run: Run
    network: Network
    servers: list[Nats] = field(default_factory=list)
    nodes: list[Besterd] = field(default_factory=list)
    ledger: Timed = field(default_factory=Timed)
    near: Timed = field(default_factory=Timed)
    """The messages that do not leave their node and are not stored."""
    senders: list[Sender] = field(default_factory=list)
    """One in each place, as the following."""
    near_senders: list[Sender] = field(default_factory=list)
    receivers: list[Receiver] = field(default_factory=list)

    async def begin(self) -> None:
        """Starts everything; returns when all players have been let in."""
        run, network = self.run, self.network
        for place in range(PLACES):
            routes = [f"{network.host(other)}:{PORTS[2]}" for other in range(PLACES) if other != place]
            self.servers.append(Nats(run.folder(), PORTS, routes, network.host(place), network.inside(place)))
        await started(run, self.servers)
        near, far = federated(run.folder(), ("0.0.0.0", network.host(PLACES)), {})
        other = run.server(run.folder(), far)
        other.prefix = network.inside(PLACES)
        for place in range(PLACES):
            urls = [one.url for one in self.servers[place:] + self.servers[:place]]
            cluster = {"nats": urls, "node": f"n{place}", "replicas": 3}
            node = run.server(run.folder(), near | {"cluster": cluster})
            node.prefix = network.inside(place)
            self.nodes.append(node)
        await asyncio.gather(*(server.start() for server in (other, *self.nodes)))
        front = Front(self.nodes)
        front.up.set()
        for place, node in enumerate(self.nodes):
            self.senders.append(Sender(node, self.ledger, f"s{place}", 16))
            self.near_senders.append(Sender(node, self.near, f"n{place}", 16))
            self.near_senders[-1].once(False)
            self.receivers.append(Receiver(node, self.ledger, f"here{place}"))
            self.receivers.append(Receiver(node, self.near, f"near{place}"))
        comes = lambda: run.random.randint(20, 200)  # noqa: E731
        self.receivers += [Receiver(front, self.ledger, f"away{number}", comes) for number in range(2)]
        self.receivers.append(Receiver(other, self.ledger, "far0"))
        players: list[Player] = [*self.senders, *self.near_senders, *self.receivers]
        players += [Handler(node, self.ledger) for node in (*self.nodes, other)]
        for player in players:
            run.spawn(player.play())
        async with asyncio.timeout(PATIENCE_S):
            for player in players:
                await player.was_in.wait()

    async def load(self) -> None:
        """Lets the senders send at a rate, and less if too many messages have no report."""
        names = [*(f"here{place}" for place in range(PLACES)), "away0", "away1", "far0"]
        turns = itertools.cycle([(sender, name) for name in names for sender in self.senders])
        near = itertools.cycle([(sender, f"near{place}") for place, sender in enumerate(self.near_senders)])
        began, given = time.monotonic(), 0
        while True:
            wanted = int((time.monotonic() - began) * RATE)
            for sender, name in itertools.islice(turns, wanted - given):
                self._give(self.ledger, sender, name)
            for sender, name in itertools.islice(near, PLACES * (wanted - given)):
                self._give(self.near, sender, name)
            given = wanted
            await asyncio.sleep(TICK_S)

    def _give(self, ledger: Timed, sender: Sender, name: str) -> None:
        if len(sender.todo) < RATE:
            key = sender.give(name, type="far", server=FAR) if name == "far0" else sender.give(name)
            ledger.given[key] = time.monotonic()

    async def cut(self, place: int, way: str, seconds: float, *, leads: bool) -> Cut:
        """Cuts a place off for a time; before that, other places get to lead the streams, unless it ``leads``."""
        out, into = WAYS[way]
        server = self.servers[place]
        if not leads:
            await server.step_down(await server.leads())
        self.run.say(f"place {place + 1} is {way}, and led {len(await server.leads())} streams")
        found = Cut(place, way, time.monotonic())
        self.network.cut(place, out=out, into=into)
        await asyncio.sleep(seconds)
        self.network.heal(place)
        found.healed = time.monotonic()
        return found

    async def finish(self) -> None:
        """Waits for all reports and all messages."""
        for sender in (*self.senders, *self.near_senders):
            async with asyncio.timeout(PATIENCE_S):
                await sender.idle.wait()
        for receiver in self.receivers:
            receiver.stay()
        for ledger in (self.ledger, self.near):
            if not await ledger.all_came(PATIENCE_S):
                self.run.notes.append(f"{self.run.scenario}: not everything came within {PATIENCE_S:g} s.")


async def partition(run: Run) -> None:
    """The whole scenario."""
    if run.quick:
        await parted(run, QUICK_S, QUICK_EVERY_S, QUICK_CUT_S)
    else:
        await parted(run, FULL_S, EVERY_S, CUT_S)


async def parted(run: Run, seconds: float, every_s: float, cut_s: float) -> None:
    """Cuts off one place after the other, in one way after the other."""
    world = World(run, Network(run, PLACES + 1))
    await world.begin()
    load = run.spawn(world.load())
    await asyncio.sleep(1)
    cuts: list[Cut] = []
    began = time.monotonic()
    for number in itertools.count():
        since = time.monotonic()
        way = list(WAYS)[(number + number // PLACES) % len(WAYS)]
        cuts.append(await world.cut(number % PLACES, way, cut_s, leads=number % 2 == 1))
        await asyncio.sleep(max(0.0, since + every_s - time.monotonic()))
        if time.monotonic() - began >= seconds:
            break
    load.cancel()
    await world.finish()
    _judge(run, world, cuts)


def _judge(run: Run, world: World, cuts: list[Cut]) -> None:
    ledger, near = world.ledger, world.near
    judge(run, "", [ledger])
    judge(run, "not kept, on one node", [near])
    names = [sender.name for sender in world.senders]
    offset = time.time() - time.monotonic()
    of_mail = [at - offset for server in world.servers for at in server.elections(0.0, MAIL)]
    disturbed = ledger.under_way(cuts, of_mail)
    disorder = ledger.out_of_order(names, ledger.again | disturbed)
    run.at_most("out of order, though not under way at a cut or an election", disorder, 0)
    run.notes.append(
        f"{run.scenario}: of {len(disturbed):,} messages that were under way at a cut or an election, "
        f"{ledger.out_of_order(names, ledger.again) - disorder:,} came out of order."
    )
    if run.quick:
        return  # how long they wait on a machine that is busy with tests is the full scenario's business
    elections = [at - offset for server in world.servers for at in server.elections(0.0)]
    others: dict[bool, list[float]] = {False: [0.0], True: [0.0]}
    healed: dict[bool, list[float]] = {False: [0.0], True: [0.0]}
    alone, refused = [0.0], [0.0]
    for cut in cuts:
        for place, name in enumerate(names):
            if place != cut.place:
                for began, ended in ledger.waits(name, cut.at - TICK_S, cut.healed):
                    others[any(began < at <= ended for at in elections)].append(ended - began)
            back = ledger.next_after(name, cut.healed)
            healed[any(cut.healed < at <= back for at in elections)].append(back - cut.healed)
        alone += [b - a for a, b in near.waits(f"n{cut.place}", cut.at - TICK_S, cut.healed)]
        refused += [after_s for at, after_s in ledger.refusals if cut.at <= at < cut.healed]
    run.at_most("longest wait of others that began in a cut", max(others[False]), BACK_S, "s")
    run.at_most("the same, with an election", max(others[True]), ELECTED_S, "s")
    run.at_most("until good news everywhere after a cut", max(healed[False]), HEALED_S, "s")
    run.at_most("the same, with such an election", max(healed[True]), HEALED_S, "s")
    run.at_most("between clients of the node that is cut off", max(alone), LOCAL_S, "s")
    run.at_most("until a message is refused for now", max(refused), REFUSED_S, "s")
