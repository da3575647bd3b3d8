"""The pane with a conversation's messages, by days, from the newest backwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from textual import events
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from bester.gadgets.chat.mirror import Key
from bester.gadgets.chat.terminal import look
from bester.gadgets.chat.wire import Entry

GROUP_MS = 5 * 60_000
"""What the same person says within this is shown together."""


@dataclass(frozen=True, slots=True)
class Line:
    """A message as it is shown."""

    entry: Entry
    mark: str
    """Of own messages: ``sending``, or its state."""
    named: bool
    """Whether its sender stands above it."""
    first: bool
    """Whether it begins a group."""

    @property
    def key(self) -> Key:
        return (self.entry.sender, self.entry.id)


def lines(entries: Sequence[Entry], pending: Sequence[Entry], you: str, room: bool) -> list[Line]:
    """Returns entries as they are shown; those that are on their way to the chat stand last."""
    found: list[Line] = []
    before: Entry | None = None
    for number, entry in enumerate([*entries, *pending]):
        mine = entry.sender == you
        together = (
            before is not None
            and before.sender == entry.sender
            and entry.time - before.time < GROUP_MS
            and look.day(before.time) == look.day(entry.time)
        )
        mark = "" if not mine else (entry.state or "sending") if number >= len(entries) else (entry.state or "arrived")
        found.append(Line(entry, mark, room and not mine and not together, not together))
        before = entry
    return found


class Bubble(Horizontal):
    """One message: own ones stand on the right."""

    def __init__(self, line: Line, own_server: str) -> None:
        self._text = Static()
        mine = "mine" if line.mark else "theirs"
        super().__init__(self._text, classes=f"bubble {mine}{' first' if line.first else ''}")
        self._own_server = own_server
        self.line: Line | None = None
        self.show(line)

    def show(self, line: Line) -> None:
        """Shows it as it is now."""
        if line != self.line:
            self.line = line
            self.set_class(line.mark == "failed", "failed")
            self._text.update(look.message(line.entry, line.mark, named=line.named, own_server=self._own_server))


class Divider(Static):
    """A line between days, or before what is new."""

    def __init__(self, words: str, kind: str) -> None:
        super().__init__(f"── {words} ──", classes=f"divider {kind}")


class Pane(VerticalScroll):
    """See the module's text; it asks for what came before when its top is reached."""

    class WantsMore(Message):
        """The top is in sight."""

    def __init__(self) -> None:
        super().__init__(id="pane", can_focus=True)
        self._name = ""
        self._bubbles: dict[Key, Bubble] = {}
        self._order: list[Key] = []
        self._new_after: int | None = None
        self._top = ""

    @property
    def at_end(self) -> bool:
        """Whether the newest is in sight."""
        return self.max_scroll_y - self.scroll_y <= 2

    async def show(self, name: str, shown: list[Line], own_server: str, top: str, new_after: int | None) -> None:
        """Shows messages; where the newest was in sight, or the conversation is another one, it is so afterwards.

        Not to be called while it runs.

        Args:
            name: the conversation.
            shown: all of its messages that are known.
            own_server: whose people are called by their names alone.
            top: what stands above all.
            new_after: where the conversation is another one: what stands after this position is shown as new.
        """
        another = name != self._name
        if another:
            self._name, self._new_after, self._order = name, new_after, []
        order = [line.key for line in shown]
        known = len(self._order)
        at_end = another or self.at_end
        if self._order and order[:known] == self._order and top == self._top:
            for line in shown[:known]:
                self._bubbles[line.key].show(line)
            if order[known:]:
                before = shown[known - 1]
                await self.mount_all(self._widgets(shown[known:], before, own_server))
        else:
            above = self.virtual_size.height - self.scroll_y
            self._bubbles.clear()
            with self.app.batch_update():
                await self.remove_children()
                head = [Divider(top, "top")] if top else []
                await self.mount_all([*head, *self._widgets(shown, None, own_server)])
            if not at_end:
                # The same messages stay where they are, whatever came above them.
                self.call_after_refresh(lambda: self.scroll_to(y=self.virtual_size.height - above, animate=False))
        self._order = order
        self._top = top
        if at_end:
            self.anchor()

    def _widgets(self, shown: list[Line], before: Line | None, own_server: str) -> list[Widget]:
        found: list[Widget] = []
        today = datetime.now().date()
        last: date | None = look.day(before.entry.time) if before is not None else None
        news = self._new_after is None or (before is not None and before.entry.pos > self._new_after)
        for line in shown:
            when = look.day(line.entry.time)
            if when != last:
                found.append(Divider(look.day_name(when, today), "day"))
                last = when
            if not news and self._new_after is not None and line.entry.pos > self._new_after and not line.mark:
                found.append(Divider("new", "new"))
                news = True
            bubble = Bubble(line, own_server)
            self._bubbles[line.key] = bubble
            found.append(bubble)
        return found

    def watch_scroll_y(self, old: float, new: float) -> None:
        super().watch_scroll_y(old, new)
        if new <= 2 and new < old:
            self.post_message(self.WantsMore())

    def action_more(self) -> None:
        self.scroll_home(animate=False)
        self.post_message(self.WantsMore())

    def on_key(self, event: events.Key) -> None:
        if event.key == "home":
            self.action_more()
