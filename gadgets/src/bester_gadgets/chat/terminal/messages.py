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

from bester.clock import wall_time
from bester_gadgets.chat.mirror import Key
from bester_gadgets.chat.terminal import look
from bester_gadgets.chat.wire import Entry

GROUP_MS = 5 * 60_000
"""Messages of one person within this time are shown together."""


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
        self._text = Static(markup=False)
        mine = "mine" if line.mark else "theirs"
        super().__init__(self._text, classes=f"bubble {mine}")
        self._own_server = own_server
        self.line: Line | None = None
        self.show(line)

    def show(self, line: Line) -> None:
        """Shows it as it is now."""
        if line != self.line:
            self.line = line
            self.set_class(line.first, "first")
            self.set_class(line.mark == "failed", "failed")
            self._text.update(look.message(line.entry, line.mark, named=line.named, own_server=self._own_server))


class Divider(Static):
    """A line between days, before what is new, or where it begins."""

    def __init__(self, words: str, kind: str) -> None:
        super().__init__(f"── {words} ──", classes=f"divider {kind}", markup=False)


Piece = tuple[object, Line | tuple[str, str]]
"""The lines of the pane: a key, and a message or a divider's words and kind."""


def pieces(shown: Sequence[Line], top: str, new_after: int | None, today: date) -> list[Piece]:
    """Returns messages with the dividers between them.

    Args:
        shown: the messages.
        top: what stands above all; nothing if it is empty.
        new_after: what stands after this position, and is from others, is new; None: nothing is.
        today: the day that is called so.
    """
    found: list[Piece] = [("top", (top, "top"))] if top else []
    days: set[date] = set()
    last: date | None = None
    news = new_after is None
    for line in shown:
        when = look.day(line.entry.time)
        if when != last:
            # By another server's clock a day may come twice.
            found.append(((when, line.key) if when in days else when, (look.day_name(when, today), "day")))
            days.add(when)
            last = when
        if not news and new_after is not None and line.entry.pos > new_after and not line.mark:
            found.append(("new", ("new", "new")))
            news = True
        found.append((line.key, line))
    return found


class Pane(VerticalScroll):
    """See the module's text; it asks for what came before when its top is reached."""

    class WantsMore(Message):
        """The top is in sight."""

    def __init__(self) -> None:
        super().__init__(id="pane", can_focus=True)
        self._conversation = ""
        self._new_after: int | None = None
        self._there: dict[object, Widget] = {}
        self._changing = False
        self.at_end = True
        """Whether the newest is in sight."""

    def on_mount(self) -> None:
        self.anchor()

    async def show(self, name: str, shown: list[Line], own_server: str, top: str, new_after: int | None) -> None:
        """Shows messages; who sees the newest goes on to, and else what is in sight stays where it is.

        Not to be called while it runs.

        Args:
            name: the conversation; another one than before is shown from its end.
            shown: all of its messages that are known.
            own_server: whose people are called by their names alone.
            top: what stands above all.
            new_after: where the conversation is another one: what stands after this position is shown as new.
        """
        self._changing = True
        if name != self._conversation:
            self._conversation, self._new_after, self.at_end = name, new_after, True
            self._there.clear()
            await self.remove_children()
        wanted = pieces(shown, top, self._new_after, datetime.fromtimestamp(wall_time()).date())
        height = self.virtual_size.height
        with self.app.batch_update():
            above = await self._arrange(wanted, own_server)
        if self.at_end:
            self.anchor()
        elif above:
            self.call_after_refresh(self._stay, height)
            return
        self._changing = False

    def _stay(self, height: int) -> None:
        """Keeps the place where older lines were added above."""
        self.scroll_to(y=self.scroll_y + self.virtual_size.height - height, animate=False, force=True)
        self._changing = False

    async def _arrange(self, wanted: list[Piece], own_server: str) -> bool:
        """Puts in what is missing and takes out what is not wanted; returns whether something came above the rest."""
        keys = {key for key, _ in wanted}
        kept = [key for key in self._there if key in keys]
        in_order = [key for key, _ in wanted if key in self._there]
        stays = 0
        while stays < len(kept) and kept[stays] == in_order[stays]:
            stays += 1
        staying = set(kept[:stays])  # what follows changed its place, and is made again
        gone = [widget for key, widget in self._there.items() if key not in staying]
        if gone:
            await self.remove_children(gone)
        there: dict[object, Widget] = {}
        run: list[Widget] = []
        above = False
        for key, what in wanted:
            if key in staying:
                widget = self._there[key]
                if run:
                    above = above or not staying.intersection(there)
                    await self.mount_all(run, before=widget)
                    run = []
                if isinstance(widget, Bubble) and isinstance(what, Line):
                    widget.show(what)
            else:
                widget = Bubble(what, own_server) if isinstance(what, Line) else Divider(*what)
                run.append(widget)
            there[key] = widget
        if run:
            await self.mount_all(run)
        self._there = there
        return above

    def watch_scroll_y(self, old: float, new: float) -> None:
        super().watch_scroll_y(old, new)
        if self._changing:
            return
        self.at_end = self.max_scroll_y - new <= 2
        if new <= 2 and new < old:
            self.post_message(self.WantsMore())

    def on_key(self, event: events.Key) -> None:
        if event.key == "home":
            self.scroll_home(animate=False)
            self.post_message(self.WantsMore())
