"""Requests to the servers of one stream (``$JS.API``).

The outcome of a request is unknown when the connection or the stream's leader was lost meanwhile, so it is repeated
(``retrying.py``): every request here may be sent twice.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from bester.bus.connection import Bus
from bester.bus.requests import Answer
from bester.errors import Internal
from bester.store.jetstream.retrying import TIMES, Retrier, RetryTimes, decode_answer

log = logging.getLogger("bester.jetstream")

API = "$JS.API"
DIRECT_PAUSE_S = 0.5
"""The pause between repeated requests for many messages."""


class StreamApi:
    """Sends requests to the servers of one stream.

    Args:
        bus: the connection.
        name: the stream's name.
        times: how long answers are waited for.
    """

    def __init__(self, bus: Bus, name: str, times: RetryTimes = TIMES) -> None:
        self.bus = bus
        self.name = name
        self.publishing = Retrier(bus, f"the stream {name}, which is written to,", times)
        self.leader = Retrier(bus, f"the stream {name}", times)
        self._creating = Retrier(bus, f"JetStream, for the stream {name},", times)
        self._replicas = Retrier(bus, f"the stream {name}, any replica of it,", times)

    def close(self) -> None:
        """Fails all requests, from now on."""
        for retrier in (self.publishing, self.leader, self._creating, self._replicas):
            retrier.close()

    @property
    def unresponsive(self) -> bool:
        """Whether the stream's leader did not answer a moment ago."""
        return self.leader.unresponsive or self.publishing.unresponsive

    async def call(
        self, method: str, body: dict[str, Any], *, retry: bool = True, pause_s: float | None = None
    ) -> dict[str, Any]:
        """Returns the answer of the stream's leader; to ``CREATE`` and ``UPDATE``, that of JetStream's own leader.

        Raises:
            Overloaded: there is no answer; without ``retry`` there is one request.
        """
        subject, data = f"{API}.{method}.{self.name}", json.dumps(body).encode()

        async def request(timeout_s: float) -> dict[str, Any]:
            return decode_answer(await self.bus.request(subject, data, timeout_s=timeout_s))

        retrier = self._creating if method.endswith(("CREATE", "UPDATE")) else self.leader
        return await (retrier.repeat(request, pause_s) if retry else retrier.try_once(request))

    async def call_checked(
        self, method: str, body: dict[str, Any], *, retry: bool = True, pause_s: float | None = None
    ) -> dict[str, Any]:
        """Returns an answer that is not an error; otherwise as :meth:`call`.

        Raises:
            Internal: the answer is an error, which is logged.
        """
        return self.checked(await self.call(method, body, retry=retry, pause_s=pause_s))

    def checked(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Returns an answer that is not an error; raises Internal for one that is."""
        error = answer.get("error")
        if error is not None:
            log.error("the stream %s: %s", self.name, error.get("description"))
            raise Internal
        return answer

    async def direct_get(self, body: dict[str, Any]) -> list[Answer]:
        """Returns messages from any replica, which may lack the newest."""
        subject, data = f"{API}.DIRECT.GET.{self.name}", json.dumps(body).encode()

        async def request(timeout_s: float) -> list[Answer]:
            found = await self.bus.request_many(subject, data, timeout_s)
            status = found[-1].headers[:12]
            if status not in (b"NATS/1.0 204", b"NATS/1.0 404"):
                log.error("the stream %s cannot be read: %s", self.name, found[-1].headers[:200])
                raise Internal
            return found[:-1]

        return await self._replicas.repeat(request, DIRECT_PAUSE_S)
