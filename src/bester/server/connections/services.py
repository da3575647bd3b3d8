"""The services that connections use."""

from __future__ import annotations

from dataclasses import dataclass

from bester.server.accounts.service import AccountService
from bester.server.admin.services import AdminServices
from bester.server.connections.connection import OpenConnections
from bester.server.connections.limits import ConnectionLimits
from bester.server.federation.federation import Federation
from bester.server.handlers.descriptions import Descriptions
from bester.server.mailboxes import Mailboxes
from bester.server.ports import Cluster
from bester.server.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Services:
    """The services that connections use, each by its scope."""

    runtime: Runtime
    connections: OpenConnections
    limits: ConnectionLimits
    accounts: AccountService
    mailboxes: Mailboxes
    federation: Federation
    cluster: Cluster
    descriptions: Descriptions
    admin: AdminServices
    """What built-in commands and the informer show and change."""
