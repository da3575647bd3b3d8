"""Requests that wait for their answers.

All answers of a connection come to one wildcard subscription, and are told apart by the last token of their subject.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, NamedTuple

from bester.bus.errors import BusLost, NoResponders

_NO_RESPONDERS = b"NATS/1.0 503"


class Answer(NamedTuple):
    """A message that answers a request."""

    headers: bytes
    """The header block as it came, from ``NATS/1.0`` on; empty if there was none."""
    data: bytes
    subject: str = ""
    reply: str = ""

    @property
    def no_responders(self) -> bool:
        """Whether NATS itself answered, for want of a subscriber."""
        return self.headers.startswith(_NO_RESPONDERS)


class PendingRequests:
    """The requests of one connection that have no answer yet; does no I/O."""

    def __init__(self) -> None:
        self.inbox = f"_INBOX.{secrets.token_hex(8)}"
        """The prefix of all reply subjects of this connection."""
        self._last = 0
        self._single: dict[str, tuple[asyncio.Future[Answer], float]] = {}
        """By token: the future of the one answer, and its deadline."""
        self._multiple: dict[asyncio.Future[None], None] = {}
        """Resolved by their owners when the last of several answers has come."""

    def new_token(self) -> str:
        """Returns the last token of a new reply subject."""
        self._last += 1
        return str(self._last)

    def add(self, token: str, timeout_s: float) -> asyncio.Future[Answer]:
        """Returns the future of the answer to a request that was just sent."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._single[token] = (future, loop.time() + timeout_s)
        return future

    def add_multiple(self) -> asyncio.Future[None]:
        """Returns a future that fails with the connection; its owner resolves it, and calls :meth:`remove_multiple`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._multiple[future] = None
        return future

    def remove_multiple(self, future: asyncio.Future[None]) -> None:
        """Forgets a future of :meth:`add_multiple`."""
        self._multiple.pop(future, None)

    def answered(self, subject: str, reply: str, headers: bytes, data: bytes) -> None:
        """Takes a message that came to a reply subject; a late one is dropped."""
        found = self._single.pop(subject[len(self.inbox) + 1 :], None)
        if found is None or found[0].done():  # done: its caller was cancelled
            return
        answer = Answer(headers, data)
        if answer.no_responders:
            found[0].set_exception(NoResponders())
        else:
            found[0].set_result(answer)

    def expire(self, now: float) -> None:
        """Fails the requests whose deadline has passed, and forgets cancelled ones; called a few times a second."""
        for token, (future, deadline) in list(self._single.items()):
            if now >= deadline or future.done():
                del self._single[token]
                if not future.done():
                    future.set_exception(BusLost("NATS did not answer in time"))

    def fail_all(self) -> None:
        """Fails all requests: the connection is lost."""
        single, self._single = self._single, {}
        pending: list[asyncio.Future[Any]] = [future for future, _ in single.values()]
        for future in [*pending, *self._multiple]:
            if not future.done():
                future.set_exception(BusLost("the connection to NATS was lost"))
