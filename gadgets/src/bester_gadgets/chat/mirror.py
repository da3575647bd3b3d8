"""Keeps a client's view of its account's chat, from the events that it is sent; no I/O.

A conversation is known from its end backwards, without holes: from :attr:`Conversation.floor` on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec.structs import replace

from bester_gadgets.chat.wire import (
    RANKS,
    Answer,
    BlockedEvent,
    Entry,
    EntryEvent,
    PresenceEvent,
    StatesEvent,
    Talk,
    TalkEvent,
    Told,
)

Key = tuple[str, str]
"""The sender and the id."""


@dataclass
class Conversation:
    """One conversation, as far as it was loaded."""

    talk: Talk
    entries: dict[Key, Entry] = field(default_factory=dict)
    floor: int | None = None
    """Everything from this position on is known; None: nothing was loaded."""
    complete: bool = False
    """There is nothing before it."""

    def lines(self) -> list[Entry]:
        """Returns the entries in their order."""
        return sorted(self.entries.values(), key=lambda entry: entry.pos)


class Mirror:
    """See the module's text."""

    def __init__(self) -> None:
        self.you = ""
        self.cursor = 0
        """The number of the last change that is known."""
        self.conversations: dict[str, Conversation] = {}
        self.blocked: list[str] = []
        self.online: set[str] = set()

    def conversation(self, name: str) -> Conversation:
        """Returns a conversation, an empty one where there is none yet."""
        found = self.conversations.get(name)
        if found is None:
            found = self.conversations[name] = Conversation(Talk(with_=name), complete=False)
        return found

    def listed(self) -> list[Conversation]:
        """Returns the conversations, those first where something was said last."""
        return sorted(self.conversations.values(), key=lambda one: (-one.talk.last, one.talk.with_))

    def greeted(self, answer: Answer) -> None:
        """Takes over the answer to ``hello``; what changed in conversations since the cursor is to be asked for."""
        self.you = answer.you
        if self.cursor == 0 or answer.seq < self.cursor:
            # The first time; or the database is another one, and nothing that was known holds.
            self.conversations.clear()
            self.cursor = answer.seq
        for talk in answer.talks or ():
            self.conversation(talk.with_).talk = talk
        self.blocked = list(answer.blocked or ())
        self.online = set(answer.online or ())

    def synced(self, answer: Answer) -> None:
        """Takes over the answer to ``sync``."""
        for change in answer.changes or ():
            if isinstance(change, EntryEvent):
                self._entry(change.entry)
            else:
                self.conversation(change.talk.with_).talk = change.talk
        self.cursor = max(self.cursor, answer.seq)

    def loaded(self, name: str, answer: Answer) -> None:
        """Takes over the answer to ``history``, of what stands before the floor."""
        found = self.conversation(name)
        entries = answer.entries or []
        for entry in entries:
            found.entries.setdefault((entry.sender, entry.id), entry)
        if entries:
            found.floor = min(entries[0].pos, found.floor if found.floor is not None else entries[0].pos)
        elif found.floor is None:
            found.floor = 0
        found.complete = not answer.more

    def told(self, event: Told) -> bool:
        """Takes over an event; returns False where something before it was missed, and has to be asked for."""
        if isinstance(event, PresenceEvent):
            for one in event.people:
                (self.online.add if one.online else self.online.discard)(one.who)
            return True
        if isinstance(event, BlockedEvent):
            self.blocked = event.blocked
            return True
        if not isinstance(event, EntryEvent | StatesEvent | TalkEvent):
            return True
        if event.since > self.cursor:
            return False
        if event.seq < self.cursor:
            return True
        if isinstance(event, EntryEvent):
            self._entry(event.entry)
        elif isinstance(event, TalkEvent):
            self.conversation(event.talk.with_).talk = event.talk
        else:
            self._states(event)
        self.cursor = event.seq
        return True

    def _entry(self, entry: Entry) -> None:
        found = self.conversation(entry.with_)
        talk = found.talk
        key = (entry.sender, entry.id)
        new = entry.pos > talk.last
        if new:
            unread = talk.unread + (1 if entry.state is None and entry.pos > talk.read else 0)
            found.talk = replace(talk, last=entry.pos, time=entry.time, preview=entry.text[:120], unread=unread)
            if found.floor is None:
                found.floor = entry.pos
        known = found.entries.get(key)
        if known is not None and known.state and entry.state and RANKS[known.state] > RANKS[entry.state]:
            entry = replace(entry, state=known.state)
        if known is not None or (found.floor is not None and entry.pos >= found.floor):
            found.entries[key] = entry

    def _states(self, event: StatesEvent) -> None:
        found = self.conversation(event.with_)
        states = dict(event.items)
        for key, entry in found.entries.items():
            state = states.get(entry.pos)
            if state is not None and entry.state is not None and RANKS[state] > RANKS[entry.state]:
                found.entries[key] = replace(entry, state=state)
