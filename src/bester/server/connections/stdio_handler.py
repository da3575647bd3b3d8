"""Handlers that the server starts and speaks to over their standard input and output (docs/protocol.md, section 6.11).

To the exchange such a process is an attached handler of one type. Its answers need no ids: one without answers the
oldest request that the process was given and has not answered, also if that has timed out since; so an answer that is
late goes to nobody else. After a line that is no JSON nobody can tell which request the next answer is for. Then the
process ends, and is started again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from bester.config import HandlerConfig
from bester.core.metrics import Drop
from bester.core.routing import AttachedHandler
from bester.errors import BadResponse, BesterError, Fatal, Malformed
from bester.printable import one_line
from bester.protocol import frames
from bester.protocol.messages import BadAnswer, HandlerMessage, attach_data, decode_attach
from bester.protocol.stdio import LineFramer, as_lines, read_answer
from bester.server.connections.handler import HandlerConnection, grant
from bester.server.connections.services import Services

log = logging.getLogger("bester.handler")

SHOWN = 200
"""How many characters of a wrong line are logged."""
MISSED = 2
"""After so many requests in a row without an answer in time, a process that gets one at a time is taken to hang."""


class StdioConnection(HandlerConnection):
    """The connection to one process.

    Args:
        services: those of the server.
        config: of the type.
        gone: called when the connection has ended, and the process must end too.
    """

    over = "stdio"

    def __init__(self, services: Services, config: HandlerConfig, gone: Callable[[], None]) -> None:
        super().__init__(services)
        self._config = config
        self._lines = config.stdio == "lines"
        if self._lines:
            self.framer = LineFramer(self.framer.max_size)
        self._gone = gone
        self._asked: dict[str, None] = {}
        """The ids of the requests that it was given and has not answered, oldest first."""
        self.receive = self._first

    def opened(self) -> None:
        config, runtime = self._config, self.runtime
        name = config.binary.name if config.binary is not None else config.type
        now = runtime.clock()
        handler = AttachedHandler(name, runtime.config.server.name, config.concurrency, since=now, writer=self)
        handler.over = self.over
        self.handler = handler
        runtime.turn().dispatcher.attach(handler, [config.type], runtime.config.limits.handler_timeout)

    def write(self, out: list[bytes]) -> None:
        handler = self.handler
        if handler is not None:
            asked, new = self._asked, []
            for id in reversed(handler.outstanding):
                if id in asked:
                    break
                new.append(id)
            asked |= dict.fromkeys(reversed(new))
            if handler.concurrency == 1 and len(asked) > MISSED:
                log.warning("type %s: its handler hangs: %d requests have timed out", ascii(self._config.type), MISSED)
                self.end()
                return
        super().write([as_lines(out)] if self._lines else out)

    # -- what it writes --------------------------------------------------------------------------------------------

    def _first(self, body: bytes) -> None:
        """Takes its first message, which may be an ``attach`` that asks for features."""
        self.receive = self._answered
        handler = self.handler
        if handler is None or b'"attach"' not in body:
            self._answered(body)
            return
        try:
            message = decode_attach(body)
        except Malformed:
            self._answered(body)
            return
        payload = message.payload
        if payload is None or payload.type != "attach":
            self._answered(body)
            return
        id = frames.encode_text(payload.id)
        try:
            data = attach_data(payload)
            described = self.descriptions.read(data.describe, [self._config.type])
            grant(handler, message.header, data, [self._config.type])
        except BesterError as error:
            log.warning("type %s: its handler's attach message is wrong: %s", ascii(self._config.type), error.inside)
            self.exchange.batch.write(handler, frames.report(id, error))
            return
        self.descriptions.attached(handler, described, len(data.describe))
        self.exchange.batch.write(handler, frames.good_report(id))

    def _answered(self, body: bytes) -> None:
        handler, exchange = self.handler, self.exchange
        if handler is None:
            exchange.batch.counters.drops.count(Drop.FRAME_AFTER_END)
            return
        try:
            message = read_answer(body)
        except BadAnswer as error:
            log.warning("type %s: bad answer: %s: %s", ascii(self._config.type), error.detail, _shown(body))
            self._refuse(handler, error.id, error.detail)
            return
        except Malformed as error:
            if self._asked:
                raise Malformed(f"what it wrote is no answer ({error.message}): {_shown(body)}") from error
            log.warning("type %s: its handler wrote what is no message: %s", ascii(self._config.type), _shown(body))
            return
        if isinstance(message, str):
            exchange.dispatcher.detach(handler)
            self.descriptions.gone(handler)
            exchange.batch.write(handler, frames.good_report(frames.encode_text(message)))
            return
        header = message.header
        if header.message_type != "push" and header.id is None:
            header.id = next(iter(self._asked), None)
        exchange.answer(handler, message)
        if header.id is not None and header.id not in handler.outstanding and not _is_part(handler, message):
            self._asked.pop(header.id, None)

    def _refuse(self, handler: AttachedHandler, id: str, why: str) -> None:
        """Fails a request that was answered wrong: the oldest one, if the answer has no id."""
        id = id or next(iter(self._asked), "")
        self._asked.pop(id, None)
        self.exchange.answer_failed(handler, id, BadResponse(why))

    # -- the end ---------------------------------------------------------------------------------------------------

    def fail(self, error: BesterError) -> None:
        if self.handler is not None and isinstance(error, Fatal) and error.code in ("malformed", "tooLarge"):
            log.warning("type %s: its handler is ended: %s", ascii(self._config.type), error.inside)
            if self._asked:
                self._refuse(self.handler, "", error.message)
        super().fail(error)

    def farewell(self, error: BesterError) -> bytes:
        return b""  # a program that reads lines knows the end of its input, and need know no other

    def leave(self) -> None:
        super().leave()
        self._gone()


def _is_part(handler: AttachedHandler, message: HandlerMessage) -> bool:
    """Whether more of the answer follows, even if it comes too late."""
    return handler.parts and message.header.more is True and message.header.status in ("0", 0)


def _shown(body: bytes) -> str:
    return one_line(body[: 4 * SHOWN].decode(errors="replace"), SHOWN)
