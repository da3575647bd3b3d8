"""The console and the page for trying things out, in a real Chromium, against real servers."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import forking
from tests.certificates import self_signed
from tests.ports import free_port
from tests.web.desks import (
    ON_COLOURS,
    Desk,
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
"""All handlers of all servers: the founding chain U1 -> S1: M1 -> M2 -> S2: M1 -> S3: M1 -> U2, and some more."""
import asyncio, json, os, sys
from typing import Annotated, Literal
from msgspec import Meta, Struct
from bester import Handler, Reply, SendClients, SendHandler, SendServers

places = json.loads(sys.argv[1])
s1, s2, s3 = (Handler(places[name], name="chain", dry_run=True) for name in ("s1", "s2", "s3"))

@s1.on("M1")
def first(message):
    return SendHandler("M2", message.data)

@s1.on("M2")
async def second(message):
    await asyncio.sleep(0.004)
    return SendServers(["s2.example"], message.data, type="M1")

@s2.on("M1")
def third(message):
    return SendServers(["s3.example"], message.data, type="M1")

@s3.on("M1")
async def fourth(message):
    await asyncio.sleep(0.002)
    return SendClients(["u2"], message.data)

chat = Handler(places["s1"], name="chat", concurrency=1024, dry_run=True)

@chat.on("chat")
def talk(message):
    data = message.data
    return SendClients(data["to"], {"from": message.sender.user, "text": data.get("text")})

@chat.on("away")
def away(message):
    return SendServers(["gone.example"], message.data)

@chat.on("echo")
def echo(message):
    return Reply(message.data)

@chat.on("weather")
def weather(message):
    raise ValueError("the barometer does not answer")

class Order(Struct):
    pizza: Literal["Funghi", "Margherita"]
    count: Annotated[int, Meta(ge=1, description="How many.")] = 1
    table: str | None = None

class Receipt(Struct):
    number: int

@chat.on("order", version="1.2", samples=[Order("Margherita", 2), Order("Funghi")])
def order(order: Order) -> Receipt:
    """Orders a pizza <b>at once</b>."""
    return Receipt(order.count)

async def main():
    for handler in (s1, s2, s3, chat):
        await handler.start()
    print("attached", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
'''

CLASSIC = """#!{python}
import json, os, socket, struct
server = socket.socket(socket.AF_UNIX)
server.bind(os.environ["BESTER_SOCKET"])
server.listen()
print("the oven is warm", flush=True)
while True:
    conversation, _ = server.accept()
    (size,) = struct.unpack("<I", conversation.recv(4, socket.MSG_WAITALL))
    conversation.recv(size, socket.MSG_WAITALL)
    answer = json.dumps({{"header": {{"status": "0", "command": {{"type": "done"}}}}, "data": None}}).encode()
    conversation.sendall(struct.pack("<I", len(answer)) + answer)
    conversation.close()
