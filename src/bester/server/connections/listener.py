"""A connection to one of the listeners: a client, or another server (docs/protocol.md, sections 2 and 8).

Its states, and the method that takes the frames in each::

    OPENING    first           one frame, which says the scope
    CHECKING   (not read)      a password or a token is being checked
    CLIENT     _from_client    authenticated (``client.py``)
    SERVER     (not read)      a classic server: its one message is under way, then the connection is closed
    LINK       _from_link      a server that has asked for a link (``peer.py``)

A ``logout`` leads from CLIENT back to OPENING.
"""

from __future__ import annotations

from bester.accepting import Arrival
from bester.errors import BadScope, ServerUnverified
from bester.protocol.messages import FirstMessage, decode_first, decode_scope
from bester.server.connections.client import ClientSide
from bester.server.connections.conversation import Conversation
from bester.server.connections.peer import ServerSide
from bester.server.connections.services import Services


def welcome(services: Services, arrival: Arrival) -> ListenerConnection | None:
    """Takes a connection that a listener has accepted, if there is room for it."""
    connection = ListenerConnection(services)
    return connection if connection.arrive(arrival, services.limits) else None


class ListenerConnection(Conversation):
    """One connection to a listener."""

    def __init__(self, services: Services) -> None:
        super().__init__(services, self._first_message)

    def _first_message(self, body: bytes) -> None:
        if not self.services.federation.admits(self.remote) and decode_scope(body) == "server":
            self.services.limits.leave(self)
            self.refuse(ServerUnverified(), "")
            return
        # Only a server may say so much at once: its rate is asked before the time is spent to decode it.
        large = len(body) > self.runtime.config.limits.max_first_message
        if large and not ServerSide(self).within_rate(""):
            return
        message = decode_first(body)
        said = self.role.scope if self.role is not None else ""  # before a logout
        scope = message.header.scope or said
        if said not in ("", scope):
            raise BadScope(f'this connection is of scope "{said}"')
        match scope:
            case "client":
                client = ClientSide(self)
                self.role = client
                client.first(message)
            case "server":
                self.first_of_server(message, len(body), asked=large)
            case "":
                raise BadScope('the first message must have a header.scope: "client" or "server"')
            case _:
                raise BadScope('header.scope must be "client" or "server" here')

    def first_of_server(self, message: FirstMessage, size: int, *, asked: bool) -> None:
        """Takes another server's first message; ``asked``: whether it is known to be within its rate."""
        server = ServerSide(self)
        self.role = server
        server.first(message, size, asked=asked)
