"""What the console and ``/try`` show of guards, held messages, recordings, parts and handlers from elsewhere, in a
real Chromium."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests import forking
from tests.certificates import self_signed
from tests.ports import free_port
from tests.web.desks import (
    ON_COLOURS,
    Desk,
    Page,
    a_browser,  # noqa: F401
    a_desk,  # noqa: F401
    axe_source,  # noqa: F401
    expect,
    open_type,
    open_view,
    serious,
)
from tests.web.test_javascript import PASSWORD, TIMEOUT_S, Daemon

HANDLERS = '''
import asyncio, sys
from collections.abc import AsyncIterator
from msgspec import Struct
from bester import Accept, Drop, Handler, Hold, Refuse, Reply

near, far = Handler(sys.argv[1], name="shop", concurrency=64), Handler(sys.argv[2], name="far")

@near.on("watch")
def watch(message):
    verdict = message.data.get("verdict")
    if verdict == "reject":
        raise Refuse("no spam here", code="watch.spam")
    return {"drop": Drop(), "hold": Hold(), "mine": Hold("u1")}.get(verdict, Accept())

@near.on("market")
def market(message):
    return Reply({"sold": message.data["offer"]})

class Count(Struct):
    """How far to count."""
    to: int = 3
    pause: float = 0.0

@near.on("count", samples=[Count(3), Count(1000000, 0.02)])
async def count(count: Count) -> AsyncIterator[int]:
    """Counts, a part at a time."""
    for number in range(count.to):
        yield number
        await asyncio.sleep(count.pause)

@far.on("far")
def distant(message):
    return Reply("from afar")

async def main():
    for handler in (near, far):
        await handler.start()
    print("attached", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
'''
STDIO = """#!/bin/sh
while IFS= read -r request; do
    echo '{"header": {"status": "0", "command": {"type": "reply"}}, "payload": {"data": "hello"}}'
