"""A NATS server with JetStream, for one process and a simulated clock.

It speaks the client protocol of nats-server 2.15 on any asyncio transport, and has what Bester's servers use: subjects
with wildcards, queue groups, headers, no-responders; streams with their limits, lifetimes, expectations, deduplication
and atomic batches; reads from leaders and replicas; pull consumers without acknowledgements. It keeps no time but the
loop's, draws chance from the generator that it is given, and touches neither disk nor thread.

It has no TLS, accounts, permissions, leaf nodes, gateways or monitoring; no push, durable or acknowledging consumers;
no mirrors, sources, compression, republishing, key-value or object stores. Servers of a cluster share their messages
and reach each other without delay (``leaders.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from bester.lab.nats.answers import RELEASE
from bester.lab.nats.connection import Connection, Settings
from bester.lab.nats.faults import Fates, as_usual
from bester.lab.nats.jetstream import JetStream
from bester.lab.nats.leaders import Leaders
from bester.lab.nats.routing import Member, Router
from bester.lab.nats.wire import encoded_info


class NatsCluster:
    """The part of NATS servers that they share, even where there is only one.

    It outlives its servers, as their disks do: what was acknowledged stays there while none of them runs, as with
    ``sync_interval: always``. Its methods are called in the loop.

    Args:
        random: the source of all chance.
        wall: the time in seconds since 1970, for timestamps.
        fates: what happens to each request to JetStream.
        settings: of each server.
        jetstream: whether there are streams.
        max_bytes: how much all streams may hold.
    """

    def __init__(
        self,
        random: Random,
        wall: Callable[[], float],
        *,
        fates: Fates = as_usual,
        settings: Settings | None = None,
        jetstream: bool = True,
        max_bytes: int = 10 * 1024**3,
    ) -> None:
        self.settings = settings or Settings()
        self.router = Router(random)
        self.leaders = Leaders(self.router, random)
        self.jetstream = JetStream(self.router, self.leaders, random, wall, fates, max_bytes) if jetstream else None
        self.random = random

    def cut(self, speaker: str, hearer: str) -> None:
        """Lets a server no longer hear what another one says, by name."""
        self.router.cut(speaker, hearer)
        self.leaders.look()

    def divide(self, side: list[str]) -> None:
        """Cuts all routes between some servers, by name, and the others."""
        for name in self.router.members:
            if name not in side:
                for one in side:
                    self.router.cut(name, one)
                    self.router.cut(one, name)
        self.leaders.look()

    def heal(self) -> None:
        """Lets all servers hear each other again."""
        self.router.heal()
        self.leaders.look()

    def jetstream_away(self, seconds: float) -> None:
        """Lets JetStream be unavailable for a while."""
        self.leaders.away(seconds)

    def leader_away(self, stream: str, seconds: float) -> None:
        """Lets a stream have no leader for a while."""
        self.leaders.step_down(self.leaders.streams[stream], seconds)

    def lag(self, name: str, seconds: float) -> None:
        """Lets what a server reads of streams that it does not lead be so old; 0: no longer. It has streams already."""
        self.leaders.lag(name, seconds)


class NatsServer(Member):
    """One server.

    Args:
        cluster: its cluster.
        name: its name there.
        address: its host and port, which clients of the cluster's other servers are told; empty: they are not.
    """

    def __init__(self, cluster: NatsCluster, name: str = "nats", address: str = "") -> None:
        super().__init__(name)
        self.cluster = cluster
        self.address = address
        self.connections: dict[int, Connection] = {}
        """Its clients' connections, by the number that each client got."""
        self._id = f"N{cluster.random.getrandbits(128):032X}"
        self._last = 0
        self._admits: Callable[[Mapping[str, Any]], bool] = _everyone
        cluster.router.members[name] = self
        if cluster.jetstream is not None:
            cluster.jetstream.serve(self)

    def start(self) -> None:
        """Lets it run; called in the loop. Its clients connect to what :meth:`make_protocol` makes."""
        if self.running:  # its process died, and could not say so
            self.stop()
        self.running = True
        self.starts += 1
        self.retiring = False
        self.cluster.leaders.look()

    def stop(self) -> None:
        """Ends it as a crash does: its connections are cut, and what is under way has no answer."""
        self.running = False
        for connection in [*self.connections.values()]:
            connection.cut_off()
        self.cluster.leaders.look()

    def make_protocol(self) -> asyncio.Protocol:
        """Returns the server's end of a connection; for ``loop.create_server``."""
        number = self._last = self._last + 1
        made = self.connections[number] = Connection(
            self, number, self.cluster.router, self.cluster.settings, self._info, self._may_enter, self._ended
        )
        return made

    def _info(self) -> dict[str, Any]:
        """Returns what a client is told, without its number."""
        others = self.cluster.router.members.values()
        found = {
            "server_id": self._id,
            "server_name": self.name,
            "version": RELEASE,
            "proto": 1,
            "headers": True,
            "max_payload": self.cluster.settings.max_payload,
            "jetstream": self.cluster.jetstream is not None,
            "auth_required": self._admits is not _everyone,
            "connect_urls": [one.address for one in others if one.running and one.address and not one.retiring],
        }
        return {name: value for name, value in found.items() if value}

    def retire(self, seconds: float) -> None:
        """Lets it send its clients away to other servers within so many seconds (lame duck mode); then stop it."""
        self.retiring = True
        for connection in self.connections.values():
            connection.send(encoded_info(self._info() | {"ldm": True}))
            later_s = self.cluster.random.uniform(0.0, seconds)
            asyncio.get_running_loop().call_later(later_s, connection.cut_off)

    def admit(self, admits: Callable[[Mapping[str, Any]], bool]) -> None:
        """Decides from now on by a client's CONNECT whether it is admitted; others are cut off."""
        self._admits = admits
        for connection in [*self.connections.values()]:
            if connection.connected and not admits(connection.options):
                connection.cut_off("Authorization Violation")

    def cut_off(self, name: str, text: str = "") -> None:
        """Cuts the connections of the client with a name off, as a slow consumer's is.

        Args:
            name: the client's name.
            text: an error that it is told before; empty: nothing.
        """
        for connection in [*self.connections.values()]:
            if connection.name == name:
                connection.cut_off(text)

    def _ended(self, connection: Connection) -> None:
        self.connections.pop(connection.number, None)

    def _may_enter(self, options: Mapping[str, Any]) -> bool:
        return self._admits(options)


def _everyone(options: Mapping[str, Any]) -> bool:
    return True
