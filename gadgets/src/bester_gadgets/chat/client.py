"""A chat's client: what people do, over :class:`bester.Client`; the terminal's client and the tests stand on it.

What was missed while there was no connection is asked for when there is one again. What changes something is sent
until it is answered, over as many connections as it takes; a question fails with its connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Any, Literal, Self
from uuid import uuid4

from msgspec import Raw

from bester import AuthenticationError, Client, ClientError, ReceivedMessage, Report
from bester_gadgets.chat.mirror import Conversation, Mirror
from bester_gadgets.chat.wire import (
    MAX_PAGE,
    TYPE,
    Answer,
    Block,
    ClientOp,
    Create,
    Does,
    Entry,
    EntryEvent,
    Hello,
    History,
    Mark,
    MarkOp,
    Members,
    NoticeEvent,
    RoomOp,
    Send,
    Sync,
    encode,
    read_told,
)

RETRY_S = 0.5
MAX_RETRY_S = 10.0
ASK_TIMEOUT_S = 30.0

State = Literal["connecting", "open", "waiting", "noChat", "closed"]
"""``waiting``: the connection is lost and tried again; ``noChat``: the server is there, and its chat is not."""


class NotDone(Exception):
    """The chat did not do what was asked; ``code`` is one of docs/chat.md, with ``chat.`` before it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Change:
    """Something is different: ``talks``, ``entries``, ``presence``, ``state``, or a ``notice``."""

    kind: Literal["talks", "entries", "presence", "state", "notice"]
    with_: str = ""
    text: str = ""
    new: Entry | None = None
    """A message that somebody else just sent."""


