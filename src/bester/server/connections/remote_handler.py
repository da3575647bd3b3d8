"""Handlers on other machines: they prove who they are, and attach as on the handler socket (docs/protocol.md, 6.10).

A connection counts as the listeners' do, until it has attached as one that has not authenticated. It is read again when
its first message has been checked.
"""

from __future__ import annotations

import logging
import ssl

from bester.accepting import Arrival, LogThrottle
from bester.errors import (
    AuthenticationRequired,
    BadScope,
    BesterError,
    NotAllowed,
    SessionEnded,
    ShuttingDown,
)
from bester.protocol import frames
from bester.protocol.messages import decode_attach
from bester.server.accounts.service import HANDLER
from bester.server.connections.authentication import prove_handler
from bester.server.connections.connection import SHARE_FRAMES, Stop
from bester.server.connections.handler import MAX_NAME, HandlerConnection
from bester.server.connections.services import Services
from bester.server.settings import handler_authorities, remote_types

log = logging.getLogger("bester.handler")

_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})
"""OpenSSL's reasons for input that is not TLS."""


class HandlerDoor:
    """Takes the connections of the listener ``handlers.tls``."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._throttle = LogThrottle()

    def welcome(self, arrival: Arrival) -> RemoteHandlerConnection | None:
        """Takes a connection that the listener has accepted, if there is room for it."""
        connection = RemoteHandlerConnection(self)
        return connection if connection.arrive(arrival, self.services.limits) else None

    def failed(self, address: str, error: BaseException | None) -> None:
        """Logs a handshake that has failed, at most once a minute: anybody may cause it."""
        if not isinstance(error, ssl.SSLError) or not (count := self._throttle.due()):
            return
        why = error.reason or str(error)
        if error.reason in _NO_TLS:
            why = "it does not speak TLS; the handler's address must begin with tls://"
        log.warning("handlers.tls: the TLS handshake with %s failed: %s (%d since the last line)", address, why, count)


class RemoteHandlerConnection(HandlerConnection):
    """One handler's connection over TLS."""

    over = "tls"

    def __init__(self, door: HandlerDoor) -> None:
        super().__init__(door.services)
        self.services = door.services
        self.proven = ""
        """The name of the account or of the certificate that the handler has proved."""
        self._authorities = b""
        """Those of the certificate that proved the name; empty if an account did."""
        self._door = door
        self._at_most = 1
        self.receive = self._first

    def opened(self) -> None:
        self.runtime.counts.connections += 1
        if self.runtime.stopping:
            self.fail(ShuttingDown())
        elif self.is_crowded():
            self.fail(self.crowded())
        else:
            self.services.limits.enter(self)

    def _never_opened(self) -> None:
        if self._arrival is not None and not self.ended:
            self._door.failed(self.remote.address, self._arrival.failure)
        super()._never_opened()

    def _first(self, body: bytes) -> None:
        header = decode_attach(body).header
        if header.scope != "handler":
            raise BadScope('header.scope must be "handler" on this listener')
        if header.authentication is not None:
            self.stop_reading(Stop.CHECKING)
            self._at_most = 0
            self.services.limits.leave(self)
            self.runtime.spawn(prove_handler(self, self.services, header.authentication, body))
            return
        name = certified_name(self.transport.get_extra_info("ssl_object"))
        if name:
            self._authorities = handler_authorities(self.runtime.config)
            self.admit(name, body)
        else:
            self.refuse(AuthenticationRequired(), body)

    def admit(self, name: str, body: bytes) -> None:
        """Lets a handler attach that has proved its name; then its further messages are taken."""
        self.runtime.turn()
        self.proven = name
        self.services.limits.leave(self)
        self.receive = self.attach
        self.take([body])
        if self.ended:
            return
        self._at_most = SHARE_FRAMES
        self.resume_reading(Stop.CHECKING)
        if self.framer.buffered:
            self.data_received(b"")

    def refuse(self, error: BesterError, body: bytes) -> None:
        """Answers the attach message with a bad report, and closes."""
        if self.ended:
            return
        self.runtime.counts.refuse(error.code)
        log.info("%s is refused: %s: %s", self, error.code, error.inside, extra=self.ids())
        payload = decode_attach(body).payload
        self.end(frames.report(frames.encode_text(payload.id if payload is not None else ""), error))

    def check_types(self, types: list[str]) -> None:
        allowed = remote_types(self.runtime.config, self.proven)
        for name in types:
            if allowed is not None and name not in allowed:
                raise NotAllowed(f"handlers.remoteTypes does not let {self.proven} attach for the type {name}")

    def shown_name(self, name: str) -> str:
        by = f" ({self.proven[: MAX_NAME - 3]})"
        return name[: MAX_NAME - len(by)] + by

    def account_changed(self, why: str, roles: tuple[str, ...] | None) -> None:
        """Ends the connection if its account may no longer attach; ``roles`` is None if it has ended or changed."""
        if roles is None:
            self.fail(SessionEnded(why))
        elif HANDLER not in roles:
            self.fail(SessionEnded(f"the account has no longer the role {HANDLER}"))

    def judge(self) -> None:
        handler = self.handler
        if handler is None:
            return
        if self._authorities and handler_authorities(self.runtime.config) != self._authorities:
            self.fail(SessionEnded("the authorities of handlers.tls.clientAuthority have changed"))
            return
        try:
            self.check_types([route.name for route in handler.types])
        except NotAllowed as error:
            self.fail(SessionEnded(error.message))

    def ids(self) -> dict[str, str]:
        return super().ids() | ({"account": self.proven} if self.proven else {})

    def end(self, last: bytes = b"") -> None:
        super().end(last)
        self.services.limits.leave(self)

    def closed(self) -> None:
        super().closed()
        self.services.limits.gone(self)

    def leave(self) -> None:
        super().leave()
        self.services.accounts.dependents.remove(self)


def certified_name(tls: ssl.SSLObject | None) -> str:
    """Returns the name in a verified certificate: its first DNS name, else its common name; ``""``: there is none."""
    shown = tls.getpeercert() if tls is not None else None
    if not shown:
        return ""
    parts: list[tuple[tuple[str, str], ...]] = [shown.get("subjectAltName", ()), *shown.get("subject", ())]  # type: ignore
    names = [one[1] for part in parts for one in part if one[0] in ("DNS", "commonName")]
    return names[0].lower() if names else ""
