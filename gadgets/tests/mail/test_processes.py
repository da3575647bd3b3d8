"""The gadget as a process of its own, beside real servers: from one to the other, over restarts and kill -9."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiosmtplib
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from tests.ports import free_port
from tests.system.conftest import Commands, Process, environment

from bester import Client

PATIENCE_S = 30.0


class Site:
    """A server with its gadget, in a folder."""

    gadget: Process
    server: Process

    def __init__(self, commands: Commands, name: str) -> None:
        self.commands = commands
        self.name = name
        self.port = free_port()

    def configure(self, smarthost: int) -> None:
        self.commands.configure(server={"name": self.name}, accounts={"registration": "firstUse"})
        tree = {
            "domains": [self.name],
            "handlers": "besterHandlers",
            "informer": "bInformer",
            "listen": {"port": self.port},
            "smarthost": {"address": "127.0.0.1", "port": smarthost, "tls": "none", "timeout": 5},
            "retry": {"first": 0.05, "max": 0.2},
        }
        (self.commands.folder / "mail.json").write_text(json.dumps(tree))

    def serve(self) -> None:
        self.server = self.commands.serve()

    def run(self) -> None:
        self.gadget = self.commands.start("bester", "gadget", "mail", "mail.json")
        self.gadget.wait_for("is ready")
        self.gadget.wait_for_log("attached to")

    def kill(self) -> None:
        self.gadget.send_signal(signal.SIGKILL)
        self.gadget.wait()

    async def send(self, user: str, **data: Any) -> Any:
        """Sends a mail, which must be queued, and returns its id."""
        async with Client(self.url(user), mail=False) as client:
            asked = await client.ask("mail", data, timeout=PATIENCE_S)
        assert asked.data["status"] == "queued", asked.data
        return asked.data["messageId"]

    async def receive(self, user: str, count: int = 1) -> list[Any]:
        """Returns the next mails of an account."""
        async with Client(self.url(user)) as client:
            messages = [await client.receive(PATIENCE_S) for _ in range(count)]
        assert {message.type for message in messages} == {"mail"}
        return [message.data for message in messages]

    def url(self, user: str) -> str:
        return f"bester+unix://{user}:secret@{quote(str(self.commands.folder / 'socket'))}"


class Host:
    """A smarthost in a thread."""

    def __init__(self) -> None:
        self.port = free_port()
        self.taken: list[str] = []
        self._changed = threading.Condition()
        self.refusing = False

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.refusing:
            return "451 later"
        with self._changed:
            head = bytes(envelope.original_content or b"").split(b"\r\n")
            self.taken += [line.decode().split()[1] for line in head if line.startswith(b"Message-ID:")]
            self._changed.notify_all()
        return "250 OK"

    def wait_for(self, ids: set[str]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: ids <= set(self.taken), PATIENCE_S), (ids, self.taken)


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    controller = Controller(made, hostname="127.0.0.1", port=made.port)
    controller.start()
    yield made
    controller.stop()


async def test_from_one_server_to_the_other(commands: Commands) -> None:
    (there := commands.folder / "b").mkdir()
    others = Commands(there)
    try:
        # Each is the smarthost of the other.
        a, b = Site(commands, "a.example"), Site(others, "b.example")
        for site, other in ((a, b), (b, a)):
            site.configure(other.port)
            site.serve()
            site.run()
        async with Client(b.url("g")):
            pass  # the account is made
        sent = await a.send("t", to=["g@b.example"], subject="Hello", text="Good day")
        [got] = await b.receive("g")
        assert (got["from"], got["subject"], got["text"]) == ([{"address": "t@a.example"}], "Hello", "Good day\n")
        assert got["messageId"] == sent
        # Back, while the gadget there is away, and after this server and its gadget were started again.
        assert [b.gadget.stop(), b.server.stop(), a.gadget.stop()] == [0, 0, 0]
        b.serve()
        b.run()
        reply = await b.send("g", to=got["from"], subject="Re: Hello", text="Hi", inReplyTo=got["messageId"])
        a.run()
        [answer] = await a.receive("t")
        assert (answer["messageId"], answer["inReplyTo"]) == (reply, [sent])
    finally:
        others.end()


async def test_kill_9_loses_nothing(commands: Commands, host: Host) -> None:
    site = Site(commands, "a.example")
    site.configure(host.port)
    site.serve()
    site.run()
    host.refusing = True
    accepted = {await site.send("t", to=["g@w.example"], subject=str(number)) for number in range(3)}
    site.kill()
    host.refusing = False
    site.run()
    accepted.add(await site.send("t", to=["g@w.example"]))
    site.kill()  # while it sends, or has just sent
    site.run()
    host.wait_for(accepted)
    assert set(host.taken) == accepted
    # What comes twice was just under way at a kill.
    assert len(host.taken) <= len(accepted) + 1
    # What SMTP was told is taken is there after a kill, too; the sender's repeat makes no double.
    mail = EmailMessage()
    mail["Message-ID"] = "<1@w.example>"
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=site.port, start_tls=False) as smtp:
        await smtp.send_message(mail, sender="g@w.example", recipients=["t@a.example"])
        site.kill()
    site.server.send_signal(signal.SIGKILL)
    site.server.wait()
    site.serve()
    site.run()
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=site.port, start_tls=False) as smtp:
        await smtp.send_message(mail, sender="g@w.example", recipients=["t@a.example"])
        last = EmailMessage()
        last["Message-ID"] = "<2@w.example>"
        await smtp.send_message(last, sender="g@w.example", recipients=["t@a.example"])
    assert [one["messageId"] for one in await site.receive("t", 2)] == ["<1@w.example>", "<2@w.example>"]
    # One database has one process.
    done = commands.bester("gadget", "mail", "mail.json")
    assert done.returncode == 2
    assert "in use by another process" in done.stderr
    assert site.gadget.stop() == 0
    with closing(sqlite3.connect(commands.folder / "mail.sqlite")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*) FROM mails").fetchone() == (0,)


def test_without_its_libraries_it_says_what_to_install(folder: Path) -> None:
    code = (
        "import sys; sys.modules['aiosmtpd'] = sys.modules['aiosmtplib'] = None\n"
        "from bester.cli.main import app; app(['gadget', 'mail', 'x.toml'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "-m pip install 'aiosmtpd" in done.stderr
    assert "Traceback" not in done.stderr
