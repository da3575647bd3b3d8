"""The installed kitchen between a real broker and a real server, each of which goes away and comes back."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.gadgets.kitchen.hands import PATIENCE_S, Guest
from tests.gadgets.two import free_port
from tests.system.conftest import PASSWORD, Commands, Process

from bester.gadgets.kitchen.main import read
from bester.gadgets.settings import SettingsError

aiomqtt = pytest.importorskip("aiomqtt", reason="aiomqtt is not installed")
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="the broker mosquitto is not installed")

SETTINGS = """\
database = "kitchen.db"
interval = 0.05
[broker]
port = {port}
username = "kitchen"
passwordFile = "password"
version = "{version}"
[devices.oven]
topic = "home/oven"
units = {{temperature = "°C"}}
command = ["accounts"]
commandTopic = "home/oven/set"
set = {{target = {{min = 50, max = 250}}}}
[discover]
prefix = "found"
"""
HOT = {"reading": "temperature", "above": 200, "hysteresis": 5}


class Mosquitto:
    """A broker that lets in those who know the password."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "broker"
        self.folder.mkdir()
        self.port = free_port()
        assert MOSQUITTO is not None
        words = ["mosquitto_passwd", "-b", "-c", str(self.folder / "passwords"), "kitchen", "broth"]
        subprocess.run(words, check=True, timeout=PATIENCE_S, capture_output=True)
        text = f"listener {self.port} 127.0.0.1\npassword_file passwords\nlog_dest stderr\nuser root\n"
        (self.folder / "mosquitto.conf").write_text(text)
        (folder / "password").write_text("broth\n")
        self.process = self.start()

    def start(self) -> Process:
        assert MOSQUITTO is not None
        self.process = Process([MOSQUITTO, "-c", "mosquitto.conf"], self.folder)
        try:
            self.process.wait_for_log(" running")
        except BaseException:
            self.process.end()
            raise
        return self.process

    def device(self) -> Any:
        """Returns a client for a device, not connected."""
        return aiomqtt.Client("127.0.0.1", self.port, username="kitchen", password="broth")


@pytest.fixture
def broker(commands: Commands) -> Iterator[Mosquitto]:
    made = Mosquitto(commands.folder)
    yield made
    made.process.end()


def guest(commands: Commands) -> Guest:
    return Guest(commands.url, username="g", password=PASSWORD, reconnect=True, retry_first_s=0.02)


@needs_broker
async def test_broker_kitchen_and_server_come_and_go(commands: Commands, broker: Mosquitto) -> None:
    commands.configure(accounts={"registration": "firstUse"})
    (commands.folder / "kitchen.toml").write_text(SETTINGS.format(port=broker.port, version="5"))
    server = commands.serve()
    async with broker.device() as oven:
        await oven.publish("home/oven", '{"temperature": 150}', qos=1, retain=True)
        await oven.publish("found/cellar/temperature", "12", qos=1, retain=True)
    kitchen = commands.start("bester", "gadget", "kitchen", "kitchen.toml")
    kitchen.wait_for_log("connected to the broker")
    kitchen.wait_for_log("attached to")

    async with guest(commands) as g:
        while len(devices := (await g.about("state"))["devices"]) < 2 or not devices[0]["readings"]:
            await asyncio.sleep(0.01)  # what was retained comes right after the connection
        assert devices[0]["readings"]["temperature"].items() >= {"value": 150, "unit": "°C", "retained": True}.items()
        assert devices[1]["readings"]["temperature"]["value"] == 12
        await g.about("subscribe", device="oven", rules=[HOT])

        async with broker.device() as oven:
            await oven.subscribe("home/oven/set")
            assert "error" not in await g.about("command", device="oven", set={"target": 180})
            async with asyncio.timeout(PATIENCE_S):
                assert (await anext(oven.messages)).payload == b'{"target":180}'
            await oven.publish("home/oven", '{"temperature": 210}', qos=1)
            assert (await g.told("kitchen.alarm"))["value"] == 210
            await oven.publish("home/oven", "x" * 100_000, qos=1)  # beyond what is taken

        broker.process.popen.kill()
        broker.process.end()
        kitchen.wait_for_log("trying again in")
        assert await g.code("command", device="oven", set={"target": 180}) == ("deviceUnreachable", True)
        [state] = (await g.about("state", device="oven"))["devices"]
        assert (state["reachable"], state["readings"]["temperature"]["value"]) == (False, 210)
        broker.start()
        while (await g.about("state", device="oven"))["devices"][0]["reachable"] is False:
            await asyncio.sleep(0.01)

        kitchen.popen.kill()  # no time to write anything
        kitchen.wait()
        kitchen = commands.start("bester", "gadget", "kitchen", "kitchen.toml")
        kitchen.wait_for_log("connected to the broker")
        async with broker.device() as oven:
            await oven.publish("home/oven", '{"temperature": 220}', qos=1)  # still above
            await oven.publish("home/oven", '{"temperature": 100}', qos=1)
        alarm = await g.told("kitchen.alarm")
        assert alarm["event"] == "cleared"

        assert server.stop() == 0
        async with broker.device() as oven:
            await oven.publish("home/oven", '{"temperature": 240}', qos=1)
        commands.serve()
        alarm = await g.told("kitchen.alarm")
        assert (alarm["event"], alarm["value"]) == ("raised", 240)
    assert kitchen.stop(signal.SIGTERM) == 0
    assert "Traceback" not in kitchen.told()


