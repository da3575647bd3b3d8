"""Looks into clusters while a play runs: who sends to other servers, and when a stream has no leader."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import Context

from bester.clock import elapsed
from bester.server.federation.relay import Relay
from bester.server.server import Server
from lab.sites import SitePlayer
from lab.stage import Stage

LOOK_S = 0.05
SENDERS_TURNS = 20
"""After how many turns of processes it is looked who sends."""
MAIL = "_MAIL"
"""A part of the names of the streams of the mailboxes."""


class ClusterWatch:
    """Watches the clusters of a play."""

    def __init__(self, stage: Stage, sites: Sequence[SitePlayer]) -> None:
        self._stage = stage
        self._sites = [site for site in sites if site.cluster is not None]
        self._turns = 0
        self.leaderless: dict[int, list[tuple[float, float]]] = {site.index: [] for site in self._sites}
        """By server: from when until when its mailboxes had no leader."""

    def start(self) -> None:
        """Begins to look at the streams."""
        if self._sites:
            self._look_at_streams()

    def _look_at_streams(self) -> None:
        now = self._stage.now
        for site in self._sites:
            assert site.cluster is not None
            leaders = site.cluster.shared.leaders
            if any(MAIL in name and leaders.of(stream) is None for name, stream in leaders.streams.items()):
                times = self.leaderless[site.index]
                if times and times[-1][1] >= now - 1.5 * LOOK_S:
                    times[-1] = times[-1][0], now
                else:
                    times.append((now - LOOK_S, now))
        if not self._stage.over:
            self._stage.world.loop.call_later(LOOK_S, self._look_at_streams, context=Context())

    def look(self) -> None:
        """Called after each turn of a process: no two nodes may send to one server."""
        self._turns += 1
        if self._turns % SENDERS_TURNS == 0:
            for site in self._sites:
                self._look_at_senders(site)

    def _look_at_senders(self, site: SitePlayer) -> None:
        senders: dict[str, str] = {}
        for keeper in site.keepers:
            server = keeper.lab.server
            if server is not None and keeper.lab.running:
                for key in _sends_to(server):
                    if key in senders:
                        self._stage.ledger.violation(
                            f"lease: {senders[key]} and {keeper.lab.machine.name} may send to {key} at once"
                        )
                    senders[key] = keeper.lab.machine.name


def _sends_to(server: Server) -> list[str]:
    """Returns the other servers that a node would send to now."""
    now = elapsed()
    return [
        key
        for key, one in server.federation.destinations.items()
        if one.sender.transport is not None and not isinstance(one.sender.transport, Relay)
        if now < one.sender.usable_until
    ]
