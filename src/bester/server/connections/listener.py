"""A connection to one of the listeners: a client, or another server (docs/protocol.md, sections 2 and 8).

Its states, and the method that takes the frames in each::

    OPENING    first           one frame, which says the scope
    CHECKING   (not read)      a password or a token is being checked
    CLIENT     _from_client    authenticated
    SERVER     (not read)      a classic server: its one message is under way, then the connection is closed
    LINK       _from_link      a server that has asked for a link

A ``logout`` leads from CLIENT back to OPENING.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bester.accepting import Arrival
from bester.core.session import Session
from bester.errors import BadScope, ServerUnverified
from bester.protocol import link
from bester.protocol.messages import decode_first, decode_scope
from bester.server.connections.client import ClientSide
from bester.server.connections.peer import ServerSide

if TYPE_CHECKING:
    from bester.server.runtime import Runtime


def welcome(runtime: Runtime, arrival: Arrival) -> ListenerConnection | None:
    """Takes a connection that a listener has accepted, if there is room for it."""
    connection = ListenerConnection(runtime)
    return connection if connection.arrive(arrival) else None


class ListenerConnection(ClientSide, ServerSide):
    """One connection to a listener."""

    def first(self, body: bytes) -> None:
        if not self.runtime.federation.admits(self.remote) and decode_scope(body) == "server":
            self.runtime.gate.leave(self)
            self.refuse(ServerUnverified(), "")
            return
        # Only a server may say so much at once: its rate is asked before the time is spent to decode it.
        large = len(body) > self.runtime.config.limits.max_first_message
        if large and not self.within_rate(""):
            return
        message = decode_first(body)
        scope = message.header.scope or self.scope
        if self.scope not in ("", scope):
            raise BadScope(f'this connection is of scope "{self.scope}"')
        match scope:
            case "client":
                self.first_of_client(message)
            case "server":
                self.first_of_server(message, len(body), asked=large)
            case "":
                raise BadScope('the first message must have a header.scope: "client" or "server"')
            case _:
                raise BadScope('header.scope must be "client" or "server" here')

    def finished(self) -> None:
        """Nothing of a closing endpoint is in flight any more, and its last report is written."""
        if self.quiet is not None and not self.quiet.done():
            self.quiet.set_result(None)
        elif isinstance(self.endpoint, Session):
            self.end_if_quiet(self.endpoint)
        else:
            self.end()

    def limits_changed(self) -> None:
        if isinstance(self.endpoint, Session):
            self.framer.max_size = self.runtime.config.limits.max_message
        elif self in self.runtime.federation.incoming:
            self.framer.max_size = self.runtime.config.limits.max_message + link.EXTRA_SIZE
