"""The installed kitchen between a real broker and a real server, each of which goes away and comes back."""

from __future__ import annotations

import asyncio
import gc
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
import trustme
from gadgets.tests.kitchen.hands import PATIENCE_S, Guest
from tests.certificates import issued
from tests.ports import free_port
from tests.system.conftest import PASSWORD, Commands, Process
from typer.testing import CliRunner

from bester.cli.gadget import gadget
from bester_gadgets.kitchen.main import read
from bester_gadgets.kitchen.settings import Broker as BrokerSettings
from bester_gadgets.kitchen.source import SourceAway
from bester_gadgets.settings import SettingsError

aiomqtt = pytest.importorskip("aiomqtt", reason="aiomqtt is not installed")
from bester_gadgets.kitchen.broker import Broker  # noqa: E402 (needs it)

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
BURST = 3000
Heard = tuple[str, bytes, bool]
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
        text += f"persistence true\npersistence_location {self.folder}/\nmax_queued_messages 0\n"
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

    def restart(self) -> None:
        """Ends, with what it has retained on disk, and starts anew."""
        self.process.end()
        self.start()

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
    monkeypatch.delitem(sys.modules, "bester_gadgets.kitchen.broker")
    monkeypatch.setitem(sys.modules, "aiomqtt", None)
    done = CliRunner().invoke(gadget, ["kitchen", str(tmp_path / "kitchen.toml")])
    assert (done.exit_code, "-m pip install 'aiomqtt" in done.stderr) == (1, True)


def test_settings_that_are_wrong_are_all_told(commands: Commands) -> None:
    path = commands.folder / "kitchen.toml"
    path.write_text(
        'type = "dummy"\n[broker]\nport = 0\npassword = "secret"\npasswordFile = "x"\n'
        '[devices."a b"]\ntopic = "x"\n[devices.oven]\ntopic = "home/#"\nsee = ["role:"]\n'
        "[devices.kettle]\nset = {on = {}}\n[unknown]\n"
    )
    done = commands.bester("gadget", "kitchen", "kitchen.toml")
    assert done.returncode == 2
    assert "secret" not in done.stderr
    for told in (
        "type: the type dummy is the server's own",
        "broker.port",
        "1 to 64 characters, without spaces",
        "devices.oven.topic: a topic has 1 to 512 bytes and no wildcards",
        "devices.oven.see.0: allowed: accounts, role:NAME, server:NAME, or a username",
        "devices.kettle.set.on: allowed: values, or min and max, or maxLength",
        "unknown: there is no such key",
    ):
        assert told in done.stderr, done.stderr
    path.write_text('[devices.x]\ntopic = "x"\n[broker]\ntls = true\nca = "missing.pem"\n')
    with pytest.raises(SettingsError, match=r"broker\.ca"):
        read(path)
    path.write_text('[devices.x]\ntopic = "x"\n[broker]\npasswordFile = "missing"\n')
    with pytest.raises(SettingsError, match=r"broker\.passwordFile"):
        read(path)


def test_the_command_wants_one_of_two_things() -> None:
    for words in (["kitchen"], ["kitchen", "kitchen.toml", "--simulate"]):
        done = CliRunner().invoke(gadget, words)
        assert (done.exit_code, "either SETTINGS or --simulate" in done.stderr) == (2, True)


@asynccontextmanager
async def heard(broker: Mosquitto, version: Literal["3.1.1", "5"]) -> AsyncIterator[asyncio.Queue[Heard]]:
    """Yields what comes below ``s``."""
    got: asyncio.Queue[Heard] = asyncio.Queue()
    source = Broker(BrokerSettings(port=broker.port, username="kitchen", version=version), lambda: "broth", 1000)
    working = asyncio.ensure_future(source.run(["s/#"], lambda *what: got.put_nowait(what)))
    try:
        yield got
    finally:
        working.cancel()
        await asyncio.wait([working])


@needs_broker
async def test_a_burst_slows_the_broker_down_and_nothing_is_lost(broker: Mosquitto) -> None:
    async with broker.device() as device, asyncio.timeout(PATIENCE_S):
        device.pending_calls_threshold = BURST
        await asyncio.gather(*(device.publish(f"s/{n}", str(n), qos=1, retain=True) for n in range(BURST)))
        async with heard(broker, "5") as got:
            found = [await got.get() for _ in range(BURST)]
    assert {topic for topic, _, _ in found} == {f"s/{n}" for n in range(BURST)}
    assert all(retained for _, _, retained in found)


@needs_broker
@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_what_was_retained_long_ago_is_no_news_again(broker: Mosquitto, version: Literal["3.1.1", "5"]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        async with broker.device() as device:
            for topic in ("s/oven", "s/door"):
                await device.publish(topic, "old", qos=1, retain=True)
        async with heard(broker, version) as got:
            assert {await got.get(), await got.get()} == {("s/oven", b"old", True), ("s/door", b"old", True)}
            async with broker.device() as device:
                await device.publish("s/oven", "new", qos=1)
                assert await got.get() == ("s/oven", b"new", False)
                await device.publish("s/door", "new", qos=1, retain=True)
                assert await got.get() == ("s/door", b"new", False)
            broker.restart()
            async with broker.device() as device:
                await device.publish("s/last", "1", qos=1, retain=True)
            while (found := await got.get())[0] != "s/last":
                # Of the door's value an older broker's client cannot know that it is the one that came live.
                assert (version, found) == ("3.1.1", ("s/door", b"new", True))


@needs_broker
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_over_tls_to_an_older_broker(commands: Commands) -> None:
    """With a certificate of an authority, in MQTT 3.1.1; one of another authority is not believed."""
    authority = trustme.CA()
    papers = issued(commands.folder, authority, "127.0.0.1")
    authority.cert_pem.write_to_path(str(commands.folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(commands.folder / "other.pem"))
    port = free_port()
    text = f"listener {port} 127.0.0.1\ncertfile {papers.certificate}\nkeyfile {papers.key}\nallow_anonymous true\n"
    (commands.folder / "mosquitto.conf").write_text(text + "log_dest stderr\nuser root\n")
    assert MOSQUITTO is not None
    process = Process([MOSQUITTO, "-c", "mosquitto.conf"], commands.folder)
    try:
        process.wait_for_log(" running")
        await over_tls(commands.folder / "ca.pem", port, right=True)
        await over_tls(commands.folder / "other.pem", port, right=False)
    finally:
        process.end()
    gc.collect()  # paho leaves a socket whose handshake failed to the garbage collector, which warns of it


async def over_tls(ca: Path, port: int, *, right: bool) -> None:
    broker = Broker(BrokerSettings(port=port, tls=True, ca=ca, version="3.1.1"), None, 1000)
    got: asyncio.Queue[tuple[str, bytes, bool]] = asyncio.Queue()
    working = asyncio.ensure_future(broker.run(["a/#"], lambda *what: got.put_nowait(what)))
    try:
        async with asyncio.timeout(PATIENCE_S if right else 0.1):
            while not broker.connected:
                await asyncio.sleep(0.005)
            await broker.publish("a/b", b"1")
            assert await got.get() == ("a/b", b"1", False)
        assert right
    except TimeoutError:
        assert not right
        with pytest.raises(SourceAway):
            await broker.publish("a/b", b"2")
    finally:
        working.cancel()
        await asyncio.wait([working])
