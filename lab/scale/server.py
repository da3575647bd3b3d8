"""One server: the real runtime, exchange, effects and federation, with simulated sockets, disk and processor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar, cast

from bester.clock import SteadyClock
from bester.config import Config
from bester.core.effects import Forward, Remember
from bester.core.exchange import Exchange
from bester.errors import ServerUnreachable
from bester.net.dial_peer import PeerConnection, plan
from bester.protocol.addresses import Address
from bester.server.connections.limits import ConnectionLimits
from bester.server.effects import Effects
from bester.server.federation.destination import Destination
from bester.server.federation.federation import Federation
from bester.server.federation.link import Link
from bester.server.federation.peer_route import PeerRoute
from bester.server.federation.ports import OnlyNode
from bester.server.runtime import Runtime
from bester.store.ports import MessageStore
from lab.scale.costs import COMMIT_S, Costs
from lab.scale.local import Answer, ClientPort, HandlerPort
from lab.scale.network import Network, Wire, name_of
from lab.scale.ports import Doorway, LinkPort, PeerPort
from lab.scale.processor import Processor
from lab.scale.store import MemoryOutbox

P = TypeVar("P", bound=asyncio.Protocol)
_MEMBER = "server"
"""The field of the configuration that has the server's name."""


class Server:
    """One server, and its end of the network.

    Args:
        number: its place among all servers, from which its name follows.
        config: the configuration that all servers share, but for the name.
        network: the other servers.
        costs: what its work takes.
    """

    __slots__ = ("__weakref__", "clients", "door", "federation", "limits", "network", "number", "outbox", "processor",
                 "runtime", "wires")  # fmt: skip

    def __init__(self, number: int, config: Config, network: Network, costs: Costs) -> None:
        self.number = number
        self.network = network
        self.wires: set[Wire] = set()
        self.clients: list[ClientPort] = []
        engine = network.engine
        name = name_of(number)
        named = config.model_copy(update={_MEMBER: config.server.model_copy(update={"name": name})})
        self.runtime = runtime = Runtime(named)
        # In place of those that depend on chance and on the machine's clocks.
        runtime.exchange = Exchange(name, boot=f"{number:016x}", trace_digits=f"{number:035x}")
        runtime.clock = engine.time
        runtime.steady = SteadyClock(engine.time, engine.time, "simulated")
        self.processor = Processor(engine, runtime, costs, self.sweep)
        self.outbox = MemoryOutbox(lambda count: self.processor.charge(count * costs.store / 2))
        self.federation = ServersOnly(self, runtime, cast(MessageStore, self.outbox))
        self.limits = ConnectionLimits(runtime)
        self.door = Doorway(self.processor)
        nobody = cast(Any, _Nobody(runtime))
        effects = Effects(runtime, nobody, self.federation, nobody, nobody, nobody)
        runtime.at_turn_end(effects.flush)
        receipts = runtime.exchange.reports.receipts
        receipts.good_left = receipts.bad_left = 0  # as of a busy server
        network.hosts[name] = self

    def serve(self, types: list[str], answer: Answer, concurrency: int = 64) -> None:
        """Attaches a handler for these types."""
        HandlerPort(self.processor, types, name_of(self.number), answer, concurrency)

    def join(self, received: Callable[[int, float], None], reported: Callable[[int, bool, float], None]) -> ClientPort:
        """Adds a client, whose account is named by its number here."""
        name = f"c{len(self.clients)}"
        client = ClientPort(self.processor, name, name_of(self.number), received, reported)
        self.clients.append(client)
        return client

    def knock(self, wire: Wire) -> bool:
        return self.door.knock(PeerPort(self.processor, wire, self.federation, self.limits))

    def sweep(self) -> None:
        """Looks at the deadlines, as every server does a few times a second."""
        exchange = self.runtime.turn()
        exchange.sweep()
        self.limits.sweep(exchange.batch.now)
        self.processor.charge(0.0)


class ServersOnly(Federation):
    """The federation of a simulated server, whose connections are those of the simulated network."""

    def __init__(self, server: Server, runtime: Runtime, store: MessageStore) -> None:
        super().__init__(runtime, store, OnlyNode())
        self._server = server

    def send(self, forward: Forward) -> None:
        self._server.processor.charge(self._server.processor.costs.forward)
        super().send(forward)

    def _destination(self, key: str, address: Address) -> Destination:
        route = SimulatedRoute(self._server, address, self, self._capabilities, self._dials)
        destination = Destination(self.runtime, route, self._store, self.outbox, self._leases, self._settle_message)
        self.destinations[key] = destination
        return destination


class SimulatedRoute(PeerRoute):
    """The route to another server over the simulated network."""

    def __init__(self, server: Server, address: Address, federation: Federation, *more: Any) -> None:
        super().__init__(server.runtime, address, federation.trust, *more)
        self._server = server

    async def connect(self, protocol: P) -> PeerConnection[P]:
        if not isinstance(protocol, Link):
            raise NotImplementedError(f"{self.destination} is taken for a classic server")
        server, federation = self._server, self.runtime.config.federation
        async with self.dialling():
            wire = await server.network.dial(server, self.destination, federation.connect_timeout)
        if wire.lost:
            raise ServerUnreachable("the connection was lost at once")
        server.processor.charge(server.processor.costs.dial)
        transport = LinkPort(server.processor, wire, protocol)
        return PeerConnection(transport, protocol, plan(self.address, federation), None, [])


class _Nobody:
    """Stands for mailboxes, classic handlers and other nodes, which these worlds do not have."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def remember(self, effect: Remember) -> None:
        """Keeps the report of a ``once`` message on disk."""
        loop = asyncio.get_running_loop()
        loop.call_later(COMMIT_S, self._remembered, effect)

    def _remembered(self, effect: Remember) -> None:
        self._runtime.turn().admission.remembered(effect)

    def recall(self, effect: object) -> bool:
        return False

    def deposit(self, effect: object) -> bool:
        raise NotImplementedError("no account is away in these worlds")

    def never(self, effect: object) -> None:
        raise NotImplementedError(f"{type(effect).__name__} does not happen in these worlds")

    remove_letter = bury = read_mailbox = ask_handler = tell_handler = tell_part = share = tell = call = hold_back = (
        never
    )
