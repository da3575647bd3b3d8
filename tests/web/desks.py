"""A browser at the console and at the page for trying things out, with which the tests of both look at them."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import pytest
from tests import javascript
from tests.web.test_javascript import PASSWORD, TIMEOUT_S, Daemon

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

if importlib.util.find_spec("playwright") is None:
    pytest.skip("playwright is not installed", allow_module_level=True)
if CHROMIUM is None:
    pytest.skip("there is no Chromium", allow_module_level=True)

from playwright.sync_api import Browser, BrowserContext, sync_playwright  # noqa: E402
from playwright.sync_api import Page as Page  # noqa: E402
from playwright.sync_api import expect as expect  # noqa: E402


class HasServer(Protocol):
    """The servers of a test; the browser is at the first one."""

    s1: Daemon


class Desk:
    """A browser, and how to get into the console with it."""

    def __init__(self, browser: Browser, world: HasServer) -> None:
        self.browser = browser
        self.world = world
        self.errors: list[str] = []
        self._contexts: list[BrowserContext] = []

    def page(self, **options: Any) -> Page:
        context = self.browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(TIMEOUT_S * 1000)
        self._contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        return page

    def console(self, **options: Any) -> Page:
        """Returns a page on which the administrator is signed in."""
        page = self.page(**options)
        page.goto(self.world.s1.web)
        page.get_by_label("Username").fill("admin")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Now", exact=True)).to_be_visible()
        return page

    def trying(self, user: str = "u1", *, mail: bool = False) -> Page:
        page = self.page()
        page.goto(f"{self.world.s1.web}/try")
        page.get_by_label("Username").fill(user)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_label("Take the account's other messages").set_checked(mail)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_text(f"{user} at s1.example")).to_be_visible()
        return page

    def send(self, page: Page, type: str, data: str) -> None:
        # Exactly: the picture of the view before is labelled with types too, and may still be there.
        page.get_by_label("Type", exact=True).fill(type)
        page.get_by_label("Data").fill(data)
        page.get_by_role("button", name="Send", exact=True).click()

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture(scope="module", name="browser")
def a_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        args = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=args)
        yield browser
        browser.close()


@pytest.fixture(name="desk")
def a_desk(browser: Browser, world: HasServer) -> Iterator[Desk]:
    """A desk at the servers of the test's module, its fixture ``world``."""
    desk = Desk(browser, world)
    yield desk
    desk.close()
    # A refused sign-in is an answer of 401, which the browser notes as an error.
    assert [error for error in desk.errors if "401" not in error] == []


@pytest.fixture(scope="session", name="axe")
def axe_source() -> str:
    """The source of axe-core, which is under MPL-2.0, and is no part of this project."""
    program = javascript.axe()
    if program is None:
        pytest.skip("axe-core is not installed; python -m tests.javascript --install gets it")
    return program.read_text()


def open_view(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Views").get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()


def open_type(page: Page, name: str) -> None:
    open_view(page, "Handlers")
    page.get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", name=name, level=2)).to_be_visible()


ON_COLOURS = "color-contrast", "link-in-text-block"
"""The rules of axe-core that can find something in one colour scheme that they do not find in another."""


def serious(page: Page, axe: str, rules: Sequence[str] = ()) -> list[str]:
    """Returns the serious findings of axe-core on a page: by some rules, or by all."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(axe)
    options = {"resultTypes": ["violations"]} | ({"runOnly": rules} if rules else {})
    found = page.evaluate("(options) => axe.run(options)", options)["violations"]
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:160] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
