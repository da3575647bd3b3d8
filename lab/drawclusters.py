"""Makes clusters of some servers of a drawn plan, with what befalls clusters alone."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from msgspec.structs import replace

from lab.clustertrouble import CLUSTER_KINDS, WAYS
from lab.plan import Errand, Fault, Hand, Message, Plan, Session, Site, account_name

SHARE = 0.2
"""How many plans have clusters: they cost several times as much as others."""
MOST_SERVERS = 4
"""Plans with more servers have no clusters."""
NODE_KINDS = ("kill", "powerCut", "stop", "pause", "clock")
"""Of the faults of any server, those that are drawn once more for nodes."""
STREAM = 150
"""How many messages of a session follow each other closely."""
STREAMS = 16
"""At least as many as a cluster has."""


def with_clusters(plan: Plan, wanted: Mapping[str, float], always: bool) -> Plan:
    """Returns the plan, or one with clusters.

    Args:
        plan: what was drawn from its seed.
        wanted: by kind of fault, how much more often than others it is to be drawn.
        always: whether each plan is to have one that is not too large.
    """
    chance = Random(f"clusters {plan.seed}")
    drawn = chance.random() < SHARE
    if not (drawn or always) or len(plan.servers) > MOST_SERVERS:
        return plan
    return _Drawing(plan, chance, wanted).plan()


class _Drawing:
    def __init__(self, plan: Plan, chance: Random, wanted: Mapping[str, float]) -> None:
        self._plan = plan
        self._chance = chance
        self._wanted = wanted
        self._length_s = max(plan.length_s, 10.0)
        count = min(chance.choice((1, 1, 1, 2)), len(plan.servers))
        self._clusters = sorted(chance.sample(range(len(plan.servers)), count))
        self._nodes = {at: chance.choice((2, 3, 3, 4)) for at in self._clusters}

    def plan(self) -> Plan:
        plan, chance = self._plan, self._chance
        servers = tuple(self._site(at, one) for at, one in enumerate(plan.servers))
        hands = [self._placed(one) for one in plan.hands]
        for at, nodes in self._nodes.items():
            hands += [Hand(at, ("t0", "t1"), node=node) for node in range(nodes) if chance.random() < 0.5]
        faults = [replace(one, node=chance.randrange(4)) for one in plan.faults]
        faults += [self._fault() for _ in range(chance.choice((0, 1, 2, 3, 5)))]
        if chance.random() < 0.1:
            faults += self._rolling_restart()
        messages = list(plan.messages)
        if chance.random() < 0.3:
            hands = [replace(one, late_s=0.0, concurrency=64) for one in hands]
            messages += self._streams()
        return replace(
            plan,
            servers=servers,
            hands=tuple(hands),
            messages=tuple(sorted(messages, key=lambda one: one.at)),
            sessions=tuple(self._at_node(one) for one in plan.sessions),
            faults=tuple(sorted(faults, key=lambda one: one.at)),
            length_s=self._length_s,
        )

    def _site(self, at: int, site: Site) -> Site:
        return replace(site, nodes=self._nodes[at], nats=self._chance.choice((1, 3, 3))) if at in self._nodes else site

    def _placed(self, hand: Hand) -> Hand:
        nodes = self._nodes.get(hand.server)
        return replace(hand, node=self._chance.randrange(nodes)) if nodes else hand

    def _at_node(self, session: Session) -> Session:
        nodes = self._nodes.get(self._plan.accounts[session.account].server)
        return (
            replace(session, node=self._chance.randrange(nodes)) if nodes and self._chance.random() < 0.5 else session
        )

    def _streams(self) -> list[Message]:
        """Returns messages that some sessions send one close behind the other, whose order can be judged."""
        plan, chance = self._plan, self._chance
        found: list[Message] = []
        for at in self._clusters:
            accounts = [number for number, one in enumerate(plan.accounts) if one.server == at]
            senders = [by for by, one in enumerate(plan.sessions) if one.account in accounts and not one.library]
            for by in chance.sample(senders, min(len(senders), 3)):
                to = [account_name(one) for one in chance.sample(accounts, min(len(accounts), 2))]
                once, type = chance.random() < 0.7, chance.choice(("t0", "t1"))
                every_s = chance.choice((0.005, 0.03, 0.2))
                begin = chance.uniform(0, self._length_s / 2)
                times = [round(begin + every_s * number, 3) for number in range(STREAM)]
                found += [
                    Message(when, by, type, Errand(clients=(chance.choice(to),)), once=once)
                    for when in times
                    if when < self._length_s
                ]
        return found

    def _fault(self) -> Fault:
        chance = self._chance
        kinds = CLUSTER_KINDS + NODE_KINDS
        kind = chance.choices(kinds, [self._wanted.get(one, 1.0) for one in kinds])[0]
        return Fault(
            at=round(chance.uniform(0, self._length_s), 3),
            kind=kind,
            who=chance.choice(self._clusters),
            for_s=round(chance.choice((0.3, 3.0, 12.0, 30.0)) * chance.random(), 3),
            count=chance.randrange(STREAMS) if kind == "leaderAway" else chance.randrange(len(WAYS)),
            amount=self._amount(kind),
            node=chance.randrange(4),
        )

    def _amount(self, kind: str) -> float:
        chance = self._chance
        if kind == "fates":
            return chance.choice((0.01, 0.1, 0.5))
        if kind == "lagNats":
            return chance.choice((0.1, 1.0, 5.0))
        return chance.choice((-3600.0, -5.0, 3.0, 90.0)) if kind == "clock" else 0.0

    def _rolling_restart(self) -> list[Fault]:
        at, nodes = self._chance.choice(list(self._nodes.items()))
        every_s = self._length_s / (nodes + 1)
        down_s = round(self._chance.uniform(0, every_s), 3)
        return [Fault(round(every_s * (node + 0.5), 3), "stop", at, for_s=down_s, node=node) for node in range(nodes)]
