"""The help that lies over everything."""

from __future__ import annotations

from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from bester_gadgets.chat.terminal.commands import FORMS
from bester_gadgets.chat.terminal.look import MARKS

KEYS = {
    "Enter": "send",
    "Alt+Enter": "begin a new line (also Shift+Enter, Ctrl+J)",
    "Up, Down": "bring back what you wrote",
    "Alt+Up, Alt+Down": "the conversation above, below",
    "Page Up, Page Down": "scroll; at the top, what was said before",
    "F2": "into the list of conversations; Escape comes back",
    "Ctrl+T": "dark or light",
    "Ctrl+Q": "leave",
}
WORDS = {
    "sending": "on its way to your server",
    "sent": "your server has it, the other one not yet",
    "arrived": "the other server has it",
    "delivered": "delivered",
    "read": "read",
    "failed": "it cannot be delivered",
}


class Help(ModalScreen[None]):
    """Keys, commands and marks."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,f1,q,enter", "dismiss", "Close")]

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help"):
            yield Static("Keys", classes="head", markup=False)
            yield Static(_table(KEYS), markup=False)
            yield Static("Commands", classes="head", markup=False)
            forms = {f"/{name} {form.arguments}".strip(): form.help for name, form in FORMS.items()}
            yield Static(_table(forms), markup=False)
            yield Static("Marks of your messages", classes="head", markup=False)
            yield Static(_table({MARKS[name]: words for name, words in WORDS.items()}), markup=False)
            yield Static("Escape closes this.", classes="foot", markup=False)


def _table(rows: dict[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, words in rows.items():
        table.add_row(Text(name), Text(words))
    return table