@needs_broker
def test_a_broker_that_does_not_let_in(commands: Commands, broker: Mosquitto) -> None:
    (commands.folder / "password").write_text("water")
    (commands.folder / "kitchen.toml").write_text(SETTINGS.format(port=broker.port, version="3.1.1"))
    kitchen = commands.start("bester", "gadget", "kitchen", "kitchen.toml")
    kitchen.wait_for_log("trying again in")
    assert kitchen.stop(signal.SIGINT) == 0
    assert "Traceback" not in kitchen.told()


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("x")
    (tmp_path / "kitchen.toml").write_text(SETTINGS.format(port=1, version="5"))
    monkeypatch.delitem(sys.modules, "bester.gadgets.kitchen.broker", raising=False)
    monkeypatch.setitem(sys.modules, "aiomqtt", None)
    with pytest.raises(SettingsError, match=r"pip install 'bester\[kitchen\]'"):
        read(tmp_path / "kitchen.toml")


def test_settings_that_are_wrong_are_all_told(commands: Commands) -> None:
    (commands.folder / "kitchen.toml").write_text(
        '[broker]\nport = 0\npassword = "secret"\npasswordFile = "x"\n'
        '[devices."a b"]\ntopic = "x"\n[devices.oven]\ntopic = "home/#"\nsee = ["role:"]\n'
        "[devices.kettle]\nset = {on = {}}\n[unknown]\n"
    )
    done = commands.bester("gadget", "kitchen", "kitchen.toml")
    assert done.returncode == 2
    assert "secret" not in done.stderr
    for told in (
        "broker.port",
        "1 to 64 characters, without spaces",
        "devices.oven.topic: Value error, a topic has 1 to 512 bytes and no wildcards",
        "devices.oven.see.0",
        "devices.kettle.set.on: Value error, allowed: values, or min and max, or maxLength",
        "unknown: Extra inputs are not permitted",
    ):
        assert told in done.stderr, done.stderr
    assert commands.bester("gadget", "kitchen").returncode == 2
    assert commands.bester("gadget", "kitchen", "kitchen.toml", "--simulate").returncode == 2
    assert commands.bester("gadget", "kitchen", "missing.toml").returncode == 2
    (commands.folder / "kitchen.toml").write_text(
        '[devices.x]\ntopic = "x"\n[broker]\ntls = true\nca = "missing.pem"\n'
    )
    done = commands.bester("gadget", "kitchen", "kitchen.toml")
    assert (done.returncode, "broker.ca" in done.stderr) == (2, True), done.stderr
