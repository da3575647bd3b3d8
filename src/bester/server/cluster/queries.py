"""Questions to all nodes at once, for a view of the whole server (docs/scale.md).

A question has a name, which stands in :mod:`bester.server.admin.answers`; it is answered from what the
node that is asked has itself, so no question makes another one. Answers come in parts, for they may be larger than what
NATS takes as one message. A node that does not answer in time is named, and the others' answers count without it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import msgspec

from bester.cluster.items import Asked, Kind, Part, numbers
from bester.errors import BesterError, Internal, Overloaded, UnknownCommand, error_of
from bester.protocol.frames import encode_text
from bester.server.cluster.batcher import Batcher
from bester.server.cluster.membership import Membership
from bester.server.ports import Answer, Gathered
from bester.server.runtime import Runtime
from bester.timeouts import within

log = logging.getLogger("bester.nodes")

ANSWER_S = 1.0
"""How long a node may say nothing, before the question is answered without it."""
RECENT_S = 0.5
MAX_BYTES = 32 * 1024 * 1024
"""The largest answer of one node."""
PART_BYTES = 256 * 1024
MAX_AT_ONCE = 64
"""How many questions of others are answered at once; more are refused."""


class _Open:
    """A question that other nodes were asked."""

    def __init__(self, waited_for: set[str]) -> None:
        self.waited_for = waited_for
        self.parts: dict[str, list[bytes]] = {}
        self.gathered = Gathered()
        self.progress = asyncio.Event()


class ClusterQueries:
    """Asks the other nodes, and answers them.

    Args:
        runtime: ends the turns in which something is sent.
        batcher: how they are reached.
        membership: who they are.
    """

    def __init__(self, runtime: Runtime, batcher: Batcher, membership: Membership) -> None:
        self._runtime = runtime
        self._batcher = batcher
        self._membership = membership
        self._next = numbers().__next__
        self._open: dict[int, _Open] = {}
        self._answering = 0
        self._recent: dict[str, tuple[float, asyncio.Future[Gathered]]] = {}
        self.answer: Answer | None = None
        """Answers for this node."""

    async def ask(
        self,
        name: str,
        args: dict[str, Any] | None = None,
        nodes: Iterable[str] | None = None,
        timeout_s: float | None = None,
    ) -> Gathered:
        """Asks nodes, this one among them, and returns what they say.

        Args:
            name: the question's.
            args: its arguments.
            nodes: which ones; None: all.
            timeout_s: how long they may say nothing; None: as long as usual.
        """
        asked = {*self._membership.others, self._batcher.node} if nodes is None else set(nodes)
        said = bytes(encode_text(args or {}))
        number = self._next()
        found = self._open[number] = _Open(asked - {self._batcher.node})
        if nodes is None:
            self._batcher.to_all(Kind.COMMAND, Asked(name), number, said)
        else:
            for node in sorted(found.waited_for):
                self._batcher.to_node(node, Kind.COMMAND, number, Asked(name), said)
        self._runtime.turn()
        try:
            if self._batcher.node in asked:
                await self._answer_here(found.gathered, name, said)
            while found.waited_for:
                found.progress.clear()
                async with within(ANSWER_S if timeout_s is None else timeout_s):
                    await found.progress.wait()
        except TimeoutError:
            found.gathered.missing = sorted(found.waited_for)
            log.warning("%s: no answer of %s", name, ", ".join(map(ascii, found.gathered.missing)))
        finally:
            del self._open[number]
        return found.gathered

    async def recent(self, name: str) -> Gathered:
        """As :meth:`ask`, for questions that come often: asked at most once in :data:`RECENT_S`."""
        known = self._recent.get(name)
        now = self._runtime.clock()
        if known is None or (now - known[0] >= RECENT_S and known[1].done()):
            known = self._recent[name] = (now, asyncio.get_running_loop().create_future())
            self._runtime.spawn(self._ask_for(name, known[1]))
        return await asyncio.shield(known[1])

    async def _ask_for(self, name: str, all: asyncio.Future[Gathered]) -> None:
        all.set_result(await self.ask(name))

    async def _answer_here(self, gathered: Gathered, name: str, said: bytes) -> None:
        try:
            gathered.answers[self._batcher.node] = msgspec.json.decode(await self._run(name, said))
        except BesterError as error:
            gathered.errors[self._batcher.node] = error

    def member_gone(self, node: str) -> None:
        """Waits for no answer of a node that is gone."""
        for one in self._open.values():
            if node in one.waited_for:
                one.waited_for.discard(node)
                one.progress.set()

    def result(self, node: str, number: int, part: Part, body: bytes) -> None:
        """Takes a node's answer, or a part of it."""
        found = self._open.get(number)
        if found is None:
            return
        found.progress.set()
        parts = found.parts.setdefault(node, [])
        parts.append(body)
        if not part.last and sum(map(len, parts)) <= MAX_BYTES:
            return
        found.waited_for.discard(node)
        del found.parts[node]
        gathered = found.gathered
        if part.code:
            gathered.errors[node] = error_of(part.code, part.message)
            return
        try:
            gathered.answers[node] = msgspec.json.decode(b"".join(parts))
        except msgspec.DecodeError:
            gathered.errors[node] = Internal("what the node answered cannot be read")

    # -- for others ----------------------------------------------------------------------------------------------

    def asked(self, node: str, number: int, asked: Asked, body: bytes) -> None:
        """Answers the question of another node."""
        self._runtime.spawn(self._answer(node, number, asked.name, body))

    async def _answer(self, node: str, number: int, name: str, said: bytes) -> None:
        self._answering += 1
        try:
            if self._answering > MAX_AT_ONCE:
                raise Overloaded("too many questions of other nodes")
            result = await self._run(name, said)
        except BesterError as error:
            self._batcher.to_node(node, Kind.RESULT, number, Part(code=error.code, message=error.message))
        else:
            size = min(PART_BYTES, max(1024, self._batcher.bus.max_payload // 2))
            for begin in range(0, len(result), size):
                end = begin + size
                self._batcher.to_node(node, Kind.RESULT, number, Part(last=end >= len(result)), result[begin:end])
        finally:
            self._answering -= 1
            self._runtime.turn()

    async def _run(self, name: str, said: bytes) -> bytes:
        if self.answer is None:
            raise UnknownCommand("this node does not answer questions")
        try:
            result = await self.answer(name, msgspec.json.decode(said))
            made = bytes(encode_text(result))
        except BesterError:
            raise
        except Exception as error:
            log.exception("a question could not be answered")
            raise Internal from error
        if len(made) > MAX_BYTES:
            raise Overloaded("the answer is too large: ask for less at once")
        return made