"""


class World:
    """Three servers that know each other, and their handlers."""

    def __init__(self, folder: Path) -> None:
        names = ("s1", "s2", "s3")
        papers = {name: self_signed(folder, f"{name}.example") for name in names}
        ports = {name: free_port() for name in names}
        self.daemons = {}
        for name in names:
            others = {
                f"{other}.example": {
                    "address": f"127.0.0.1:{ports[other]}",
                    "fingerprint": f"sha256:{papers[other].fingerprints.key}",
                }
                for other in names
                if other != name
            }
            if name == "s1":
                others["gone.example"] = {"address": f"127.0.0.1:{free_port()}", "fingerprint": f"sha256:{'0' * 64}"}
            mine = folder / name
            mine.mkdir()
            papers_here = {"certificate": papers[name].certificate, "key": papers[name].key}
            tree: dict[str, Any] = {
                "server": {"name": f"{name}.example"},
                "network": {
                    "types": ["tcp4", "tls", *(["web"] if name == "s1" else [])],
                    "tcp4": {"port": free_port(), "address": "127.0.0.1"},
                    "tls": {"port": ports[name], "address": "127.0.0.1", **papers_here},
                },
                "accounts": {"registration": "firstUse"},
                "federation": {"policy": "verified", "servers": others, "retryMin": 0.2, "retryFor": 1},
            }
            if name == "s1":
                tree["network"]["web"] = {"port": free_port(), "address": "127.0.0.1"}
                script = mine / "kitchen"
                script.write_text(CLASSIC.format(python=sys.executable))
                script.chmod(0o755)
                tree["handlers"] = {
                    "availableTypes": ["kitchen"],
                    "typeMap": {
                        "kitchen": {"handlerBinary": "./kitchen", "unixDomainSocketPath": "kitchenSock"},
                        "order": {"validate": True},
                    },
                }
            self.daemons[name] = Daemon(mine, tree)
        self.s1 = self.daemons["s1"]
        self._handlers: forking.Running | None = None
        self._script = folder / "handlers.py"
        self._script.write_text(HANDLERS)

    def start(self) -> None:
        for daemon in self.daemons.values():
            daemon.start()
        self.s1.command("addAccount", username="admin", password=PASSWORD, admin=True)
        self.s1.command("addAccount", username="u1", password=PASSWORD)
        self.daemons["s3"].command("addAccount", username="u2", password=PASSWORD)
        places = {name: str(daemon.folder / "besterHandlers") for name, daemon in self.daemons.items()}
        command = ["python", self._script.name, json.dumps(places)]
        self._handlers = forking.start(command, self._script.parent, os.environ)
        assert self._handlers.stdout is not None
        assert self._handlers.stdout.readline() == b"attached\n"

    def stop(self) -> None:
        if self._handlers is not None:
            self._handlers.terminate()
            self._handlers.wait(TIMEOUT_S)
            assert self._handlers.stdout is not None
            self._handlers.stdout.close()
        for daemon in self.daemons.values():
            daemon.stop()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("world"))
    try:
        world.start()
        yield world
    finally:
        world.stop()


# -- the console ----------------------------------------------------------------------------------------------------


def test_signing_in_and_out(desk: Desk) -> None:
    page = desk.page()
    page.goto(desk.world.s1.web)
    page.get_by_label("Username").fill("admin")
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("wrong password")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Now", exact=True)).to_be_visible()
    expect(page.get_by_text("s1.example")).to_be_visible()
    page.reload()
    expect(page.get_by_text("Signed in as admin")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_an_account_without_the_role_admin_stays_outside(desk: Desk) -> None:
    page = desk.page()
    page.goto(desk.world.s1.web)
    page.get_by_label("Username").fill("u1")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("role admin")
    desk.errors[:] = [error for error in desk.errors if "403" not in error]


def test_a_message_moves(desk: Desk) -> None:
    """Dots are drawn on the canvas while messages go through, and the wires show where they went."""
    page = desk.console()
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    expect(page.locator(".picture .type")).to_have_count(8)
    other = desk.trying()
    drawn = """() => {
        const canvas = document.querySelector(".picture canvas");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return data.some((value) => value);
    }"""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        desk.send(other, "M1", '{"text": "hello"}')
        with contextlib.suppress(Exception):
            page.wait_for_function(drawn, timeout=2000)
            break
        assert time.monotonic() < deadline
    expect(page.locator(".picture .client .name", has_text="u1")).to_be_visible()
    expect(page.locator(".picture .wire").first).to_be_attached()
    expect(page.locator(".picture .server .name", has_text="s2.example")).to_be_visible()


def test_the_route_of_a_message(desk: Desk) -> None:
    """Sent from the console, found among the receipts, and drawn from U1 to U2."""
    page = desk.console()
    page.keyboard.press("c")
    desk.send(page, "M1", '{"text": "from the console"}')
    names = page.locator("svg.route .name")
    expect(names).to_have_text(["admin", "M1", "M2", "M1", "M1", "u2"])
    expect(page.locator("svg.route .lane-name")).to_have_text(["s1.example", "s2.example", "s3.example"])
    page.get_by_role("link", name="All messages").click()
    page.get_by_role("searchbox", name="Account").fill("admin")
    page.get_by_role("searchbox", name="Type").fill("M1")
    page.get_by_role("link", name="The way of the message").first.click()
    expect(names).to_have_text(["admin", "M1", "M2", "M1", "M1", "u2"])
    words = page.get_by_role("img", name="The way of the message").get_attribute("aria-label") or ""
    assert words.startswith("The way of the message: admin → M1 at s1.example")
    assert "of u2" in words or "account u2" in words


def test_a_failure_is_red_and_explained(desk: Desk) -> None:
    page = desk.console()
    page.keyboard.press("c")
    desk.send(page, "weather", "{}")
    expect(page.locator("svg.route .node.bad .name")).to_have_text("weather")
    page.get_by_role("link", name="All messages").click()
    causes = page.get_by_role("region", name="What failed in the last hour")
    expect(causes).to_contain_text("handlerError")


def test_a_dry_run_delivers_nothing(desk: Desk) -> None:
    page = desk.trying()
    page.get_by_label("Type").fill("chat")
    page.get_by_label("Data").fill('{"to": ["u1"], "text": "perhaps"}')
    page.get_by_label("Dry run").check()
    page.get_by_role("button", name="Show what would happen").click()
    expect(page.locator("svg.route .name")).to_have_text(["u1", "chat", "u1"])
    expect(page.locator(".entry.got")).to_have_count(0)


def test_data_that_is_no_json_is_not_sent(desk: Desk) -> None:
    page = desk.trying()
    desk.send(page, "chat", "{to: nobody}")
    expect(page.get_by_role("alert")).to_contain_text("Not JSON")
    expect(page.locator(".entry")).to_have_count(0)


def test_answers_appear(desk: Desk) -> None:
    page = desk.trying(mail=True)
    desk.send(page, "chat", '{"to": ["u1"], "text": "<img src=x onerror=alert(1)>"}')
    expect(page.locator(".entry.got pre")).to_contain_text("<img src=x onerror=alert(1)>")
    expect(page.locator(".entry.sent")).to_contain_text("good")
    expect(page.locator(".entry img")).to_have_count(0)


def test_trying_leaves_the_mailbox_alone(desk: Desk) -> None:
    page = desk.trying("box")
    for text in ("first", "second"):
        desk.send(page, "chat", json.dumps({"to": ["box"], "text": text}))
        expect(page.locator(".entry.sent").first).to_contain_text("stored")
    expect(page.locator(".entry.got")).to_have_count(0)
    other = desk.trying("box", mail=True)
    expect(other.locator(".entry.got")).to_have_count(2)
    expect(other.locator(".entry.got pre").last).to_contain_text("first")


def test_accounts(desk: Desk) -> None:
    page = desk.console()
    open_view(page, "Accounts")
    page.get_by_role("button", name="Add account").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Username").fill("Zelda")
    dialog.get_by_label("Password").fill(PASSWORD)
    dialog.get_by_role("button", name="Add account").click()
    expect(page.get_by_role("status").filter(has_text="zelda was added")).to_be_visible()
    page.get_by_role("searchbox").fill("zel")
    expect(page.get_by_role("rowheader")).to_have_text(["zelda"])

    page.get_by_role("button", name="Roles of zelda").click()
    dialog.get_by_label("Roles").fill("cook, waiter")
    dialog.get_by_role("button", name="Set roles").click()
    expect(page.get_by_role("row", name="zelda")).to_contain_text("waiter")

    page.get_by_role("button", name="Set the password of zelda").click()
    dialog.get_by_label("New password").fill("another one")
    dialog.get_by_role("button", name="Set password").click()
    expect(page.get_by_text("zelda has a new password")).to_be_visible()

    page.get_by_role("button", name="Remove zelda").click()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="Remove zelda").click()
    dialog.get_by_role("button", name="Remove account").click()
    expect(page.get_by_text("No account begins with")).to_be_visible()


def test_ending_sessions(desk: Desk) -> None:
    other = desk.trying("kicked")
    page = desk.console()
    open_view(page, "Accounts")
    page.get_by_role("searchbox").fill("kicked")
    page.get_by_role("button", name="Sessions of kicked").click()
    page.get_by_role("dialog").get_by_role("button", name="End the session").click()
    expect(page.get_by_text("1 session of kicked ended")).to_be_visible()
    expect(other.get_by_role("alert")).to_contain_text("ended by an operator")


def test_a_dead_letter_is_shown_retried_and_dropped(desk: Desk) -> None:
    other = desk.trying()
    desk.send(other, "away", '{"text": "are you there?"}')
    expect(other.locator(".entry.sent")).to_contain_text("queued")
    page = desk.console()
    open_view(page, "Servers")
    row = page.get_by_role("region", name="Dead letters").get_by_role("row", name="gone.example").first
    expect(row).to_be_visible()
    row.get_by_role("button", name="Show").click()
    expect(page.get_by_role("dialog")).to_contain_text("are you there?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    row.get_by_role("button", name="Retry").click()
    expect(page.locator(".toast").filter(has_text="Trying message")).to_be_visible()
    expect(row).to_be_visible()
    row.get_by_role("button", name="Drop").click()
    page.get_by_role("dialog").get_by_role("button", name="Drop message").click()
    expect(page.locator(".toast").filter(has_text="was dropped")).to_be_visible()


def test_servers_show_certificates(desk: Desk) -> None:
    page = desk.console()
    open_view(page, "Servers")
    links = page.get_by_role("region", name="Links")
    own = links.get_by_label("This server")
    expect(own).to_contain_text("s1.example")
    expect(own).to_contain_text("sha256:")
    row = links.get_by_role("row", name="s2.example").first
    expect(row.get_by_text("pinned", exact=False)).to_contain_text("sha256:")
    desk.send(desk.trying(), "M1", '{"text": "who are you?"}')
    expect(row.get_by_text("verified")).to_be_visible()
    expect(row.get_by_text("certificate sha256:")).to_be_visible()


def test_a_handler_is_stopped_and_started(desk: Desk) -> None:
    page = desk.console()
    open_view(page, "Handlers")
    page.get_by_role("button", name="Log kitchen").click()
    expect(page.get_by_role("dialog")).to_contain_text("the oven is warm")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Stop kitchen").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_role("row", name="kitchen")).to_contain_text("stopped")
    page.get_by_role("button", name="Start kitchen").click()
    expect(page.get_by_role("row", name="kitchen")).to_contain_text("running")


def test_a_type_is_described_and_tried(desk: Desk) -> None:
    page = desk.console()
    open_type(page, "order")
    expect(page.get_by_role("heading", name="order", level=2)).to_have_text("order 1.2 validated")
    expect(page.get_by_text("Orders a pizza <b>at once</b>.")).to_be_visible()
    fields = page.get_by_role("table", name="Data").get_by_role("rowheader")
    expect(fields).to_have_text(["pizza", "count", "table"])
    expect(page.get_by_role("table", name="Answer")).to_contain_text("integer")
    data = page.get_by_label("Data", exact=True).and_(page.locator("textarea"))
    expect(data).to_have_value(json.dumps({"pizza": "Margherita", "count": 2, "table": None}, indent=2))
    page.get_by_role("button", name="Sample 2").click()
    expect(page.get_by_label("pizza", exact=True)).to_have_value('"Funghi"')
    page.get_by_label("count", exact=True).fill("7")
    expect(data).to_have_value(json.dumps({"pizza": "Funghi", "count": 7, "table": None}, indent=2))
    page.get_by_label("table", exact=True).fill("by the window")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("region", name="Replies")).to_contain_text('"number": 7')
    page.get_by_label("count", exact=True).fill("many")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("region", name="Report")).to_contain_text('data.count: the value is not of type "integer"')
    page.get_by_label("count", exact=True).fill("3")
    page.get_by_label("Dry run").check()
    page.get_by_role("button", name="Show what would happen").click()
    expect(page.get_by_role("region", name="Report")).to_contain_text("What would happen")
    data.fill("{")
    expect(page.get_by_text("Not JSON")).to_be_visible()
    expect(page.get_by_label("count", exact=True)).to_be_disabled()


def test_a_type_without_a_description_is_tried(desk: Desk) -> None:
    page = desk.console()
    open_type(page, "echo")
    expect(page.get_by_text("Its handlers say nothing of it.")).to_be_visible()
    page.get_by_label("Data", exact=True).fill('["as it is"]')
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("region", name="Replies")).to_contain_text("as it is")
    page.get_by_role("link", name="All handlers").click()
    expect(page.get_by_role("row", name="kitchen")).to_be_visible()
    page.goto(f"{desk.world.s1.web}/#/handlers/of/none")
    expect(page.get_by_text("nobody serves this type")).to_be_visible()


def test_trying_offers_samples(desk: Desk) -> None:
    page = desk.trying()
    page.get_by_label("Type").fill("order")
    page.get_by_label("Type").press("Tab")
    expect(page.get_by_text("Orders a pizza <b>at once</b>.")).to_be_visible()
    expect(page.get_by_label("Data")).to_have_value(
        json.dumps({"pizza": "Margherita", "count": 2, "table": None}, indent=2)
    )
    page.get_by_role("button", name="Sample 2").click()
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator(".entry.sent pre")).to_contain_text('"number": 1')
    page.get_by_label("Data").fill('"mine"')
    page.get_by_label("Type").fill("echo")
    page.get_by_label("Type").press("Tab")
    expect(page.get_by_text("Orders a pizza")).to_be_hidden()
    expect(page.get_by_label("Data")).to_have_value('"mine"')


# -- how it is to use -----------------------------------------------------------------------------------------------


def test_with_the_keyboard_alone(desk: Desk) -> None:
    page = desk.page()
    page.goto(desk.world.s1.web)
    expect(page.get_by_label("Username")).to_be_focused()
    page.keyboard.type("admin")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Now", exact=True)).to_be_visible()
    expect(page.locator("#main")).to_be_focused()
    page.reload()
    expect(page.get_by_role("heading", name="Now", exact=True)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    expect(page.get_by_role("heading", name="Accounts", level=1)).to_be_visible()
    expect(page.get_by_role("rowheader").first).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("u1")
    expect(page.get_by_role("rowheader")).to_have_text(["u1"])
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Add account")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_label("Username")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Add account")).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_both_colour_schemes(desk: Desk) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light, dark = desk.console(color_scheme="light"), desk.console(color_scheme="dark")
    assert light.evaluate(paper) != dark.evaluate(paper)
    dark.get_by_role("button", name="Theme").click()
    assert light.evaluate(paper) == dark.evaluate(paper)
    dark.reload()
    expect(dark.get_by_role("heading", name="Now", exact=True)).to_be_visible()
    assert light.evaluate(paper) == dark.evaluate(paper)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_accessible_to_all(desk: Desk, axe: str, scheme: Any, width: int) -> None:
    rules = ON_COLOURS if scheme == "dark" else ()
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
    page = desk.page(**options)
    page.goto(desk.world.s1.web)
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert serious(page, axe, rules) == []
    page = desk.console(**options)
    main = page.get_by_role("main")
    for name, shown in (
        ("Now", page.get_by_text("live", exact=True)),
        ("Messages", main.get_by_role("row").or_(page.get_by_text("No messages yet"))),
        ("Handlers", page.get_by_role("button", name="Log kitchen")),
        ("Servers", page.get_by_label("This server").get_by_text("sha256:")),
        ("Accounts", main.get_by_text("admin", exact=True)),
    ):
        open_view(page, name)
        expect(shown.first).to_be_visible()
        page.wait_for_function("document.getAnimations().every((one) => !(one instanceof CSSTransition))")
        assert serious(page, axe, rules) == [], name
    page.get_by_role("button", name="Add account").click()
    assert serious(page, axe, rules) == []
    page.keyboard.press("Escape")
    open_type(page, "order")
    page.get_by_text("JSON Schema").first.click()
    assert serious(page, axe, rules) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    open_view(page, "Accounts")
    page.get_by_role("button", name="Add account").click()
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    desk.send(page, "M1", "{}")
    expect(page.locator("svg.route")).to_be_visible()
    assert serious(page, axe, rules) == []
    width_used = page.evaluate("document.documentElement.scrollWidth")
    assert width_used <= width


def test_quick_under_load(desk: Desk) -> None:
    """Ten thousand clients and a thousand messages in a second, as the server would tell of them."""
    page = desk.console()
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    figures = page.evaluate(
        """async () => {
        const { Live } = await import("/console/model.js");
        const { now } = await import("/console/views/now.js");
        const live = new Live();
        const name = (index) => `client-${index}`;
        const place = document.querySelector(".page");
        place.replaceChildren();
        const stop = now({ page: place, live });
        live.meet(Array.from({ length: 30 }, (_, index) => ({ username: name(index), sessions: [1] })));
        const event = (second) => ({
          time: Date.now() / 1000 + second, server: { name: "s1", uptime: 1 },
          rates: { good: 990, bad: 10, deliveries: 5000 }, latency: { meanMs: 1, p95Ms: 3 },
          counts: { online: 10000, sessions: 10000 },
          totals: { dropped: {} },
          types: Object.fromEntries(Array.from({ length: 100 }, (_, at) => [`type${at}`, { answered: 10, failed: 0 }])),
          handlers: [{ name: "h", types: Array.from({ length: 100 }, (_, at) => `type${at}`), state: "up" }],
          servers: Array.from({ length: 100 }, (_, at) => ({ name: `s${at}.example`, link: "up", waiting: 0 })),
          movements: Array.from({ length: 50 }, (_, at) => ({
            from: name(Math.floor(Math.random() * 10000)), scope: "client", type: `type${at}`,
            to: [name(at), `s${at}.example`], outcome: at % 10 ? "good" : "handlerError",
          })),
          problems: [],
        });
        const columns = ["time", "good", "bad", "deliveries", "meanMs"];
        const rows = Array.from({ length: 600 }, (_, at) => [Date.now() / 1000 - 600 + at, 990, 10, 5000, 1]);
        live.history({ columns, rows });
        let worst = 0, last = performance.now(), running = true;
        const watch = (at) => {
          worst = Math.max(worst, at - last);
          last = at;
          if (running) requestAnimationFrame(watch);
        };
        requestAnimationFrame(watch);
        let spent = 0;
        for (let second = 0; second < 5; second += 1) {
          const begun = performance.now();
          live.take(event(second));
          spent = Math.max(spent, performance.now() - begun);
          await new Promise((resolve) => setTimeout(resolve, 600));
        }
        running = false;
        const nodes = place.querySelectorAll("*").length;
        stop();
        return { spent, worst, nodes };
    }"""
    )
    assert figures["nodes"] < 600, figures
    assert figures["spent"] < 100, figures
    assert figures["worst"] < 500, figures
