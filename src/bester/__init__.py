"""Bester: a federated, pluggable message exchange.

This module is the public interface for authors of clients and handlers; its parts are loaded when they are first used.
The blocking client is in ``bester.sync``, help for tests in ``bester.testing``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bester.client.client import Client as Client
    from bester.client.described import TypeDescription as TypeDescription
    from bester.client.informer import Informer as Informer
    from bester.client.stream import Stream as Stream
    from bester.handler.around import CallNext as CallNext
    from bester.handler.handler import Handler as Handler
    from bester.handler.handler import HandlerError as HandlerError
    from bester.handler.router import Router as Router
    from bester.handler.senders import Account as Account
    from bester.handler.senders import Peer as Peer
    from bester.protocol.commands import Accept as Accept
    from bester.protocol.commands import Command as Command
    from bester.protocol.commands import Done as Done
    from bester.protocol.commands import Drop as Drop
    from bester.protocol.commands import Hold as Hold
    from bester.protocol.commands import Reply as Reply
    from bester.protocol.commands import Response as Response
    from bester.protocol.commands import SendClients as SendClients
    from bester.protocol.commands import SendHandler as SendHandler
    from bester.protocol.commands import SendServers as SendServers
    from bester.protocol.informer import Presence as Presence
    from bester.protocol.received import ReceivedMessage as ReceivedMessage
    from bester.protocol.refusals import Refuse as Refuse
    from bester.protocol.reports import AuthenticationError as AuthenticationError
    from bester.protocol.reports import ClientError as ClientError
    from bester.protocol.reports import ConnectError as ConnectError
    from bester.protocol.reports import ConnectionClosed as ConnectionClosed
    from bester.protocol.reports import NoReply as NoReply
    from bester.protocol.reports import Refused as Refused
    from bester.protocol.reports import Report as Report
    from bester.protocol.reports import ReportError as ReportError
    from bester.protocol.reports import Result as Result
    from bester.protocol.reports import Step as Step
    from bester.protocol.requests import Request as Request
    from bester.protocol.requests import Sender as Sender
    from bester.protocol.values import BadNumber as BadNumber

__version__ = "0.1.0"

_HOMES = {
    "Accept": "bester.protocol.commands",
    "Account": "bester.handler.senders",
    "AuthenticationError": "bester.protocol.reports",
    "BadNumber": "bester.protocol.values",
    "CallNext": "bester.handler.around",
    "Client": "bester.client.client",
    "ClientError": "bester.protocol.reports",
    "Command": "bester.protocol.commands",
    "ConnectError": "bester.protocol.reports",
    "ConnectionClosed": "bester.protocol.reports",
    "Done": "bester.protocol.commands",
    "Drop": "bester.protocol.commands",
    "Handler": "bester.handler.handler",
    "HandlerError": "bester.handler.handler",
    "Hold": "bester.protocol.commands",
    "Informer": "bester.client.informer",
    "NoReply": "bester.protocol.reports",
    "Peer": "bester.handler.senders",
    "Presence": "bester.protocol.informer",
    "ReceivedMessage": "bester.protocol.received",
    "Refuse": "bester.protocol.refusals",
    "Refused": "bester.protocol.reports",
    "Reply": "bester.protocol.commands",
    "Report": "bester.protocol.reports",
    "ReportError": "bester.protocol.reports",
    "Request": "bester.protocol.requests",
    "Response": "bester.protocol.commands",
    "Result": "bester.protocol.reports",
    "Router": "bester.handler.router",
    "SendClients": "bester.protocol.commands",
    "SendHandler": "bester.protocol.commands",
    "SendServers": "bester.protocol.commands",
    "Sender": "bester.protocol.requests",
    "Step": "bester.protocol.reports",
    "Stream": "bester.client.stream",
    "TypeDescription": "bester.client.described",
}
__all__ = [
    "Accept",
    "Account",
    "AuthenticationError",
    "BadNumber",
    "CallNext",
    "Client",
    "ClientError",
    "Command",
    "ConnectError",
    "ConnectionClosed",
    "Done",
    "Drop",
    "Handler",
    "HandlerError",
    "Hold",
    "Informer",
    "NoReply",
    "Peer",
    "Presence",
    "ReceivedMessage",
    "Refuse",
    "Refused",
    "Reply",
    "Report",
    "ReportError",
    "Request",
    "Response",
    "Result",
    "Router",
    "SendClients",
    "SendHandler",
    "SendServers",
    "Sender",
    "Step",
    "Stream",
    "TypeDescription",
    "__version__",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'bester' has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
