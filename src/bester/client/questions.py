"""A client's questions that have no answer yet, or not the whole of it (docs/protocol.md, sections 2.4 and 2.9).

Every question has an id that no other question has, of this client or of another one, over all connections. So a late
or second answer is recognised, and is never taken for the answer to another question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import uuid4

from bester.protocol.received import ReceivedMessage
from bester.protocol.reports import NoReply, Refused, Report


class OpenQuestions:
    """Who waits for an answer: the future of one that comes whole, the function that takes the parts of another."""

    def __init__(self) -> None:
        self._prefix = f"{uuid4().hex}a"
        self._count = 0
        self._answers: dict[str, asyncio.Future[ReceivedMessage]] = {}
        self._streams: dict[str, Callable[[ReceivedMessage], None]] = {}

    def begin(self) -> tuple[str, asyncio.Future[ReceivedMessage]]:
        """Returns the id of a new question and the future of its answer; the caller must :meth:`end` the question."""
        self._count += 1
        id = f"{self._prefix}{self._count}"
        answer = self._answers[id] = asyncio.get_running_loop().create_future()
        return id, answer

    def end(self, id: str) -> None:
        """Forgets a question, because nobody waits for its answer any more."""
        self._answers.pop(id, None)

    def begin_stream(self, put: Callable[[ReceivedMessage], None]) -> str:
        """Returns the id of a new question, whose answer may have parts; :meth:`end_stream` ends it."""
        self._count += 1
        id = f"{self._prefix}{self._count}"
        self._streams[id] = put
        return id

    def streams(self) -> list[str]:
        """Returns the ids of the questions whose answers are coming in parts."""
        return list(self._streams)

    def end_stream(self, id: str) -> None:
        """Forgets a question, because its answer has ended or nobody waits for more of it."""
        self._streams.pop(id, None)

    def take_answer(self, message: ReceivedMessage) -> bool:
        """Returns whether a message answers a question of this client, even too late; it is then for nobody else."""
        id = message.reply_to
        if id is None:
            id = message.part_of
        if id is None or not id.startswith(self._prefix):
            return False
        answer = self._answers.pop(id, None)
        if answer is not None:
            if not answer.done():
                answer.set_result(message)
        elif id in self._streams:
            self._streams[id](message)
        return True


def fail_unanswered(answer: asyncio.Future[ReceivedMessage], reporting: asyncio.Future[Report]) -> None:
    """Fails a question that has its report but no answer: every answer comes before the report."""
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
