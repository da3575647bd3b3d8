"""The services that operators' commands act on, and that status is read from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from bester.net.identity import Expiry
from bester.protocol.framing import Framer
from bester.server.accounts.service import AccountService
from bester.server.admin.recordings import Recordings
from bester.server.federation.federation import Federation
from bester.server.handlers.classic import ClassicCalls
from bester.server.handlers.descriptions import Descriptions
from bester.server.handlers.processes import Supervisor
from bester.server.held import HeldMessages
from bester.server.mailboxes import Mailboxes
from bester.server.ports import Cluster
from bester.server.runtime import Runtime
from bester.server.telemetry.rates import Rates
from bester.server.telemetry.receipts import Receipts
from bester.server.telemetry.storage import Storage
from bester.server.telemetry.tracing import Tracing
from bester.store.ports import MessageStore


class OpenConnection(Protocol):
    """One connection, of any socket."""

    kind: str
    framer: Framer
    sent: int


class Connections(Protocol):
    """The connections of all sockets."""

    @property
    def all(self) -> Collection[OpenConnection]:
        """Those that are open."""


class Limits(Protocol):
    """The connections of the listeners and their bounds; ``len()`` counts those that have not authenticated."""

    room: int
    """How many connections there are descriptors for."""

    def __len__(self) -> int: ...

    @property
    def connections(self) -> Collection[object]:
        """The connections of the listeners."""

    @property
    def is_starved(self) -> bool:
        """Whether a connection was lately refused for want of a descriptor."""


@dataclass(frozen=True, slots=True)
class AdminServices:
    """The parts of a server that its operators see and control."""

    runtime: Runtime
    cluster: Cluster
    messages: MessageStore
    accounts: AccountService
    mailboxes: Mailboxes
    held: HeldMessages
    federation: Federation
    supervisor: Supervisor
    descriptions: Descriptions
    classic: ClassicCalls
    connections: Connections
    limits: Limits
    receipts: Receipts
    rates: Rates
    storage: Storage
    tracing: Tracing
    recordings: Recordings
    listener_expiries: Callable[[], list[Expiry]]
    """Returns when the certificate of the listener ``web`` ends; None without one."""
    reload: Callable[[], Awaitable[dict[str, object]]]
    """Reads the configuration again; raises BadConfiguration if it is wrong, and then changes nothing."""
