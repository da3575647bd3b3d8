"""The page ``/chat`` in a real Chromium, between two servers and their chats."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from gadgets.tests.chat.processes import House, Houses
from tests.web.desks import a_browser, axe_source, serious  # noqa: F401 (fixtures)

from bester.testing import PASSWORD
from bester_gadgets.chat.client import ChatClient

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

expect = pytest.importorskip("playwright.sync_api").expect
ALICE, BOB = "alice@a.example", "bob@b.example"
PATIENCE_MS = 20_000
SHOTS = os.environ.get("CHAT_SHOTS", "")
"""A folder that pictures of the page are put into."""


class Desk:
    """A browser in which people sign in; what goes wrong in its pages is kept."""

    def __init__(self, browser: Browser, houses: Houses) -> None:
        self.houses = houses
        self.errors: list[str] = []
        self._browser = browser
        self._contexts: list[BrowserContext] = []

    def page(self, **options: Any) -> Page:
        context = self._browser.new_context(**{"viewport": {"width": 1180, "height": 760}, **options})
        context.set_default_timeout(PATIENCE_MS)
        self._contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        return page

    def signed_in(self, house: House, user: str, **options: Any) -> Page:
        page = self.page(**options)
        page.goto(f"{house.web}/chat")
        page.get_by_label("Username").fill(user)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_text(f"{user}@", exact=False)).to_be_visible(timeout=PATIENCE_MS)
        return page

    def alice(self, **options: Any) -> Page:
        return self.signed_in(self.houses.a, "alice", **options)

    def bob(self, **options: Any) -> Page:
        return self.signed_in(self.houses.b, "bob", **options)

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture(scope="module")
def houses() -> Iterator[Houses]:
    folder = Path(tempfile.mkdtemp(prefix="bester-"))
    made = Houses(folder)
    try:
        made.start()
        yield made
    finally:
        made.end()
        shutil.rmtree(folder)


@pytest.fixture
def desk(browser: Browser, houses: Houses) -> Iterator[Desk]:
    desk = Desk(browser, houses)
    yield desk
    desk.close()
    assert desk.errors == []


def begin(page: Page, who: str) -> None:
    page.get_by_role("button", name="New chat").click()
    page.get_by_label("With").fill(who)
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def write(page: Page, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")


def open_talk(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Conversations").get_by_role("button", name=name).click()


def message(page: Page, text: str) -> Any:
    return page.locator(".message", has_text=text)


def shot(page: Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png")


def test_two_people_of_two_servers(desk: Desk) -> None:
    alice, bob = desk.alice(), desk.bob()
    begin(alice, BOB)
    write(alice, "Good morning!")
    expect(message(bob, "Good morning!")).to_be_visible(timeout=PATIENCE_MS)
    mark = message(alice, "Good morning!").locator(".mark")
    expect(mark).to_have_attribute("data-state", "arrived", timeout=PATIENCE_MS)
    write(bob, "Good morning. Look at https://bester.example/notes, it is all there.")
    expect(message(alice, "it is all there").get_by_role("link")).to_have_attribute(
        "href", "https://bester.example/notes", timeout=PATIENCE_MS
    )
    expect(mark).to_have_attribute("data-state", "read", timeout=PATIENCE_MS)  # now that he wrote to her
    expect(alice.locator(".title").get_by_text("here")).to_be_visible(timeout=PATIENCE_MS)
    write(alice, "<b>not bold</b>\n\nsecond paragraph")
    expect(message(bob, "<b>not bold</b>")).to_be_visible(timeout=PATIENCE_MS)
    shot(alice, "two")
    alice.reload()
    expect(message(alice, "Good morning!")).to_be_visible(timeout=PATIENCE_MS)
    bob.context.close()
    expect(alice.locator(".title").get_by_text("away")).to_be_visible(timeout=PATIENCE_MS)


def test_a_room_an_invitation_and_blocking(desk: Desk) -> None:
    alice, bob = desk.alice(), desk.bob()
    alice.get_by_role("button", name="New room").click()
    alice.get_by_label("Room", exact=True).fill("kitchen")
    alice.get_by_label("Topic").fill("what is for dinner")
    alice.get_by_label("Only those who are invited").check()
    alice.get_by_role("button", name="Go", exact=True).click()
    alice.get_by_role("button", name="Invite").click()
    alice.get_by_label("Whom").fill(BOB)
    alice.get_by_role("dialog").get_by_role("button", name="Invite").click()
    open_talk(bob, "kitchen")
    bob.get_by_role("button", name="Join").click()
    write(bob, "Pizza, as always")
    expect(message(alice, "Pizza, as always")).to_be_visible(timeout=PATIENCE_MS)
    expect(alice.get_by_text("2 members")).to_be_visible()
    write(alice, "Again?")
    expect(message(bob, "Again?")).to_be_visible(timeout=PATIENCE_MS)
    shot(bob, "room")
    alice.get_by_role("button", name="Members").click()
    expect(alice.get_by_role("dialog").get_by_text(BOB)).to_be_visible()
    alice.get_by_role("dialog").get_by_role("button", name="Close").click()
    begin(bob, ALICE)
    bob.get_by_role("button", name="Block").click()
    expect(bob.get_by_role("button", name="Unblock")).to_be_visible()
    bob.get_by_role("button", name="Unblock").click()
    expect(bob.get_by_role("button", name="Block", exact=True)).to_be_visible()


def test_what_was_said_before_comes_by_scrolling(desk: Desk) -> None:
    async def talk() -> None:
        async with ChatClient(desk.houses.a.url("dave")) as dave, ChatClient(desk.houses.a.url("carol")) as carol:
            for number in range(70):
                await carol.send(dave.you, f"line {number}.")

    # Playwright has a loop in this thread.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, talk()).result()
    page = desk.signed_in(desk.houses.a, "dave")
    expect(message(page, "line 69.")).to_be_visible(timeout=PATIENCE_MS)
    assert page.locator(".message").count() < 70
    page.locator(".log").evaluate("log => { log.scrollTop = 0; }")
    expect(page.locator(".message")).to_have_count(70, timeout=PATIENCE_MS)
    expect(page.get_by_text("This is where it begins")).to_be_attached()


def test_a_chat_that_is_away(desk: Desk) -> None:
    page = desk.signed_in(desk.houses.a, "erin")
    begin(page, BOB)
    desk.houses.a.kill_chat()
    write(page, "into the dark")
    expect(message(page, "into the dark").locator(".mark")).to_have_attribute("data-state", "sending")
    desk.houses.a.start_chat()
    mark = message(page, "into the dark").locator(".mark")
    expect(mark).to_have_attribute("data-state", "arrived", timeout=PATIENCE_MS)


def test_by_keyboard_alone(desk: Desk) -> None:
    page = desk.page()
    page.goto(f"{desk.houses.a.web}/chat")
    page.keyboard.type("frank")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nobody yet")).to_be_visible()
    for who in ("one@b.example", "two@b.example"):
        page.get_by_role("button", name="New chat").focus()
        page.keyboard.press("Enter")
        page.keyboard.type(who)
        page.keyboard.press("Enter")
        expect(page.get_by_label("Message", exact=True)).to_be_focused()
        page.keyboard.type(f"to {who}")
        page.keyboard.press("Enter")
        expect(message(page, f"to {who}")).to_be_visible()
    page.keyboard.press("Alt+ArrowDown")
    expect(message(page, "to one@b.example")).to_be_visible()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1180), ("dark", 390)])
def test_accessible_to_all(desk: Desk, axe: str, scheme: Any, width: int) -> None:
    page = desk.page(color_scheme=scheme, viewport={"width": width, "height": 760})
    page.goto(f"{desk.houses.a.web}/chat")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert serious(page, axe) == []
    page = desk.alice(color_scheme=scheme, viewport={"width": width, "height": 760})
    expect(page.get_by_role("navigation", name="Conversations").get_by_role("button", name="kitchen")).to_be_visible()
    shot(page, f"list-{scheme}-{width}")
    assert serious(page, axe) == []
    open_talk(page, "bob@b.example")
    expect(message(page, "Good morning!")).to_be_visible()
    shot(page, f"talk-{scheme}-{width}")
    assert serious(page, axe) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width < 760:
        page.get_by_role("button", name="Back to the conversations").click()
        expect(page.get_by_role("button", name="New chat")).to_be_visible()
    open_talk(page, "kitchen")
    expect(message(page, "Pizza")).to_be_visible()
    shot(page, f"room-{scheme}-{width}")
    assert serious(page, axe) == []
