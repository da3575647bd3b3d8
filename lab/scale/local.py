"""The ports of a server to its handler and its clients, which are simulated.

Both are other processors, near the server. The handler takes requests one after the other, and answers those that it
was given at once with one write.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from bester.core.routing import AttachedHandler
from bester.core.session import Session
from bester.protocol.plain import PlainAnswer
from bester.server.connections.connection import SHARE_FRAMES
from lab.scale.costs import HANDLER_S
from lab.scale.processor import Processor

HANDLER_AWAY_S = 10e-6
"""From the server to its handler, over a Unix socket, and back."""
CLIENT_AWAY_S = 50e-6
"""From a client to its server."""
_GOOD = b'"status":"good"'

Answered = tuple[str, list[str] | str | None, str | None]
"""A command, to whom, and the type, unless it stays."""
Answer = Callable[[int, int], Answered]
"""Takes a message's number and its hops."""


class HandlerPort:
    """The connection of a handler for one type, or several that it answers alike."""

    __slots__ = ("_answer", "_answers", "_free_at", "_processor", "handler", "waits")

    def __init__(self, processor: Processor, types: list[str], server: str, answer: Answer, concurrency: int) -> None:
        self.waits = False
        self.handler = AttachedHandler(types[0], server, concurrency, writer=self)
        self._processor = processor
        self._answer = answer
        self._answers: deque[tuple[PlainAnswer, int]] = deque()
        self._free_at = 0.0
        processor.runtime.exchange.dispatcher.attach(self.handler, types, 30.0)

    def write(self, out: list[bytes]) -> None:
        self._processor.write(self._asked, b"".join(out))

    def _asked(self, at: float, data: bytes) -> None:
        requests = []
        position = 0
        while position < len(data):
            end = position + 4 + int.from_bytes(data[position : position + 4], "little")
            requests.append(data[position + 4 : end])
            position = end
        begins = max(at + HANDLER_AWAY_S, self._free_at)
        self._free_at = done = begins + HANDLER_S * len(requests)
        self._processor.engine.at(done + HANDLER_AWAY_S, self._answered, requests)

    def _answered(self, requests: list[bytes]) -> None:
        for body in requests:
            at = body.index(b'"id":"') + 6
            id = body[at : body.index(b'"', at)].decode()
            at = body.index(b'"hops":', at) + 7
            hops = int(body[at : at + 2].strip(b",}"))
            data = body[body.index(b',"data":', at) + 8 : -2]
            kind, to, type = self._answer(int(data[1 : data.index(b" ")]), hops)
            told = sum(map(len, to)) + 3 * len(to) if isinstance(to, list) else len(to or "")
            self._answers.append(((id, kind, to, type, data), len(data) + told + 80))
        self._processor.line_up(self)

    def take(self) -> bool:
        answers, costs = self._answers, self._processor.costs
        exchange, handler = self._processor.runtime.exchange, self.handler
        size = spent = 0
        while answers and spent < SHARE_FRAMES and size < 128 * 1024:
            answer, length = answers.popleft()
            size += length
            spent += 1
            if answer[1] == "sendClients" and answer[2] is not None:
                self._processor.charge(costs.delivery * len(answer[2]))
            exchange.plain_answer(handler, answer)
        self._processor.charge(costs.answer * spent + costs.byte * size)
        return bool(answers)


class ClientPort:
    """The connection of a client.

    Args:
        processor: of its server.
        username, server: who it is, and where.
        received: is called with a message's number and the time.
        reported: is called with a message's number, whether its report is good, and the time.
    """

    __slots__ = ("_incoming", "_paused", "_processor", "_received", "_reported", "session", "waits")

    def __init__(
        self,
        processor: Processor,
        username: str,
        server: str,
        received: Callable[[int, float], None],
        reported: Callable[[int, bool, float], None],
    ) -> None:
        self.waits = False
        self.session = Session(username, server, writer=self)
        self._processor = processor
        self._received = received
        self._reported = reported
        self._incoming: deque[tuple[str, bytes, bytes]] = deque()
        self._paused = False
        processor.runtime.exchange.deliveries.add_session(self.session)

    # -- the client's side ---------------------------------------------------------------------------------------

    def send(self, type: str, number: int, size: int) -> None:
        """Sends a message, whose data has so many bytes."""
        data = b'"%d %b"' % (number, b"x" * (size - 3 - len(str(number))))
        now = self._processor.engine.now
        self._processor.engine.at(now + CLIENT_AWAY_S, self._arrive, (type, b'"%d"' % number, data))

    def _arrive(self, message: tuple[str, bytes, bytes]) -> None:
        self._incoming.append(message)
        if not self._paused:
            self._processor.line_up(self)

    def _told(self, at: float, data: bytes) -> None:
        self._processor.engine.at(at + CLIENT_AWAY_S, self._read, data)

    def _read(self, data: bytes) -> None:
        now = self._processor.engine.now
        position = 0
        while position < len(data):
            end = position + 4 + int.from_bytes(data[position : position + 4], "little")
            body = data[position + 4 : end]
            position = end
            if body.startswith(b'{"header":{"messageType":"received'):
                at = body.index(b'"data":"') + 8
                self._received(int(body[at : body.index(b" ", at)]), now)
            else:
                at = body.index(b'"id":"') + 6
                self._reported(int(body[at : body.index(b'"', at)]), _GOOD in body[:80], now)

    # -- the server's side ---------------------------------------------------------------------------------------

    def take(self) -> bool:
        if self._paused:
            return False
        incoming, costs = self._incoming, self._processor.costs
        message = self._processor.runtime.exchange.admission.untracked_message
        for _ in range(min(len(incoming), SHARE_FRAMES)):
            type, id, data = incoming.popleft()
            size = len(data) + len(id) + len(type) + 45
            self._processor.charge(costs.message + costs.byte * size)
            message(self.session, type, id, data, size)
        return bool(incoming)

    def write(self, out: list[bytes]) -> None:
        self._processor.write(self._told, b"".join(out))

    def stop_reading(self, reason: int) -> None:
        self._paused = True

    def resume_reading(self, reason: int) -> None:
        self._paused = False
        if self._incoming:
            self._processor.line_up(self)

    def finished(self) -> None:
        """Clients never leave here."""
