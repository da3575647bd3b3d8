"""Shows the events of the stories as they happen, with the milliseconds since the beginning."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path
from typing import Any

from bester.cli.output import quiet_pipe, say, say_json
from bester.cli.screen import Screen, styled
from bester.protocol.values import decode_text

_READ = 65536


class Stage:
    """Shows the stories, as lines for people or as JSON objects.

    Handlers send their events through a datagram socket. Events that have arrived are shown before the caller's own, so
    that a cause precedes its effect. If the output cannot be written, the command ends, and with it the stories.
    """

    def __init__(self, json: bool) -> None:
        self.began = time.monotonic()
        self.told: list[dict[str, Any]] = []
        """The handlers' events since :meth:`scene`."""
        self._json = json
        self._console = Screen(soft_wrap=True)
        self._audiences: list[socket.socket] = []

    def audience(self, path: Path) -> socket.socket:
        """Returns a socket at ``path`` to which handlers send events; call :meth:`hear` when it is readable."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listening.setblocking(False)
        listening.bind(str(path))
        self._audiences.append(listening)
        return listening

    def leave(self, listening: socket.socket) -> None:
        """Closes a socket that :meth:`audience` returned."""
        self._audiences.remove(listening)
        listening.close()

    @quiet_pipe()
    def hear(self) -> None:
        """Shows the events that handlers have sent."""
        self._hear()

    def overhear(self) -> None:
        """Shows the events from a callback of the event loop, which cannot end the command; the next output does so."""
        with contextlib.suppress(OSError):
            self._hear()

    def _hear(self) -> None:
        for listening in self._audiences:
            with contextlib.suppress(BlockingIOError):
                while True:
                    event = decode_text(listening.recv(_READ))
                    self.told.append(event)
                    what = f"{event['handler']} handler ({event['form']}, pid {event['pid']})"
                    decided = f"{what}: {quoted(event['text'])}, {event['decided']}"
                    self._line(event["server"], decided, "cyan", event, at=event["at"])

    @quiet_pipe()
    def scene(self, title: str) -> None:
        """Begins a part of a story."""
        self.hear()
        self.told.clear()
        if self._json:
            say_json({"ms": self._ms(), "scene": title})
        else:
            self._console.print(styled(f"\n{title}", "bold"))

    @quiet_pipe()
    def show(self, who: str, what: str, style: str = "", **more: object) -> None:
        """Shows an event that happened just now."""
        self.hear()
        self._line(who, what, style, more)

    @quiet_pipe()
    def end(self, arrived: list[str]) -> None:
        """Shows the messages that arrived."""
        self.hear()
        if self._json:
            say_json({"ms": self._ms(), "arrived": arrived})
            return
        self._console.print(styled("\nWhat arrived", "bold"))
        for line in arrived:
            self._console.print(styled(f"  {line}", "green"))
        self._console.print(styled(f"\nAll as it should be, in {self._ms() / 1000:.1f} s."))

    @quiet_pipe()
    def remark(self, lines: list[str]) -> None:
        """Shows lines that are not part of a story."""
        if self._json:
            say_json({"remark": lines})
        else:
            for line in ["", *lines]:
                say(line)

    def _line(self, who: str, what: str, style: str, more: dict[str, Any], at: float | None = None) -> None:
        ms = self._ms(at)
        if self._json:
            fields = {name: value for name, value in more.items() if name != "at"}
            say_json({"ms": ms, "who": who, "what": what} | fields)
            return
        line = styled(f"{ms:7.0f} ms  ")
        line.append(styled(f"{who:10}", "bold"))
        line.append(styled(f" {what}", style))
        self._console.print(line)

    def _ms(self, at: float | None = None) -> float:
        return round(1000 * ((time.monotonic() if at is None else at) - self.began), 1)


def quoted(text: str) -> str:
    """Returns a text in typographic quotes."""
    return f"“{text}”"
