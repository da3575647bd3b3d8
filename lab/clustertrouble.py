"""What goes wrong in clusters: nodes lose NATS, places lose each other, and NATS loses servers, leaders and answers.

A *place* is a NATS server with the nodes that are nearest to it, their handlers, and the sessions that always connect
there. Where there is one NATS server alone, a place is one node, without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Context

from bester.lab.machine import Machine
from bester.lab.network import Network
from lab.plan import Fault
from lab.sessions import SessionPlayer
from lab.sites import NatsKeeper, SitePlayer
from lab.stage import Stage

WAYS = ((True, True), (True, False), (False, True))
"""By a fault's count: whether what a place says is lost, and what is said to it."""
RETIRE_S = 1.0
"""How long a NATS server that retires sends its clients away before it ends."""


class ClusterTrouble:
    """Carries out the faults of clusters, and heals them; servers that are none have none of them."""

    def __init__(
        self, stage: Stage, sites: Sequence[SitePlayer], sessions: Sequence[SessionPlayer], struck: set[int]
    ) -> None:
        self._stage = stage
        self._network: Network = stage.world.network
        self._sites = sites
        self._sessions = sessions
        self._struck = struck
        self.kinds: dict[str, Callable[[Fault], None]] = {
            "cutPlace": self._cut_place,
            "loseNats": self._lose_nats,
            "resetNats": self._reset_nats,
            "killNats": self._kill_nats,
            "retireNats": self._retire_nats,
            "lagNats": self._lag,
            "jetStreamAway": self._jetstream_away,
            "leaderAway": self._leader_away,
            "fates": self._fates,
        }

    def heal(self) -> None:
        """Ends everything that is wrong; the network is healed already, and all its links are as usual."""
        for site in self._sites:
            site.troubles.rate = 0.0
            site.join_up()
            if site.cluster is not None:
                site.cluster.shared.jetstream_away(0.0)
                site.cluster.shared.heal()
                for nats in site.nats:
                    site.cluster.shared.lag(nats.lab.server.name, 0.0)
                    nats.up()

    def _later(self, wait_s: float, call: Callable[..., None], *args: object) -> None:
        self._stage.world.loop.call_later(wait_s, call, *args, context=Context())

    def _site(self, fault: Fault) -> SitePlayer:
        site = self._sites[fault.who % len(self._sites)]
        self._struck.add(site.index)
        return site

    # -- the network ---------------------------------------------------------------------------------------------

    def _cut_place(self, fault: Fault) -> None:
        site = self._site(fault)
        if site.cluster is None:
            return
        count = len(site.nats) if len(site.nats) > 1 else len(site.labs)
        place = fault.node % count
        nodes = [at for at in range(len(site.labs)) if at % count == place]
        inside = [site.labs[at].machine for at in nodes]
        if len(site.nats) > 1:
            inside.append(site.nats[place].lab.machine)
        for one in self._sessions:
            at = one.session.node
            if one.server == site.index and at is not None and at % len(site.labs) in nodes:
                inside.append(one.machine)
        outside = [one for one in self._stage.world.machines.values() if one not in inside]
        speaks, hears = WAYS[fault.count % len(WAYS)]
        if len(site.nats) > 1:
            own = site.nats[place].lab.server.name
            for nats in site.nats:
                other = nats.lab.server.name
                if other != own:
                    if speaks:
                        site.cluster.shared.cut(own, other)
                    if hears:
                        site.cluster.shared.cut(other, own)
        self._block(inside, outside, speaks, hears)
        self._later(fault.for_s, self._unblock, site, inside, outside)

    def _lose_nats(self, fault: Fault) -> None:
        site = self._site(fault)
        if site.cluster is not None:
            inside = [site.labs[fault.node % len(site.labs)].machine]
            outside = [one.lab.machine for one in site.nats]
            self._block(inside, outside, *WAYS[fault.count % len(WAYS)])
            self._later(fault.for_s, self._unblock, site, inside, outside)

    def _block(self, inside: list[Machine], outside: list[Machine], speaks: bool, hears: bool) -> None:
        for one in inside:
            for other in outside:
                if speaks:
                    self._network.block(one, other)
                if hears:
                    self._network.block(other, one)

    def _unblock(self, site: SitePlayer, inside: list[Machine], outside: list[Machine]) -> None:
        for one in inside:
            for other in outside:
                self._network.unblock(one, other)
                self._network.unblock(other, one)
        if site.cluster is not None:
            site.cluster.shared.heal()

    def _reset_nats(self, fault: Fault) -> None:
        site = self._site(fault)
        for nats in site.nats:
            self._network.reset(site.labs[fault.node % len(site.labs)].machine, nats.lab.machine)

    # -- NATS ----------------------------------------------------------------------------------------------------

    def _kill_nats(self, fault: Fault) -> None:
        site = self._site(fault)
        if site.nats:
            site.nats[fault.node % len(site.nats)].kill(fault.for_s)

    def _retire_nats(self, fault: Fault) -> None:
        """Stops a NATS server in an orderly way: it sends its clients to others before it ends."""
        site = self._site(fault)
        if site.nats:
            nats = site.nats[fault.node % len(site.nats)]
            process = nats.lab.process
            if process is not None and process.alive:
                process.enter().run(nats.lab.server.retire, RETIRE_S / 2)
                self._later(RETIRE_S, self._retired, nats, fault.for_s)

    def _retired(self, nats: NatsKeeper, for_s: float) -> None:
        nats.kill(0.0 if self._stage.settling else for_s)

    def _lag(self, fault: Fault) -> None:
        site = self._site(fault)
        if site.cluster is not None:
            name = site.nats[fault.node % len(site.nats)].lab.server.name
            site.cluster.shared.lag(name, fault.amount)
            self._later(fault.for_s, site.cluster.shared.lag, name, 0.0)

    def _jetstream_away(self, fault: Fault) -> None:
        site = self._site(fault)
        if site.cluster is not None:
            site.cluster.shared.jetstream_away(fault.for_s)

    def _leader_away(self, fault: Fault) -> None:
        site = self._site(fault)
        if site.cluster is not None:
            streams = sorted(site.cluster.shared.leaders.streams)
            if streams:
                site.cluster.shared.leader_away(streams[fault.count % len(streams)], fault.for_s)

    def _fates(self, fault: Fault) -> None:
        site = self._site(fault)
        site.troubles.rate = fault.amount
        self._later(fault.for_s, setattr, site.troubles, "rate", 0.0)


CLUSTER_KINDS = (
    "cutPlace",
    "loseNats",
    "resetNats",
    "killNats",
    "retireNats",
    "lagNats",
    "jetStreamAway",
    "leaderAway",
    "fates",
)
