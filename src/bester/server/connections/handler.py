"""The handler socket: handler processes that stay connected (docs/protocol.md, section 6)."""

from __future__ import annotations

import logging

from bester.core.metrics import Drop
from bester.core.routing import AttachedHandler
from bester.errors import BadResponse, BadScope, BesterError, Overloaded, ShuttingDown
from bester.protocol import frames
from bester.protocol.messages import AttachData, AttachHeader, BadAnswer, attach_data, decode_attach
from bester.protocol.names import type_name
from bester.protocol.plain import read_handler_message
from bester.server.connections.connection import Connection
from bester.server.connections.services import Services
from bester.server.handlers.classic import EXTRA_SIZE

log = logging.getLogger("bester.handler")


MAX_NAME = 128


def grant(handler: AttachedHandler, header: AttachHeader, data: AttachData, types: list[str]) -> None:
    """Gives a handler the features for which its attach message asks."""
    handler.parts = "parts" in header.features
    handler.cancels = "cancel" in header.features
    if "dryRun" in header.features:
        handler.dry_types = frozenset(types if data.dry_run is None else data.dry_run)


class HandlerConnection(Connection):
    """One handler process's connection."""

    kind = "handler"
    over = "socket"
    """How operators see that it is connected."""

    def __init__(self, services: Services) -> None:
        runtime = services.runtime
        super().__init__(runtime, services.connections, runtime.config.limits.max_message + EXTRA_SIZE, self.attach)
        self.exchange = runtime.exchange
        self.descriptions = services.descriptions
        self.handler: AttachedHandler | None = None

    def opened(self) -> None:
        limits, unattached = self.runtime.config.limits, self.connections.unattached
        if self.runtime.stopping:
            self.fail(ShuttingDown())
        elif self.is_crowded():
            self.fail(self.crowded())
        else:
            if len(unattached) >= limits.max_handlers:
                next(iter(unattached)).fail(Overloaded("too many connections have not attached"))
            unattached[self] = self.runtime.clock() + limits.authentication_timeout

    def is_crowded(self) -> bool:
        """Whether no further handler may attach."""
        return len(self.exchange.dispatcher.handlers) >= self.runtime.config.limits.max_handlers

    def crowded(self) -> Overloaded:
        """Returns the error that says so."""
        return Overloaded(f"at most {self.runtime.config.limits.max_handlers} handlers may be attached")

    def attach(self, body: bytes) -> None:
        """Takes the attach message."""
        message = decode_attach(body)
        if message.header.scope != "handler":
            raise BadScope('header.scope must be "handler" on this socket')
        if self.is_crowded():  # there was room when it connected
            raise self.crowded()
        self.connections.unattached.pop(self, None)
        payload = message.payload
        id = frames.encode_text(payload.id if payload is not None else "")
        try:
            data = attach_data(payload)
            types = [type_name(name) for name in data.types]
            self.check_types(types)
            described = self.descriptions.read(data.describe, types)
            handler = AttachedHandler(
                self.shown_name(data.name or data.types[0]),
                self.runtime.config.server.name,
                data.concurrency,
                since=self.runtime.clock(),
                writer=self,
            )
            handler.over, handler.address = self.over, self.remote.address if self.over == "tls" else ""
            grant(handler, message.header, data, types)
            # The report goes out before the first request.
            handler.out.append(frames.good_report(id))
            self.exchange.dispatcher.attach(handler, types, self.runtime.config.limits.handler_timeout)
        except BesterError as error:
            self.runtime.counts.refuse(error.code)
            self.end(frames.report(id, error))
            return
        self.handler = handler
        self.descriptions.attached(handler, described, len(data.describe))
        if not handler.listed:
            handler.listed = True
            self.exchange.batch.dirty.append(handler)
        log.info("handler %s attached for %s", ascii(handler.name), ", ".join(map(ascii, types)), extra=self.ids())
        self.receive = self._from_handler

    def check_types(self, types: list[str]) -> None:
        """Called before the handler is attached for these types.

        Raises:
            NotAllowed: it may not serve one of them.
        """

    def shown_name(self, name: str) -> str:
        """Returns the name that operators see of a handler that calls itself so."""
        return name[:MAX_NAME]

    def _from_handler(self, body: bytes) -> None:
        handler = self.handler
        if handler is None:
            self.exchange.batch.counters.drops.count(Drop.FRAME_AFTER_END)
            return
        exchange = self.exchange
        try:
            message = read_handler_message(body)
        except BadAnswer as error:
            log.warning("handler %s: bad answer: %s", ascii(handler.name), error.detail, extra=self.ids())
            exchange.answer_failed(handler, error.id, BadResponse(error.detail))
            return
        if isinstance(message, tuple):
            exchange.plain_answer(handler, message)
        elif isinstance(message, str):
            exchange.dispatcher.detach(handler)
            self.descriptions.gone(handler)
            exchange.batch.write(handler, frames.good_report(frames.encode_text(message)))
        else:
            exchange.answer(handler, message)

    def ids(self) -> dict[str, str]:
        return super().ids() | ({"handler": self.handler.name} if self.handler is not None else {})

    def limits_changed(self) -> None:
        self.framer.max_size = self.runtime.config.limits.max_message + EXTRA_SIZE

    def output_blocked(self) -> None:
        """Gives the handler no more requests; its answers are still read."""
        if self.handler is not None:
            self.exchange.dispatcher.blocked(self.handler)

    def output_unblocked(self) -> None:
        if self.handler is not None:
            self.runtime.turn().dispatcher.unblocked(self.handler)

    def flush_out(self) -> None:
        handler = self.handler
        if handler is not None and handler.out:
            self.write(handler.out)
            handler.out.clear()

    def end(self, last: bytes = b"") -> None:
        if self.lost:
            return
        super().end(last)
        self.leave()

    def closed(self) -> None:
        self.leave()

    def leave(self) -> None:
        """Takes the handler out of the exchange."""
        self.connections.unattached.pop(self, None)
        handler, self.handler = self.handler, None
        if handler is not None:
            log.info("handler %s is gone", ascii(handler.name), extra={"handler": handler.name})
            self.runtime.turn().dispatcher.remove(handler)
            self.descriptions.gone(handler)
