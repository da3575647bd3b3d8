"""Which servers lead: one for each stream, and one for JetStream itself.

There is no Raft: all servers share the streams' messages, so a new leader has everything that was acknowledged, and a
replica is behind only where it is told to be. A client sees of an election which servers can lead, and that none does
for some seconds.

A server leads a stream as long as it reaches, with itself, more than half of the servers that have the stream. When it
no longer does, none leads until an election is over, which elects one that reaches so many.
"""

from __future__ import annotations

import asyncio
import contextvars
from random import Random
from typing import Any

from bester.lab.nats.routing import Member, Router
from bester.lab.nats.streams import Stream

ELECTION_S = (4.0, 9.0)
"""How long an election takes, at least and at most, as in a real cluster."""


class Leaders:
    """The leaders of a cluster.

    Args:
        router: its servers, and which of them reach each other.
        random: chooses leaders, and how long elections take.
    """

    def __init__(self, router: Router, random: Random) -> None:
        self.streams: dict[str, Stream] = {}
        self._router = router
        self._random = random
        self._context = contextvars.copy_context()
        self._away_until = 0.0

    def members(self) -> list[str]:
        """Returns the names of the running servers."""
        return [name for name, one in self._router.members.items() if one.running]

    # -- now -----------------------------------------------------------------------------------------------------------

    def jetstream(self, via: Member) -> Member | None:
        """Returns the server that answers for JetStream itself, if one does."""
        if asyncio.get_running_loop().time() < self._away_until:
            return None
        return via if self._has_majority(via.name, list(self._router.members)) else None

    def of(self, stream: Stream) -> Member | None:
        """Returns the leader of a stream."""
        if not stream.leader or asyncio.get_running_loop().time() < self._away_until:
            return None
        return self._router.members[stream.leader]

    def replica(self, stream: Stream, via: Member) -> Member | None:
        """Returns a server that has a stream and that another server reaches."""
        found = [self._router.members[name] for name in stream.peers]
        found = [one for one in found if self._router.reaches(via, one)]
        return via if via in found else self._random.choice(found) if found else None

    def described(self, stream: Stream) -> dict[str, Any]:
        """Returns a stream's servers as STREAM.INFO tells them."""
        others = [{"name": name, "current": True} for name in stream.peers if name != stream.leader]
        return {"leader": stream.leader} | ({"replicas": others} if others else {})

    # -- what changes it -------------------------------------------------------------------------------------------

    def place(self, stream: Stream, replicas: int) -> None:
        """Chooses the servers of a new stream."""
        stream.peers = self._random.sample(self.members(), replicas)
        stream.leader = stream.peers[0]

    def away(self, seconds: float) -> None:
        """Lets JetStream be unavailable for a while, everywhere."""
        self._away_until = asyncio.get_running_loop().time() + seconds

    def step_down(self, stream: Stream, seconds: float) -> None:
        """Lets a stream have no leader for a while."""
        stream.leader = ""
        stream.forget()
        self._elect_later(stream, seconds)

    def lag(self, name: str, seconds: float) -> None:
        """Lets a server have everything so much later than the leaders of the streams that are there now."""
        for stream in self.streams.values():
            stream.lag(name, seconds, asyncio.get_running_loop().time)

    def look(self) -> None:
        """Takes note that servers came, went, or no longer reach each other."""
        for stream in self.streams.values():
            alone = len(stream.peers) == 1
            if alone and not stream.leader:
                self._elect(stream)
            elif stream.leader and not self._can_lead(stream.leader, stream):
                stream.leader = ""
                stream.forget()
                if not alone:
                    self._elect_later(stream, self._random.uniform(*ELECTION_S))
            elif not stream.leader:
                self._elect_later(stream, self._random.uniform(*ELECTION_S))

    def _elect_later(self, stream: Stream, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._elect, stream, context=self._context)

    def _elect(self, stream: Stream) -> None:
        if not stream.leader:
            able = [name for name in stream.peers if self._can_lead(name, stream)]
            stream.leader = self._random.choice(able) if able else ""

    def _can_lead(self, name: str, stream: Stream) -> bool:
        return self._has_majority(name, stream.peers)

    def _has_majority(self, name: str, peers: list[str]) -> bool:
        """Whether a running server hears more than half of some servers, and is heard by them."""
        router, member = self._router, self._router.members[name]
        others = [router.members[one] for one in peers]
        reached = [one for one in others if router.reaches(member, one) and router.reaches(one, member)]
        return member.running and 2 * len(reached) > len(peers)
