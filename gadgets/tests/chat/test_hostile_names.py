"""Names and texts that are markup, escape sequences and controls, through every screen of the terminal's client.

They come from a server that keeps no rules, its own one: the client is told them by a handler that plays the chat.
"""

from __future__ import annotations

import asyncio
import io
import time
import unicodedata
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from gadgets.tests.chat.towns import PATIENCE_S

pytest.importorskip("textual")

from rich.console import Console
from textual.pilot import Pilot
from textual.widgets import OptionList, Static

from bester import Handler, Refuse, Reply, Request, SendClients
from bester.testing import RunningServer, server
from bester_gadgets.chat.terminal.app import ChatApp
from bester_gadgets.chat.terminal.compose import Compose

BAD = "a[/x][bold]$(x)[@click=app.quit]\x1b]0;owned\x07\x9b2J\u202egnp.exe\u2066\ufeff"
SHOWN = "a[/x][bold]$(x)[@click=app.quit]]0;owned2Jgnp.exe"
PERSON, ROOM, INVITED, LEFT = f"{BAD}@b.example", f"#{BAD}@b.example", f"#i{BAD}@b.example", f"#l{BAD}@b.example"
LINES = ("/who", "/blocked", "/topic x", "/kick t@b.example", "/leave", "/[/x]", "/chat x@[/x]", "/block [/x]")
ERROR = {"code": "strange", "message": BAD}


def talk(name: str, **more: Any) -> dict[str, Any]:
    return {"with": name, "last": 5, "read": 1, "unread": 2, "preview": BAD, "time": 1, "topic": BAD} | more


TALKS = [
    talk(PERSON),
    talk(ROOM, status="joined", owner=PERSON, members=2),
    talk(INVITED, status="invited", by=PERSON, last=4),
    talk(LEFT, status="left", reason="removed", last=3),
]


def entry(pos: int, name: str, sender: str, **more: Any) -> dict[str, Any]:
    now = int(time.time() * 1000)
    return {"pos": pos, "with": name, "from": sender, "id": f"id{pos}", "time": now, "text": f"{BAD}\nmore"} | more


def answered(asked: dict[str, Any], you: str) -> dict[str, Any]:
    """What a chat answers that was made to break clients."""
    match asked["op"]:
        case "hello":
            return {"v": 1, "you": you, "seq": 5, "talks": TALKS, "blocked": [PERSON], "online": [PERSON]}
        case "sync":
            return {"changes": [], "seq": 5}
        case "history":
            name = asked["with"]
            mine = entry(3, name, you, state="failed", reason="removed")
            return {"entries": [entry(1, name, PERSON), entry(2, name, f"other{PERSON}"), mine], "more": False}
        case "members":
            return {"members": [PERSON, f"other{PERSON}"]}
        case "mark":
            return {"upto": asked["upto"]}
        case "block":
            return {"blocked": [PERSON]}
    raise Refuse(BAD, code="chat.strange")


class Eyes:
    """The program, and all that it shows."""

    def __init__(self, app: ChatApp, pilot: Pilot[None], handler: Handler, you: str) -> None:
        self.app, self.pilot, self.handler, self.you = app, pilot, handler, you

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await self.pilot.pause(0.02)

    async def say(self, text: str) -> None:
        self.app.query_one(Compose).text = text
        await self.pilot.press("enter")
        await self.pilot.pause()

    async def told(self, **event: Any) -> None:
        await self.handler.push(SendClients([self.you], event), type="chat", timeout=PATIENCE_S)

    def screen(self) -> str:
        """Returns what stands on the screen now, toasts and all."""
        return "\n".join(strip.text for strip in self.app.screen._compositor.render_strips())

    def notices(self) -> list[str]:
        return [one.message for one in self.app._notifications]

    def check(self) -> None:
        """Nothing on the screen acts on a terminal; and nothing was taken for markup."""
        texts = [str(one.content) for one in self.app.screen.query(Static)]
        texts += [str(one.prompt) for view in self.app.screen.query(OptionList) for one in view.options]
        for text in (self.screen(), *texts, *self.notices()):
            assert not [char for char in text if unicodedata.category(char)[0] == "C" and char != "\n"]
            assert "\u202e" not in text


@asynccontextmanager
async def eyes(running: RunningServer) -> AsyncIterator[Eyes]:
    handler = Handler(running.handlers_path)
    you = "alice@a.example"

    @handler.on("chat")
    def chat(request: Request) -> Reply:
        return Reply({"op": "answer", "ask": request.data.get("ask", "")} | answered(request.data, you))

    app = ChatApp(running.url("alice"), retry_first_s=0.02, retry_max_s=0.1)
    async with handler, app.run_test(size=(200, 60), notifications=True) as pilot:
        found = Eyes(app, pilot, handler, "alice")
        await found.until(lambda: app.chat.state == "open" and app.open_name)
        yield found


async def test_every_screen_survives_them() -> None:
    async with server() as running, eyes(running) as seen:
        for name, words in ((PERSON, "blocked"), (ROOM, "2 members"), (INVITED, "invites you"), (LEFT, "not in this")):
            await seen.app.go(name)
            await seen.pilot.pause()
            title = str(seen.app.query_one("#title", Static).content)
            assert SHOWN in title
            assert words in title
            await seen.until(lambda: SHOWN in seen.screen())
            seen.check()
        await seen.app.go(ROOM)
        for line in LINES:
            before = {one.identity for one in seen.app._notifications}
            await seen.say(line)
            await seen.until(lambda known=before: {one.identity for one in seen.app._notifications} - known)  # type: ignore[misc]
            seen.check()
        await seen.say("hello")
        await seen.until(lambda: any(SHOWN in one.sender or one.reason for one in seen.app._pending[ROOM]))
        seen.check()
        assert any(SHOWN in notice for notice in seen.notices())
        await seen.told(op="notice", **{"with": ROOM}, problem=ERROR)
        await seen.until(lambda: any(notice.startswith(f"#{SHOWN}") for notice in seen.notices()))
        await seen.told(op="entry", since=5, seq=6, entry=entry(6, f"new{PERSON}", f"new{PERSON}"))
        await seen.until(lambda: any("newa[/x]" in str(one.prompt) for one in seen.app.query_one(OptionList).options))
        seen.check()
        await seen.pilot.press("f1")
        await seen.pilot.pause()
        seen.check()
        await seen.pilot.press("escape", "f2", "down", "enter")
        await seen.until(lambda: seen.app.is_running)
        seen.app.chat.reason = BAD
        seen.app.chat.state = "waiting"
        seen.app._show_state()
        await seen.pilot.pause()
        assert SHOWN in str(seen.app.query_one("#banner", Static).content)
        seen.check()


async def test_what_it_says_at_its_end() -> None:
    async with server() as running:
        app = ChatApp(running.url("alice"))
        async with app.run_test() as pilot:
            await pilot.pause()
        app._exit_renderables.clear()
        app.chat.open = lambda: refusing()  # type: ignore[method-assign]
        await app._connect()
        console = Console(file=io.StringIO(), width=200)
        console.print(*app._exit_renderables)
        assert isinstance(console.file, io.StringIO)
        assert console.file.getvalue() == f"{SHOWN}\n"


async def refusing() -> None:
    raise OSError(BAD)
