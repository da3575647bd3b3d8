"""The questions of one client that have no answer yet (docs/protocol.md, section 2.4).

A question's id is no other's, of this client or another one, over all connections: so an answer that comes late, or a
second one, is known for what it is, and never taken for the answer to something else.
"""

from __future__ import annotations

import asyncio
from uuid import uuid4

from bester.protocol.client import ReceivedMessage
from bester.protocol.reports import NoReply, Refused, Report


class Asking:
    """Who waits for which answer."""

    def __init__(self) -> None:
        self._prefix = f"{uuid4().hex}a"
        self._count = 0
        self._answers: dict[str, asyncio.Future[ReceivedMessage]] = {}

    def begin(self) -> tuple[str, asyncio.Future[ReceivedMessage]]:
        """Returns the id of a new question, and the future of its answer; :meth:`end` it."""
        self._count += 1
        id = f"{self._prefix}{self._count}"
        answer = self._answers[id] = asyncio.get_running_loop().create_future()
        return id, answer

    def end(self, id: str) -> None:
        """Nobody waits for the answer any more."""
        self._answers.pop(id, None)

    def answered(self, message: ReceivedMessage) -> bool:
        """Whether a message answers a question of this client, be it too late: then it is for nobody else."""
        id = message.reply_to
        if id is None or not id.startswith(self._prefix):
            return False
        answer = self._answers.pop(id, None)
        if answer is not None and not answer.done():
            answer.set_result(message)
        return True


def reported(answer: asyncio.Future[ReceivedMessage], reporting: asyncio.Future[Report]) -> None:
    """A question has its report, before which every answer comes: without one there will be none."""
    error = None if reporting.cancelled() else reporting.exception()
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    elif reporting.cancelled():
        answer.cancel()
    elif reporting.result().good:
        answer.set_exception(NoReply(reporting.result()))
    else:
        answer.set_exception(Refused(reporting.result()))
