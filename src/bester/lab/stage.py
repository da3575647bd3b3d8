"""The world as a play has it: servers, handlers and clients, and what befalls them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from bester.lab.actors import LabClient, LabHandler, MakeHandler, Site
from bester.lab.caught import Caught
from bester.lab.loop import START_S
from bester.lab.machine import Machine
from bester.lab.network import Link
from bester.lab.server import PASSWORD
from bester.lab.trouble import EVERY_S, KINDS, Kind, Trouble
from bester.lab.world import World

Place = Site | LabHandler | LabClient
"""What runs on a machine."""
Places = Place | Sequence[Place]


class LabWorld:
    """A world of servers, handlers and clients on simulated time; :func:`bester.testing.lab` makes it.

    ``asyncio.sleep`` takes simulated time only. What the play itself connects, as a ``Client(site.url("ann"))``, runs
    on a machine of its own, ``play``.
    """

    def __init__(self, world: World, errors: list[Caught]) -> None:
        self._world = world
        self.errors = errors
        """The exceptions that nobody caught, and those that handlers' functions raised. The play fails if there are any
        left at its end; a play that expects some takes them out."""
        self.random: Random = world.random("play")
        """Chance for the play, from the seed."""
        self._sites: dict[str, Site] = {}
        self._clients: dict[str, LabClient] = {}
        self._slowed: list[tuple[Machine, Machine]] = []
        self._started = False

    @property
    def seed(self) -> int:
        """The number that all chance comes from."""
        return self._world.seed

    @property
    def now(self) -> float:
        """The seconds since the world began."""
        return self._world.loop.time() - START_S

    @property
    def sites(self) -> list[Site]:
        """The servers."""
        return list(self._sites.values())

    @property
    def clients(self) -> list[LabClient]:
        """The clients that were made by :meth:`client`."""
        return list(self._clients.values())

    # -- who is there --------------------------------------------------------------------------------------------

    def server(
        self,
        name: str,
        *,
        handlers: Iterable[MakeHandler] = (),
        config: Mapping[str, Any] | None = None,
        proven: bool = True,
    ) -> Site:
        """Adds a server, on a machine of its name; :meth:`start` starts all.

        All servers know each other. An account's first login creates it.

        Args:
            name: the server's name.
            handlers: functions that return a :class:`bester.Handler`; each is called in a new process whenever the
                handler starts, with the folder of the machine, which stays. ``Handler()`` finds the server by itself.
            config: more of the server's configuration (docs/configuration.md).
            proven: whether it proves its name to other servers by a certificate, and they prove theirs to it. If not,
                what they send to it travels without TLS, so that a failure can show it.

        Raises:
            RuntimeError: the world was started.
            ValueError: there is a server of this name.
        """
        if self._started:
            raise RuntimeError(f"add {name} before world.start(): servers must know each other when they start")
        if name in self._sites:
            raise ValueError(f"there is a server {name} already")
        made = self._sites[name] = Site(self._world, name, handlers, config, proven)
        return made

    async def start(self) -> None:
        """Starts all servers and their handlers; returns when they are ready.

        Raises:
            bester.errors.BadConfiguration: a server cannot start.
            Exception: the exception that a handler's factory raised.
        """
        if not self._started:
            self._started = True
            for site in self.sites:
                site.know(*(other for other in self.sites if other is not site))
        for site in self.sites:
            await site.start()

    async def client(self, site: Site, user: str, *, mail: bool | Iterable[str] = True, **options: Any) -> LabClient:
        """Adds a client, on a machine of its own; returns when it is connected.

        Args:
            site: its server.
            user: its account, which is made at the first login.
            mail: whether to receive the account's messages, or the types to receive.
            options: more for :class:`bester.Client`; ``reconnect`` is True unless you say otherwise.

        Raises:
            ConnectError, AuthenticationError: as ``Client.open``.
        """
        if not self._started:
            raise RuntimeError("await world.start() before the first client: no server runs")
        name = base = re.sub(r"[^\w.@-]", "_", user)
        number = 1
        while name in self._world.machines:
            number += 1
            name = f"{base}-{number}"
        options.setdefault("reconnect", True)
        password = options.pop("password", PASSWORD)
        made = LabClient(self._world, self._world.machine(name), site.url(user, password), mail, options)
        self._clients[name] = made
        await made.start()
        return made

    def folder(self, place: Place) -> Path:
        """Returns the folder of a machine, where handlers and servers have their files."""
        return place.machine.folder

    # -- what befalls them ---------------------------------------------------------------------------------------

    def cut(self, some: Places, others: Places | None = None, *, one_way: bool = False) -> None:
        """Lets nothing through between two machines, or groups of machines, until :meth:`heal`.

        Connections stay, and stand still; after half a minute the systems end them.

        Args:
            some, others: servers and clients; ``others`` None: everybody else.
            one_way: only what ``some`` send to ``others`` is lost.
        """
        here, there = self._sides(some, others)
        self._note(f"the network is cut {'from' if one_way else 'between'} {_names(here)} to {_names(there)}")
        for one, other in _pairs(here, there):
            self._world.network.block(one, other)
            if not one_way:
                self._world.network.block(other, one)

    def heal(self) -> None:
        """Ends all cuts, and all slowness."""
        self._note("the network heals")
        self._world.network.heal()
        for one, other in self._slowed:
            self._world.network.set_link(one, other, self._world.network.link)
        self._slowed.clear()

    def slow(
        self, some: Places, others: Places | None = None, *, latency_s: float = 1.0, bytes_per_s: float = 1e6
    ) -> None:
        """Makes the ways between machines slow until :meth:`heal`; arguments as for :meth:`cut`."""
        here, there = self._sides(some, others)
        self._note(f"the network is slow between {_names(here)} and {_names(there)}: {latency_s:.3f} s")
        for one, other in _pairs(here, there):
            self._world.network.set_link(one, other, Link(latency_s, latency_s / 2, bytes_per_s=bytes_per_s))
            self._slowed.append((one, other))

    def reset(self, some: Places, others: Places | None = None) -> None:
        """Resets the connections between machines, as a router that forgot them; arguments as for :meth:`cut`."""
        here, there = self._sides(some, others)
        self._note(f"connections between {_names(here)} and {_names(there)} are reset")
        for one, other in _pairs(here, there):
            self._world.network.reset(one, other)

    def trouble(self, every_s: float = EVERY_S, kinds: Iterable[Kind] = KINDS) -> Trouble:
        """Returns a block within which faults happen at random, by the seed; at its end everything works again::

            async with world.trouble():
                ...

        Args:
            every_s: the mean time from one fault to the next.
            kinds: the faults that may happen.
        """
        return Trouble(self, self._world.random("trouble"), every_s, kinds)

    def note(self, text: str) -> None:
        """Adds a line to what is shown if the play fails."""
        self._note(text)

    # -- parts ---------------------------------------------------------------------------------------------------

    def _note(self, text: str) -> None:
        self._world.trace.note(text)

    @staticmethod
    def _machines(places: Places) -> list[Machine]:
        several = places if isinstance(places, Sequence) else [places]
        for one in several:
            if not isinstance(one, Place):
                raise TypeError(f"a server or client of this world is required; got {one!r:.200}")
        return list(dict.fromkeys(one.machine for one in several))

    def _sides(self, some: Places, others: Places | None) -> tuple[list[Machine], list[Machine]]:
        here = self._machines(some)
        if others is not None:
            return here, self._machines(others)
        return here, [machine for machine in self._world.machines.values() if machine not in here]


def _pairs(here: list[Machine], there: list[Machine]) -> Iterator[tuple[Machine, Machine]]:
    return ((one, other) for one in here for other in there if one is not other)


def _names(machines: list[Machine]) -> str:
    return ", ".join(machine.name for machine in machines)
