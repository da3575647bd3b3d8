"""The handler socket: handler processes that stay connected (docs/protocol.md, section 6)."""

from __future__ import annotations

import logging

from bester.core.metrics import Drop
from bester.core.routing import AttachedHandler
from bester.errors import BadResponse, BadScope, BesterError, Overloaded, ShuttingDown
from bester.protocol import frames
from bester.protocol.messages import BadAnswer, attach_data, decode_attach
from bester.protocol.names import type_name
from bester.protocol.plain import read_handler_message
from bester.server.connections.connection import Connection
from bester.server.connections.services import Services
from bester.server.handlers.classic import EXTRA_SIZE

log = logging.getLogger("bester.handler")


class HandlerConnection(Connection):
    """One handler process's connection."""

    kind = "handler"

    def __init__(self, services: Services) -> None:
        runtime = services.runtime
        super().__init__(runtime, services.connections, runtime.config.limits.max_message + EXTRA_SIZE, self._attach)
        self.exchange = runtime.exchange
        self.handler: AttachedHandler | None = None

    def opened(self) -> None:
        limits, unattached = self.runtime.config.limits, self.connections.unattached
        if self.runtime.stopping:
            self.fail(ShuttingDown())
        elif self._is_crowded():
            self.fail(self._crowded())
        else:
            if len(unattached) >= limits.max_handlers:
                next(iter(unattached)).fail(Overloaded("too many connections have not attached"))
            unattached[self] = self.runtime.clock() + limits.authentication_timeout

    def _is_crowded(self) -> bool:
        return len(self.exchange.dispatcher.handlers) >= self.runtime.config.limits.max_handlers

    def _crowded(self) -> Overloaded:
        return Overloaded(f"at most {self.runtime.config.limits.max_handlers} handlers may be attached")

    def _attach(self, body: bytes) -> None:
        message = decode_attach(body)
        if message.header.scope != "handler":
            raise BadScope('header.scope must be "handler" on this socket')
        if self._is_crowded():  # there was room when it connected
            raise self._crowded()
        self.connections.unattached.pop(self, None)
        payload = message.payload
        id = frames.encode_text(payload.id if payload is not None else "")
        try:
            data = attach_data(payload)
            types = [type_name(name) for name in data.types]
            handler = AttachedHandler(
                data.name[:128] or data.types[0],
                self.runtime.config.server.name,
                data.concurrency,
                since=self.runtime.clock(),
                writer=self,
            )
            handler.parts = "parts" in message.header.features
            handler.cancels = "cancel" in message.header.features
            if "dryRun" in message.header.features:
                handler.dry_types = frozenset(types if data.dry_run is None else data.dry_run)
            # The report goes out before the first request.
            handler.out.append(frames.good_report(id))
            self.exchange.dispatcher.attach(handler, types, self.runtime.config.limits.handler_timeout)
        except BesterError as error:
            self.runtime.counts.refuse(error.code)
            self.end(frames.report(id, error))
            return
        self.handler = handler
        if not handler.listed:
            handler.listed = True
            self.exchange.batch.dirty.append(handler)
        log.info("handler %s attached for %s", ascii(handler.name), ", ".join(map(ascii, types)), extra=self.ids())
        self.receive = self._from_handler

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
        self._leave()

    def closed(self) -> None:
        self._leave()

    def _leave(self) -> None:
        self.connections.unattached.pop(self, None)
        handler, self.handler = self.handler, None
        if handler is not None:
            log.info("handler %s is gone", ascii(handler.name), extra={"handler": handler.name})
            self.runtime.turn().dispatcher.remove(handler)
