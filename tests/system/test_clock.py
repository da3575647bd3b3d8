"""A machine whose clock has no battery: each boot begins years ago, and a while later the time is set right."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.system.conftest import PASSWORD, TIMEOUT_S, Commands, Process

from bester import Client, Handler, Request, SendClients

YEARS_S = 5 * 365 * 86_400

# What the system clock of such a machine would say, for this process alone.
CLOCK = """
import time
from pathlib import Path
offset, real = Path(__file__).with_name("offset"), time.time
time.time = lambda: real() + float(offset.read_text())
"""


class Machine:
    """It, and the server on it."""

    def __init__(self, commands: Commands) -> None:
        self.commands = commands
        self.folder: Path = commands.folder
        (self.folder / "sitecustomize.py").write_text(CLOCK)

    def set_clock(self, by_s: int) -> None:
        """Says how far the system clock is from what is right."""
        beside = self.folder / "offset.new"
        beside.write_text(str(by_s))
        beside.replace(self.folder / "offset")

    def boot(self) -> Process:
        server = self.commands.start("besterd", "server.conf", PYTHONPATH=str(self.folder))
        server.wait_for("is ready")
        return server


async def test_mail_outlives_boots_years_ago_and_a_clock_that_is_set_right(commands: Commands) -> None:
    commands.configure(accounts={"registration": "firstUse"})
    machine = Machine(commands)
    for boot in range(3):
        machine.set_clock(-YEARS_S)
        server = machine.boot()
        if boot == 0:
            await store(commands, "for later")
        machine.set_clock(0)
        server.wait_for_log("clock: set forward: by 5 years while the server ran")
        if boot < 2:
            server.stop(signal.SIGKILL)
    async with Client(commands.url, username="g", password=PASSWORD) as g:
        assert (await g.receive(TIMEOUT_S)).data == "for later"


async def store(commands: Commands, text: str) -> None:
    """Lets a message be stored for g, who is away."""
    async with Client(commands.url, username="g", password=PASSWORD):
        pass
    handler = Handler(str(commands.folder / "besterHandlers"))

    @handler.on("chat")
    def chat(message: Request) -> SendClients:
        return SendClients(["g"], message.data)

    async with handler, Client(commands.url, username="t", password=PASSWORD) as t:
        await handler.wait_attached()
        report = await t.send("chat", text)
        assert [one.status for one in report.results] == ["stored"]
