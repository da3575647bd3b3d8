"""The field for writing: it grows with the text, and remembers the texts that were sent."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea

MAX_REMEMBERED = 100


class Compose(TextArea):
    """Enter sends, Alt or Shift and Enter begin a line; up and down at the ends bring back what was written before."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("alt+enter,shift+enter,ctrl+j", "line", "New line", show=False)]

    class Written(Message):
        """Something is to be sent."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self) -> None:
        super().__init__(
            id="compose", show_line_numbers=False, highlight_cursor_line=False, placeholder="Write, or / for commands"
        )
        self._remembered: list[str] = []
        self._at = 0

    def action_line(self) -> None:
        self.insert("\n")

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.prevent_default()
            event.stop()
            self._send()
        elif event.key == "up" and self.cursor_at_first_line and self._at > 0:
            event.prevent_default()
            event.stop()
            self._recall(self._at - 1)
        elif event.key == "down" and self.cursor_at_last_line and self._at < len(self._remembered):
            event.prevent_default()
            event.stop()
            self._recall(self._at + 1)
        else:
            await super()._on_key(event)

    def _send(self) -> None:
        text = self.text.strip("\n")
        if not text.strip():
            return
        if not self._remembered or self._remembered[-1] != text:
            self._remembered = [*self._remembered[-MAX_REMEMBERED + 1 :], text]
        self._at = len(self._remembered)
        self.text = ""
        self.post_message(self.Written(text))

    def _recall(self, at: int) -> None:
        self._at = at
        self.text = self._remembered[at] if at < len(self._remembered) else ""
        self.move_cursor(self.document.end)