done
"""
GUARDS = [
    {"guard": "watch", "for": {"types": ["market"]}, "onFailure": "reject"},
    {"guard": "sentry", "for": {"types": ["closed"]}, "onFailure": "reject"},
]


class World:
    """A server with guards, and handlers on its socket, over TLS and over standard input."""

    def __init__(self, folder: Path) -> None:
        papers = self_signed(folder, "s1.example")
        script = folder / "greet"
        script.write_text(STDIO)
        script.chmod(0o755)
        port = free_port()
        tree: dict[str, Any] = {
            "server": {"name": "s1.example"},
            "network": {
                "types": ["tcp4", "web"],
                "tcp4": {"port": free_port(), "address": "127.0.0.1"},
                "web": {"port": free_port(), "address": "127.0.0.1"},
            },
            "handlers": {
                "availableTypes": ["greet", "closed"],
                "typeMap": {"greet": {"handlerBinary": "./greet", "transport": "stdio"}, "closed": {}},
                "guards": GUARDS,
                "tls": {
                    "port": port,
                    "address": "127.0.0.1",
                    "certificate": papers.certificate,
                    "key": papers.key,
                },
            },
        }
        self.s1 = Daemon(folder, tree)
        self._script = folder / "handlers.py"
        self._script.write_text(HANDLERS)
        pin = f"sha256:{papers.fingerprints.key}"
        self._far = f"tls://far:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{port}?fingerprint={pin}"
        self._handlers: forking.Running | None = None

    def start(self) -> None:
        self.s1.start()
        self.s1.command("addAccount", username="admin", password=PASSWORD, admin=True)
        self.s1.command("addAccount", username="u1", password=PASSWORD)
        self.s1.command("addAccount", username="far", password=PASSWORD)
        self.s1.command("setRoles", username="far", roles=["handler"])
        token = self.s1.command("addToken", username="far", days=1)["token"]
        place = self._far.replace(PASSWORD.replace(" ", "%20"), token)
        command = ["python", self._script.name, str(self.s1.folder / "besterHandlers"), place]
        self._handlers = forking.start(command, self._script.parent, os.environ)
        assert self._handlers.stdout is not None
        assert self._handlers.stdout.readline() == b"attached\n"

    def stop(self) -> None:
        if self._handlers is not None:
            self._handlers.terminate()
            self._handlers.wait(TIMEOUT_S)
            assert self._handlers.stdout is not None
            self._handlers.stdout.close()
        self.s1.stop()

    @contextmanager
    def recording(self, type: str) -> Iterator[None]:
        """Records a type, as ``bester handler record`` does."""
        command = {"type": "record", "args": {"type": type, "seconds": 600}}
        body = json.dumps({"payload": {"type": "builtin", "id": "1", "data": {"command": command}}}).encode()
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(self.s1.folder / "besterControl"))
            control.sendall(struct.pack("<I", len(body)) + body)
            yield


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("world"))
    try:
        world.start()
        yield world
    finally:
        world.stop()


def offer(desk: Desk, page: Page, verdict: str, offer: str = "pizza") -> None:
    page.goto(f"{desk.world.s1.web}/#/messages/send")
    desk.send(page, "market", json.dumps({"verdict": verdict, "offer": offer}))


def test_what_guards_decide(desk: Desk, axe: str) -> None:
    """The route, the receipts, and what operators decide about what is held."""
    page = desk.console()
    route, names = page.locator("svg.route"), page.locator("svg.route .name")
    words = page.get_by_role("img", name="The way of the message")
    offer(desk, page, "accept")
    expect(names).to_have_text(["admin", "watch", "market", "admin"])
    expect(route.locator(".guard.good .state")).to_have_text("accepts")
    assert re.search(r"guard watch after .*, which accepts → market at", words.get_attribute("aria-label") or "")
    offer(desk, page, "reject")
    expect(route.locator(".guard.bad .state")).to_have_text("rejects")
    expect(page.get_by_label("Report")).to_contain_text("no spam here")
    offer(desk, page, "drop")
    expect(names).to_have_text(["admin", "watch"])
    offer(desk, page, "mine")
    expect(route.locator(".guard.waiting .state")).to_have_text("holds")
    for dish in ("pasta", "soup", "x" * 3000):
        offer(desk, page, "hold", dish)
        expect(page.get_by_label("Report")).to_contain_text("held")

    open_view(page, "Messages")
    receipts = page.get_by_role("region", name="Receipts").get_by_role("row")
    for outcome, many in (("held", 4), ("rejected", 1), ("dropped", 1)):
        page.get_by_label("Outcome").select_option(outcome)
        expect(receipts.filter(has=page.locator(".badge", has_text=outcome))).to_have_count(many)
        expect(receipts).to_have_count(many + 1)
    page.get_by_role("link", name="The way of the message").click()
    expect(route.locator(".guard.bad .state")).to_have_text("drops")
    page.get_by_role("link", name="All messages").click()

    page.get_by_role("link", name="Held messages").click()
    table = page.get_by_role("table", name="Held messages").get_by_role("row")
    expect(table).to_have_count(4)
    expect(page.get_by_text("1 more is held for accounts")).to_be_visible()
    assert serious(page, axe) == []
    row = table.filter(has_text="xxx")
    row.get_by_role("button", name="Show").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Only the first 2 KiB")
    page.keyboard.press("Enter")
    row.get_by_role("button", name="Refuse").click()
    dialog.get_by_role("button", name="Refuse").click()
    expect(page.get_by_text("1 message was refused.")).to_be_visible()
    expect(table).to_have_count(3)
    table.filter(has_text="pasta").get_by_role("button", name="Release").press("Enter")
    expect(dialog.get_by_label("Always trust admin")).to_be_focused()
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    expect(page.get_by_text("2 messages were released; admin is trusted.")).to_be_visible()
    expect(page.get_by_text("Nothing is held")).to_be_visible()
    page.get_by_role("button", name="Forget admin").click()
    dialog.get_by_role("button", name="Forget").click()
    expect(page.get_by_text("Nobody is trusted yet")).to_be_visible()


def test_what_runs_is_named(desk: Desk, world: World) -> None:
    other = desk.trying()
    desk.send(other, "count", '{"to": 1000000, "pause": 0.02}')
    page = desk.console()
    with world.recording("count"):
        now = page.get_by_role("region", name="Recorded now")
        expect(now.get_by_role("row", name="count")).to_be_visible()
        streams = page.locator("dl.numbers div").filter(has_text="answers in parts").locator("dd")
        expect(streams).to_have_text("1")
        open_view(page, "Handlers")
        rows = page.get_by_role("row")
        expect(rows.filter(has_text="recorded")).to_contain_text("count")
        open_type(page, "count")
        expect(page.get_by_text("for 10 min more").or_(page.get_by_text("for 9 min more"))).to_be_visible()
    other.get_by_role("button", name="Cancel").click()
    expect(other.locator(".entry.sent")).to_contain_text("You cancelled it")
    open_view(page, "Handlers")
    expect(page.get_by_role("row", name="far")).to_contain_text("over TLS from 127.0.0.1")
    expect(page.get_by_role("row", name="greet")).to_contain_text("over stdio")
    expect(page.get_by_role("row", name="market")).to_contain_text("guarded by watch")
    open_type(page, "closed")
    expect(page.locator("dl.facts dd").filter(has_text="sentry")).to_have_text("sentry nobody serves it")
    open_type(page, "market")
    page.get_by_label("Data", exact=True).fill('{"offer": "pizza"}')
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("region", name="Replies")).to_contain_text('"sold": "pizza"')
    page.get_by_role("link", name="watch", exact=True).click()
    expect(page.get_by_role("heading", name="watch", level=2)).to_be_visible()
    expect(page.locator("dl.facts")).to_contain_text(re.compile(r"\d accepted"))


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1440)])
def test_parts_appear_as_they_come(desk: Desk, axe: str, scheme: Any, width: int) -> None:
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
    rules = ON_COLOURS if scheme == "dark" else ()
    page = desk.console(**options)
    open_type(page, "count")
    page.get_by_label("to", exact=True).fill("3")
    page.get_by_role("button", name="Send", exact=True).click()
    replies = page.get_by_role("region", name="Replies")
    expect(replies.locator("pre")).to_have_text(["0", "1", "2"])
    expect(replies.get_by_role("status")).to_have_text("3 messages")
    expect(page.locator("svg.route .state")).to_have_text("3 parts")
    assert "count at s1.example after" in (page.locator("svg.route").get_attribute("aria-label") or "")
    assert ", in 3 parts" in (page.locator("svg.route").get_attribute("aria-label") or "")
    page.get_by_role("button", name="Sample 2").click()
    page.get_by_role("button", name="Send", exact=True).click()
    expect(replies).to_contain_text("the last 50 are shown")
    expect(replies.locator("pre")).to_have_count(50)
    assert serious(page, axe, rules) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="Cancel").click()
    expect(replies).to_contain_text("You cancelled it")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(replies).to_contain_text("so far")
    open_view(page, "Now")  # cancels it, too
    expect(page.locator("dl.numbers div").filter(has_text="answers in parts").locator("dd")).to_have_text("0")


def test_trying_has_the_fields_of_a_type(desk: Desk, axe: str) -> None:
    page = desk.trying()
    page.get_by_label("Type").fill("count")
    page.get_by_label("Type").press("Tab")
    page.get_by_label("to", exact=True).fill("2")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator(".entry.sent pre")).to_have_text(["0", "1"])
    expect(page.locator(".entry.sent")).to_contain_text("good")
    assert serious(page, axe) == []
    page.get_by_label("Type").fill("market")
    page.get_by_label("Type").press("Tab")
    expect(page.get_by_label("to", exact=True)).to_have_count(0)
