"""The program in the terminal: conversations on the left, messages on the right, and below where one writes."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar
from uuid import uuid4

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.notifications import SeverityLevel
from textual.widgets import Footer, OptionList, Static
from textual.widgets.option_list import Option

from bester import ClientError
from bester import Refused as ReportedBad
from bester.clock import wall_time
from bester.printable import cleaned
from bester_gadgets.chat.addresses import BadChatAddress, parse, parse_room
from bester_gadgets.chat.client import Change, ChatClient, NotDone
from bester_gadgets.chat.terminal import commands, look
from bester_gadgets.chat.terminal.compose import Compose
from bester_gadgets.chat.terminal.help import Help
from bester_gadgets.chat.terminal.messages import Pane, lines
from bester_gadgets.chat.wire import MAX_TEXT, Entry

STATES = {
    "connecting": ("◌ connecting", "$warning"),
    "open": ("● connected", "$success"),
    "waiting": ("○ no connection, trying again", "$error"),
    "noChat": ("○ the server has no chat just now, trying again", "$warning"),
    "closed": ("○ closed", "$foreground 60%"),
}
LIST_WIDTH = 32
WIDE = 76
"""Columns; with fewer of them either the list is there or the messages."""


class ChatApp(App[None]):
    """Chat as one account.

    Args:
        url: as :class:`bester.Client` takes it.
        options: more for :class:`bester.Client`.
    """

    CSS_PATH = "style.tcss"
    TITLE = "bester chat"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (WIDE, "-wide")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "help", "Help"),
        Binding("f2", "list", "Conversations"),
        Binding("alt+up", "step(-1)", "Above", key_display="alt ↑"),
        Binding("alt+down", "step(1)", "Below", key_display="alt ↓"),
        Binding("pageup", "page(-1)", "Back", show=False, priority=True),
        Binding("pagedown", "page(1)", "Forward", show=False, priority=True),
        Binding("escape", "write", "Write", show=False),
        Binding("ctrl+t", "theme", "Dark or light"),
        Binding("ctrl+q", "quit", "Quit"),
    ]

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__()
        self.chat = ChatClient(url, on_change=self._changed, **options)
        self.open_name = ""
        """The conversation that is shown."""
        self._pending: dict[str, list[Entry]] = {}
        self._loading: set[str] = set()
        self._showing = asyncio.Lock()

    def compose(self) -> ComposeResult:
        yield Static(id="bar", markup=False)
        with Horizontal():
            yield OptionList(id="list", markup=False)
            with Vertical(id="talk"):
                yield Static(id="title", markup=False)
                yield Pane()
                yield Static(id="banner", markup=False)
                yield Compose()
        yield Footer()

    def on_mount(self) -> None:
        for theme in (look.DARK, look.LIGHT):
            self.register_theme(theme)
        self.theme = look.DARK.name
        self.query_one(Compose).focus()
        self._show_state()
        self.run_worker(self._connect(), exit_on_error=False)

    async def on_unmount(self) -> None:
        await self.chat.close()

    async def _connect(self) -> None:
        try:
            await self.chat.open()
            await self.chat.ready()
        except (ClientError, OSError) as error:
            self.exit(message=Text(cleaned(str(error))), return_code=1)
            return
        listed = self.chat.mirror.listed()
        if listed and not self.open_name:
            await self.go(listed[0].talk.with_)

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Says something for a while; never as markup."""
        super().notify(cleaned(message), title=cleaned(title), severity=severity, timeout=timeout, markup=False)

    @property
    def own_server(self) -> str:
        return self.chat.you.rpartition("@")[2]

    # -- what changes -------------------------------------------------------------------------------------------

    def _changed(self, change: Change) -> None:
        if not self.is_running:
            return
        if change.kind == "state":
            self._show_state()
        elif change.kind == "notice":
            self.notify(f"{change.with_}: {change.text}", severity="warning")
        elif change.kind == "presence":
            self._show_list()
            self._show_title()
        else:
            self._show_list()
            self._show_title()
            if change.with_ in ("", self.open_name):
                self.call_next(self._show_messages)
            if change.new is not None and (change.with_ != self.open_name or not self.app_focus):
                self.bell()

    def _show_state(self) -> None:
        words, style = STATES[self.chat.state]
        name = (" bester ", "bold $background on $primary")
        bar = look.words(name, (f"  {self.chat.you or 'chat'}", "bold"), (f"   {words}", style))
        self.query_one("#bar", Static).update(bar)
        banner = self.query_one("#banner", Static)
        away = self.chat.state in ("waiting", "noChat")
        banner.display = away
        if away:
            why = f" ({self.chat.reason})" if self.chat.reason else ""
            banner.update(look.words(f"{words[2:].capitalize()}{why}. What you write is sent when it is back."))

    def _show_list(self) -> None:
        view = self.query_one("#list", OptionList)
        found = self.chat.mirror.listed()
        names = [one.talk.with_ for one in found]
        if names != [option.id for option in view.options]:
            view.clear_options()
            view.add_options([Option(look.words(""), id=name) for name in names])
        for number, one in enumerate(found):
            view.replace_option_prompt_at_index(
                number, look.listed(one, self.chat.mirror, self.own_server, LIST_WIDTH - 4)
            )
        if self.open_name in names:
            view.highlighted = names.index(self.open_name)

    def _show_title(self) -> None:
        title = self.query_one("#title", Static)
        if self.open_name:
            title.update(look.title(self.chat.conversation(self.open_name), self.chat.mirror))
        else:
            title.update(
                look.words(("/chat USER@SERVER or /join #ROOM@SERVER begins a conversation", "$foreground 60%"))
            )

    async def _show_messages(self) -> None:
        async with self._showing:
            if self.open_name:
                await self._show_now(self.open_name)

    async def _show_now(self, name: str) -> None:
        found = self.chat.conversation(name)
        pending = [one for one in self._pending.get(name, []) if (one.sender, one.id) not in found.entries]
        if name in self._pending:
            self._pending[name] = pending
        shown = lines(found.lines(), pending, self.chat.you, name.startswith("#"))
        top = "" if not found.complete else "this is where it begins"
        pane = self.query_one(Pane)
        await pane.show(name, shown, self.own_server, top, found.talk.read if found.talk.unread else None)
        if self.app_focus and pane.at_end and self.chat.state == "open" and found.talk.unread:
            self.run_worker(self._read(name), exit_on_error=False)

    async def _read(self, name: str) -> None:
        try:
            await self.chat.read(name)
        except (ClientError, NotDone):
            return  # it stays unread, and is tried again with the next change

    # -- going about --------------------------------------------------------------------------------------------

    async def go(self, name: str) -> None:
        """Shows a conversation."""
        found = self.chat.conversation(name)
        self.open_name = name
        self._show_list()
        self._show_title()
        self.action_write()
        if len(found.entries) < 30 and not found.complete:
            await self._load()
        await self._show_messages()

    async def _load(self) -> None:
        name = self.open_name
        if not name or name in self._loading or self.chat.state != "open":
            return
        self._loading.add(name)
        try:
            await self.chat.load(name)
        except (ClientError, NotDone, TimeoutError) as error:
            self.notify(str(error), severity="warning")
        finally:
            self._loading.discard(name)

    async def on_pane_wants_more(self, event: Pane.WantsMore) -> None:
        event.stop()
        if self.open_name and not self.chat.conversation(self.open_name).complete:
            self.run_worker(self._load(), exit_on_error=False)

    async def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        if event.option.id is not None:
            await self.go(event.option.id)

    async def on_app_focus(self) -> None:
        await self._show_messages()

    async def action_step(self, by: int) -> None:
        names = [one.talk.with_ for one in self.chat.mirror.listed()]
        if names:
            at = names.index(self.open_name) + by if self.open_name in names else 0
            await self.go(names[at % len(names)])

    def action_page(self, by: int) -> None:
        pane = self.query_one(Pane)
        (pane.scroll_page_up if by < 0 else pane.scroll_page_down)(animate=False)
        if by < 0 and pane.scroll_y <= 2:
            pane.post_message(Pane.WantsMore())

    def action_list(self) -> None:
        view = self.query_one("#list", OptionList)
        self.screen.set_class(True, "listing")
        view.focus()

    def action_write(self) -> None:
        self.screen.set_class(False, "listing")
        self.query_one(Compose).focus()

    def action_theme(self) -> None:
        self.theme = look.LIGHT.name if self.theme == look.DARK.name else look.DARK.name

    def action_help(self) -> None:
        self.push_screen(Help())

    # -- what is written ----------------------------------------------------------------------------------------

    async def on_compose_written(self, event: Compose.Written) -> None:
        try:
            given = commands.parse(event.text)
            if isinstance(given, str):
                self._send(given)
            else:
                await self._do(given)
        except (commands.BadCommand, BadChatAddress, NotDone, ClientError, TimeoutError) as error:
            self.notify(str(error), severity="warning")

    def _send(self, text: str) -> None:
        if not self.open_name:
            raise commands.BadCommand("to whom? /chat USER@SERVER begins a conversation")
        if len(text) > MAX_TEXT:
            raise commands.BadCommand(f"a message has at most {MAX_TEXT} characters, and this one has {len(text)}")
        name = self.open_name
        entry = Entry(
            pos=2**60, with_=name, sender=self.chat.you, id=uuid4().hex, time=int(wall_time() * 1000), text=text
        )
        self._pending.setdefault(name, []).append(entry)
        self.call_next(self._show_messages)
        self.query_one(Pane).scroll_end(animate=False)
        self.run_worker(self._deliver(name, entry), exit_on_error=False)

    async def _deliver(self, name: str, entry: Entry) -> None:
        try:
            await self.chat.send(name, entry.text, entry.id)
        except (NotDone, ReportedBad) as error:
            entry.state, entry.reason = "failed", str(error)
            await self._show_messages()
        except ClientError:
            return  # it was closed

    async def _do(self, given: commands.Given) -> None:
        chat, name = self.chat, given.name
        if name in ("help", "quit", "theme"):
            await self.run_action(name)
        elif name == "chat":
            await self.go(str(parse(given.argument, self.own_server)))
        elif name in ("create", "private"):
            room = str(parse_room(_room(given.argument), self.own_server))
            await chat.create(room, given.rest, name == "create")
            await self.go(room)
        elif name == "join":
            room = str(parse_room(_room(given.argument), self.own_server)) if given.argument else self._room_here()
            await chat.room("join", room)
            await self.go(room)
        elif name in ("block", "unblock"):
            await self._block(given.argument or self.open_name, name == "block")
        elif name == "blocked":
            self.notify("\n".join(chat.mirror.blocked) or "nobody", title="You block")
        elif name == "who":
            people = await chat.members(self._room_here())
            words = (f"{'●' if one in chat.mirror.online or one == chat.you else '○'} {one}" for one in people)
            self.notify("\n".join(words), title=self.open_name, timeout=15)
        elif name == "topic":
            await chat.room("topic", self._room_here(), topic=given.argument)
        elif name in ("invite", "kick"):
            who = str(parse(given.argument, self.own_server))
            await chat.room("invite" if name == "invite" else "kick", self._room_here(), who)
            self.notify(f"{who} is {'invited' if name == 'invite' else 'removed'}")
        elif name == "leave":
            await chat.room("leave", self._room_here())

    def _room_here(self) -> str:
        if not self.open_name.startswith("#"):
            raise commands.BadCommand("this is no room; /join #ROOM@SERVER first")
        return self.open_name

    async def _block(self, who: str, on: bool) -> None:
        if not who or who.startswith("#"):
            raise commands.BadCommand("whom? /block USER@SERVER, or /block SERVER")
        await self.chat.block(who, on)
        self.notify(f"{who} is {'blocked' if on else 'blocked no more'}")


def _room(text: str) -> str:
    return text if text.startswith("#") else f"#{text}"