class ChatClient:
    """One account's chat.

    ::

        async with ChatClient("bester://t:secret@localhost") as chat:
            await chat.send("g@other.example", "hello")

    Args:
        url: as :class:`bester.Client` takes it.
        on_change: called in the loop when something is different.
        options: more for :class:`bester.Client`.
    """

    def __init__(self, url: str, *, on_change: Callable[[Change], object] | None = None, **options: Any) -> None:
        self.mirror = Mirror()
        self.state: State = "connecting"
        self.reason = ""
        """Why there is no connection."""
        self._on_change = on_change
        self._client = Client(
            url,
            features=["token"],
            mail=[TYPE],
            reconnect=True,
            on_message=self._received,
            on_connection=self._connection,
            **options,
        )
        self._next_tag = count(1).__next__
        self._answers: dict[str, Answer | None] = {}
        self._takers: dict[str, Callable[[Answer], None]] = {}
        self._catching_up: asyncio.Task[None] | None = None
        self._again = False
        self._ready = asyncio.Event()
        self._delivered: dict[str, int] = {}
        self._marking: asyncio.Task[None] | None = None

    # -- life ---------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connects.

        Raises:
            ConnectError, AuthenticationError: as :meth:`bester.Client.open`.
        """
        await self._client.open()

    async def ready(self) -> None:
        """Returns when the chat has answered, which it may not do for long (:attr:`state`)."""
        await self._ready.wait()

    async def close(self) -> None:
        """Ends the connection. Can be called again."""
        self._become("closed")
        tasks = [task for task in (self._catching_up, self._marking) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._client.close()

    async def __aenter__(self) -> Self:
        try:
            await self.open()
            await self.ready()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def you(self) -> str:
        """The own address."""
        return self.mirror.you

    def conversation(self, name: str) -> Conversation:
        """Returns what is known of a conversation."""
        return self.mirror.conversation(name)

    # -- what people do -----------------------------------------------------------------------------------------

    async def send(self, to: str, text: str, id: str | None = None) -> Entry | None:
        """Sends a message to a person or a room; returns its entry in the history.

        Returns None where it was answered over a connection that is lost: it is in the history.

        Raises:
            NotDone: the chat refused it.
            bester.ClientError: the client was closed, or is not let in any more.
        """
        answer = await self._change(Send(to=to, id=id or uuid4().hex, text=text))
        if answer is None or not isinstance(answer.entry, Entry):
            return None
        return answer.entry

    async def load(self, name: str, limit: int = 50) -> int:
        """Loads what stands before the known part of a conversation; returns how many entries came."""
        found = self.mirror.conversation(name)
        if found.complete:
            return 0
        question = History(with_=name, before=found.floor, limit=min(limit, MAX_PAGE))
        answer = await self._ask(question, lambda answer: self.mirror.loaded(name, answer))
        entries = answer.entries or []
        self._tell(Change("entries", name))
        return len(entries)

    async def read(self, name: str) -> None:
        """All that is in a conversation has been read."""
        talk = self.mirror.conversation(name).talk
        if talk.last > talk.read:
            await self._mark(name, "read", talk.last)

    async def _mark(self, name: str, state: Mark, upto: int) -> None:
        while True:
            answer = await self._change(MarkOp(with_=name, state=state, upto=upto))
            if answer is None or not isinstance(answer.upto, int) or answer.upto >= upto:
                return

    async def block(self, who: str, on: bool = True) -> list[str]:
        """Blocks a person or a whole server, or does so no more; returns who is blocked."""
        answer = await self._change(Block(who=who, on=on))
        if answer is not None and isinstance(answer.blocked, list):
            self.mirror.blocked = answer.blocked
        return self.mirror.blocked

    async def create(self, room: str, topic: str = "", open: bool = True) -> None:
        """Makes a room."""
        await self._change(Create(room=room, topic=topic, open=open))

    async def room(self, do: Does, room: str, who: str | None = None, topic: str | None = None) -> None:
        """Joins a room, leaves it, invites or removes somebody, or sets the topic.

        What the server of a room elsewhere answers comes later, as a change.
        """
        await self._change(RoomOp(do=do, room=room, who=who, topic=topic))

    async def members(self, room: str) -> list[str]:
        """Returns the members of a room that was joined."""
        answer = await self._ask(Members(room=room))
        return answer.members if isinstance(answer.members, list) else []

    # -- asking -------------------------------------------------------------------------------------------------

    async def _ask(self, op: ClientOp, taker: Callable[[Answer], None] | None = None) -> Answer:
        """Asks once; ``taker`` gets a good answer as it comes, before what is told after it.

        Raises:
            NotDone: with the chat's reason, or the server's.
            bester.ClientError, TimeoutError: there is no answer.
        """
        op.ask = tag = str(self._next_tag())
        self._answers[tag] = None
        if taker is not None:
            self._takers[tag] = taker
        try:
            report = await self._client.send(TYPE, Raw(encode(op)), timeout=ASK_TIMEOUT_S)
        finally:
            answer = self._answers.pop(tag)
            self._takers.pop(tag, None)
        if answer is None:
            _check(report)
            raise NotDone("chat.noAnswer", "the chat did not answer")
        return answer

    async def _change(self, op: ClientOp) -> Answer | None:
        """Asks until there is an answer, or the report of one that came over a lost connection."""
        op.ask = tag = str(self._next_tag())
        id = f"chat-{uuid4().hex}"
        data = Raw(encode(op))
        pause_s = RETRY_S
        self._answers[tag] = None
        try:
            while True:
                report = await self._client.send(TYPE, data, id=id, once=True)
                answer = self._answers[tag]
                if answer is not None:
                    return answer
                if report.good:
                    return None
                if report.error is not None and not _passes(report.error.code, report.error.temporary):
                    _check(report)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, MAX_RETRY_S)
                if report.error is not None and not report.error.temporary:
                    id = f"chat-{uuid4().hex}"  # its report is remembered
        finally:
            del self._answers[tag]

    # -- what comes ---------------------------------------------------------------------------------------------

    def _received(self, message: ReceivedMessage) -> None:
        if message.type != TYPE:
            return
        told = read_told(message.raw)
        if told is None:
            return
        if isinstance(told, Answer):
            if told.ask in self._answers:
                self._answers[told.ask] = told
                taker = self._takers.get(told.ask)
                if taker is not None:
                    taker(told)
            return
        if isinstance(told, NoticeEvent):
            self._tell(Change("notice", told.with_, told.problem.message))
            return
        known = self._is_known(told)
        if not self.mirror.told(told):
            self._catch_up()
            return
        if isinstance(told, EntryEvent):
            new = told.entry if told.entry.state is None and not known else None
            if new is not None:
                self._was_delivered(new.with_, new.pos)
            self._tell(Change("entries", told.entry.with_, new=new))
        else:
            self._tell(Change({"presence": "presence", "states": "entries"}.get(told.__struct_config__.tag, "talks")))  # type: ignore[arg-type]

    def _is_known(self, told: object) -> bool:
        if not isinstance(told, EntryEvent):
            return True
        found = self.mirror.conversations.get(told.entry.with_)
        return found is not None and told.entry.pos <= found.talk.last

    def _was_delivered(self, name: str, pos: int) -> None:
        self._delivered[name] = max(pos, self._delivered.get(name, 0))
        if self._marking is None or self._marking.done():
            self._marking = asyncio.get_running_loop().create_task(self._mark_delivered())

    async def _mark_delivered(self) -> None:
        while self._delivered:
            name, pos = self._delivered.popitem()
            try:
                await self._mark(name, "delivered", pos)
            except (ClientError, NotDone):
                continue  # it is marked again after the next connection

    def _connection(self, connected: bool, why: str) -> None:
        if connected:
            self._become("connecting")
            self._catch_up()
        elif self.state != "closed":
            self.reason = why
            self._become("waiting")

    def _catch_up(self) -> None:
        self._again = True
        if self._catching_up is None or self._catching_up.done():
            self._catching_up = asyncio.get_running_loop().create_task(self._catch_up_now())

    async def _catch_up_now(self) -> None:
        pause_s = RETRY_S / 5
        while self._again:
            self._again = False
            try:
                await self._greet()
                pause_s = RETRY_S / 5
            except (AuthenticationError, NotDone) as error:
                self.reason = str(error)
                self._become("noChat")
            except (ClientError, TimeoutError) as error:
                if not self._client.connected:
                    continue  # the next connection begins it again
                self.reason = str(error)
                self._become("noChat")
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, MAX_RETRY_S)
                self._again = True

    async def _greet(self) -> None:
        mirror = self.mirror
        await self._ask(Hello(), mirror.greeted)
        while (await self._ask(Sync(since=mirror.cursor), mirror.synced)).more:
            pass
        for one in mirror.conversations.values():
            if one.talk.unread:
                self._was_delivered(one.talk.with_, one.talk.last)
        self._become("open")
        self._ready.set()
        self._tell(Change("talks"))
        self._tell(Change("entries"))
        self._tell(Change("presence"))

    def _become(self, state: State) -> None:
        if state != self.state and self.state != "closed":
            self.state = state
            self._tell(Change("state"))

    def _tell(self, change: Change) -> None:
        if self._on_change is not None:
            self._on_change(change)


def _passes(code: str, temporary: bool) -> bool:
    """Says whether the chat may be there again later; a chat that is away is no reason to lose what was written."""
    return temporary or code == "noHandler"


def _check(report: Report) -> None:
    """Raises what a bad report says: the chat's own reason, or the server's."""
    if report.error is not None and report.error.reason:
        raise NotDone(report.error.reason, report.error.message)
    report.raise_for_status()
