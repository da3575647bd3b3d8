"""The terminal's client, driven by keys, against real servers and their chats."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from gadgets.tests.chat.towns import PATIENCE_S, Pair, two_towns

pytest.importorskip("textual")

from textual.pilot import Pilot
from textual.widgets import OptionList, Static

from bester_gadgets.chat.terminal import commands
from bester_gadgets.chat.terminal.app import ChatApp
from bester_gadgets.chat.terminal.compose import Compose
from bester_gadgets.chat.terminal.messages import Bubble, Divider, Pane

BOB, ALICE = "bob@b.example", "alice@a.example"


class Screen:
    """The program, and the hands and eyes at it."""

    def __init__(self, app: ChatApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    async def say(self, text: str) -> None:
        """Has a text in the field, and presses Enter."""
        self.app.query_one(Compose).text = text
        await self.pilot.press("enter")

    async def type(self, text: str) -> None:
        """Writes a text key by key, and Enter."""
        names = {" ": "space", "/": "slash", "#": "number_sign", "@": "at", ".": "full_stop", "\n": "alt+enter"}
        await self.pilot.press(*(names.get(char, char) for char in text), "enter")

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await self.pilot.pause(0.02)

    @property
    def bubbles(self) -> list[str]:
        return [str(one.content) for bubble in self.app.query(Bubble) for one in bubble.query(Static)]

    def says(self, *texts: str) -> bool:
        """Whether a message is shown that has all of this in it."""
        return any(all(text in bubble for text in texts) for bubble in self.bubbles)

    @property
    def listed(self) -> list[str]:
        return [str(option.prompt) for option in self.app.query_one("#list", OptionList).options]

    def shows(self, id: str) -> str:
        return str(self.app.query_one(id, Static).content)

    @property
    def notices(self) -> list[str]:
        return [notice.message for notice in self.app._notifications]


@asynccontextmanager
async def screen(pair: Pair, user: str = "alice", size: tuple[int, int] = (100, 30)) -> AsyncIterator[Screen]:
    app = ChatApp(pair.a.url(user), retry_first_s=0.02, retry_max_s=0.1)
    async with app.run_test(size=size) as pilot:
        found = Screen(app, pilot)
        await found.until(lambda: app.chat.state == "open")
        yield found


async def test_talking() -> None:
    async with two_towns() as pair:
        bob = await pair.person(BOB)
        async with screen(pair) as seen:
            assert "alice@a.example" in seen.shows("#bar")
            await seen.say("/chat bob@b.example")
            await seen.type("hello\nthere")
            await bob.hears(ALICE, "hello\nthere")
            await seen.until(lambda: seen.says("hello\nthere", "·"))
            await bob.send(ALICE, "[b]hello[/b] to you")
            await seen.until(lambda: seen.says("[b]hello[/b] to you"))
            await seen.until(lambda: "● here" in seen.shows("#title"))
            await bob.sees_state(ALICE, "[b]hello[/b] to you", "read")
            await bob.read(ALICE)
            await seen.until(lambda: seen.says("hello\nthere", "✓✓"))
            assert [str(one.content) for one in seen.app.query(Divider)][-1] == "── today ──"
            # What was written comes back with Up.
            await seen.pilot.press("up")
            assert seen.app.query_one(Compose).text == "hello\nthere"
            await seen.pilot.press("up")
            assert seen.app.query_one(Compose).text == "hello\nthere"
            await seen.pilot.press("up", "up")
            assert seen.app.query_one(Compose).text == "/chat bob@b.example"


async def test_rooms_unread_counts_and_moving_about() -> None:
    async with two_towns() as pair:
        bob = await pair.person(BOB)
        async with screen(pair) as seen:
            await seen.say("/create #kitchen what is for dinner")
            await seen.until(lambda: "what is for dinner" in seen.shows("#title"))
            await seen.say("/invite bob@b.example")
            room = "#kitchen@a.example"
            await bob.until(lambda: bob.conversation(room).talk.status == "invited")
            await bob.room("join", room)
            await seen.until(lambda: "2 members" in seen.shows("#title"))
            await seen.say("/who")
            await seen.until(lambda: any(BOB in notice for notice in seen.notices))
            await bob.send(ALICE, "one to one")
            await bob.send(room, "pizza")
            await seen.until(lambda: seen.says("bob@b.example", "pizza"))
            await seen.until(lambda: any("bob@b.example" in one and " 1 " in one for one in seen.listed))
            await seen.pilot.press("alt+down")
            await seen.until(lambda: seen.app.open_name == BOB and seen.says("one to one"))
            assert "── new ──" in [str(one.content) for one in seen.app.query(Divider)]
            assert bob.lines(ALICE) == [(BOB, "one to one", "arrived")]  # she has not written to him
            await seen.say("/block")
            await seen.until(lambda: "blocked" in seen.shows("#title"))
            await seen.say("hello?")
            await seen.until(lambda: seen.says("hello?", "✗", "you block bob@b.example"))


async def test_what_is_wrong_is_said() -> None:
    async with two_towns() as pair, screen(pair) as seen:
        for line, words in (
            ("hello", "to whom?"),
            ("/dance", "/help lists them"),
            ("/chat", "/chat USER@SERVER"),
            ("/chat c@-", "is not a server's name"),
            ("/leave", "this is no room"),
            ("/join #nowhere", "there is no room"),
        ):
            await seen.say(line)
            await seen.until(lambda words=words: any(words in notice for notice in seen.notices))  # type: ignore[misc]
        await seen.pilot.press("f1")
        assert seen.app.screen.query_one("#help")
        await seen.pilot.press("escape")


async def test_history_comes_by_going_back() -> None:
    async with two_towns() as pair:
        bob = await pair.person("bob@a.example")
        for number in range(80):
            await bob.send(ALICE, f"line {number}.") if number else await _first(pair, bob)
        async with screen(pair) as seen:
            await seen.until(lambda: seen.says("line 79."))
            assert not seen.says("line 10.")
            pane = seen.app.query_one(Pane)
            assert pane.at_end
            while not seen.says("line 0."):
                await seen.pilot.press("pageup")
            await seen.until(lambda: not pane.at_end)  # when what came is laid out
            await bob.send(ALICE, "the newest")
            await seen.until(lambda: seen.says("the newest"))
            # Whoever reads what was before is not torn away from it.
            assert not pane.at_end
            texts = [text.split("  ")[0] for text in seen.bubbles]
            assert texts == [*(f"line {number}." for number in range(80)), "the newest"]


async def _first(pair: Pair, bob: Any) -> None:
    async with pair.a.client("alice"):
        pass  # the account is made by its first login
    await bob.send(ALICE, "line 0.")


async def test_a_connection_that_is_lost() -> None:
    async with two_towns() as pair:
        bob = await pair.person("bob@b.example")
        async with screen(pair) as seen:
            await seen.say("/chat bob@b.example")
            await pair.a.stop()
            await seen.until(lambda: "no connection" in seen.shows("#bar"))
            assert seen.app.query_one("#banner").display
            await seen.say("later then")
            await seen.until(lambda: seen.says("later then", "…"))
            await pair.a.start()
            await seen.until(lambda: seen.says("later then", "·"))
            assert not seen.app.query_one("#banner").display
            await bob.hears(ALICE, "later then")


async def test_a_narrow_terminal_and_themes() -> None:
    async with two_towns() as pair, screen(pair, size=(50, 20)) as seen:
        assert not seen.app.query_one("#list").display
        await seen.pilot.press("f2")
        assert seen.app.query_one("#list").display
        await seen.pilot.press("escape")
        assert not seen.app.query_one("#list").display
        dark = seen.app.theme
        await seen.say("/theme")
        await seen.until(lambda: seen.app.theme != dark)


@pytest.mark.parametrize(
    ("line", "given"),
    [
        ("hello /join", "hello /join"),
        ("//join", "/join"),
        ("/join #a@b", commands.Given("join", "#a@b")),
        ("/J #a@b", commands.Given("join", "#a@b")),
        ("/create #a some topic", commands.Given("create", "#a", "some topic")),
        ("/topic some topic", commands.Given("topic", "some topic", "some topic")),
        ("/who ", commands.Given("who")),
    ],
)
def test_lines_are_understood(line: str, given: object) -> None:
    assert commands.parse(line) == given


@pytest.mark.parametrize("line", ["/", "/ ", "/dance", "/b", "/chat", "/invite "])
def test_lines_that_are_not(line: str) -> None:
    with pytest.raises(commands.BadCommand):
        commands.parse(line)
