"""``bester handler record`` and ``shadow`` beside a running server."""

from __future__ import annotations

import json
import signal
import stat
import sys
from typing import Any

import pytest
from tests.system.conftest import Commands, Process
from tests.waiting import until_sync

from bester.cli.control import Control

HANDLER = """
from bester import Handler, Refuse, Reply
handler = Handler()

@handler.on("order")
def order(request):
    if request.data == "refuse":
        raise Refuse("no", code="shop.no")
    if request.data == "end" and {add}:
        raise SystemExit
    return Reply({{"n": request.data, "price": {add}, "card": "4111"}})

handler.run()
"""


@pytest.fixture
def shop(commands: Commands) -> Commands:
    """A server whose handler of orders is attached."""
    commands.configure(accounts={"registration": "firstUse"})
    commands.serve()
    (commands.folder / "shop.py").write_text(HANDLER.format(add=0))
    (commands.folder / "new.py").write_text(HANDLER.format(add=1))
    python(commands, "shop.py").wait_for_log("attached to besterHandlers")
    return commands


def python(commands: Commands, file: str) -> Process:
    process = Process([sys.executable, file], commands.folder)
    commands._running.append(process)
    return process


def order(shop: Commands, *orders: Any) -> None:
    for data in orders:
        shop.bester("ask", f"{shop.url}?user=t", "order", json.dumps(data))


def record(shop: Commands, *arguments: str) -> Process:
    """Starts a recording, and returns when the server records."""
    return begun(shop, shop.start("bester", "handler", "record", "order", *arguments))


def begun(shop: Commands, process: Process) -> Process:
    process.wait_for_log("^C ends it")
    with Control(shop.folder / "besterControl") as control:
        until_sync(lambda: control.run("status")["recordings"], tell=process.told)
    return process


def test_it_is_ended_in_order(shop: Commands) -> None:
    recording = record(shop, "-o", "r", "--redact", "$..card", "--redact", "$.request.from.user", "--twice")
    (shop.folder / "r").chmod(0o600)
    order(shop, 1, "refuse")
    until_sync(lambda: (shop.folder / "r").read_text().count("\n") == 3, tell=recording.told)
    assert recording.stop(signal.SIGINT) == 0
    assert recording.lines[-1].startswith("r: 2 requests, 0 lost, in ")
    assert stat.S_IMODE((shop.folder / "r").stat().st_mode) == 0o600
    head, one, two = [json.loads(line) for line in (shop.folder / "r").read_text().splitlines()]
    assert (head["server"], head["type"], head["redacted"]) == (
        "a.example",
        "order",
        ["$..card", "$.request.from.user"],
    )
    assert one["request"]["from"] == {"user": "redacted", "server": "a.example", "verified": True}
    assert one["outcome"] == one["again"]
    (command,) = one["outcome"]["commands"]
    assert command["payload"]["data"] == {"n": 1, "price": 0, "card": "redacted"}
    assert two["outcome"] == {"refused": {"code": "shop.no", "message": "no"}}
    done = shop.bester("handler", "record", "order", "-o", "r")
    assert (done.returncode, done.stdout) == (2, "")
    assert "r exists already: name another file with -o" in done.stderr
    for file, status in (("shop.py", 0), ("new.py", 1)):
        assert shop.bester("handler", "replay", "r", f"{sys.executable} {file}").returncode == status


def test_it_ends_by_itself(shop: Commands) -> None:
    recording = record(shop, "--max", "500", "--json")
    order(shop, 1, 2, 3, 4)
    assert recording.wait() == 0
    told = json.loads(recording.lines[-1])
    assert told["recorded"] in (1, 2)
    assert "has reached its largest size (--max)" in recording.told()
    (file,) = shop.folder.glob("order-*.jsonl")
    assert told["file"] == file.name
    assert file.stat().st_size <= 500
    done = shop.bester("handler", "record", "order", "--for", "0.2s", "-o", "short", "--sample", "0.5")
    assert (done.returncode, done.stdout[:22]) == (0, "short: 0 requests, 0 l")


def test_what_is_refused(shop: Commands) -> None:
    for wrong in (["--for", "5x"], ["--max", "5x"], ["--redact", "card"], ["-o", "no/such/folder"]):
        done = shop.bester("handler", "record", "order", *wrong)
        assert (done.returncode, done.stdout) == (2, ""), wrong
    done = shop.bester("handler", "record", "order", "--sample", "2", "-o", "r")
    assert (done.returncode, "sample must be above 0 and at most 1" in done.stderr) == (1, True)
    record(shop, "-o", "first")
    done = shop.bester("handler", "record", "order", "-o", "r")
    assert (done.returncode, "the type order is being recorded already" in done.stderr) == (1, True)
    assert not (shop.folder / "r").exists()


def test_a_server_that_stops(shop: Commands) -> None:
    recording = record(shop, "-o", "r")
    order(shop, 1)
    shop._running[0].stop()
    assert recording.wait() in (1, 3)
    assert "r: 1 requests" in recording.told()
    done = shop.bester("handler", "record", "order", "-o", "other")
    assert (done.returncode, "no server is running" in done.stderr) == (3, True)
    assert not (shop.folder / "other").exists()
    done = shop.bester("handler", "shadow", "order", f"{sys.executable} new.py")
    assert (done.returncode, "no server is running" in done.stderr) == (3, True)


def shadow(shop: Commands, *arguments: str) -> Process:
    command = ("handler", "shadow", "order", f"{sys.executable} new.py", *arguments)
    return begun(shop, shop.start("bester", *command))


def test_a_shadow(shop: Commands) -> None:
    following = shadow(shop, "--twice")
    assert "order by unix:uid " in shop.bester("status").stdout
    order(shop, 1, "refuse")
    following.wait_for("request 1 of t: commands[0].payload.data.price: 0 -> 1")
    with Control(shop.folder / "besterControl") as control:
        until_sync(lambda: control.run("status")["recordings"][0]["recorded"] == 2)
    assert following.stop(signal.SIGINT) == 1
    assert following.lines[1:] == [
        "1 x commands[*].payload.data.price",
        "    request 1: commands[0].payload.data.price: 0 -> 1",
        "2 requests, 1 differ",
    ]


def test_a_shadow_whose_server_stops_tells_what_it_saw(shop: Commands) -> None:
    following = shadow(shop)
    order(shop, 1)
    following.wait_for("request 1 of t: commands[0].payload.data.price: 0 -> 1")
    shop._running[0].stop()
    assert following.wait() in (1, 3)
    assert "1 requests, 1 differ" in following.told()


def test_a_shadow_in_json(shop: Commands) -> None:
    following = shadow(shop, "--json")
    order(shop, 1)
    told = json.loads(following.wait_for('"differences"'))
    assert told["from"]["user"] == "t"
    assert told["differences"] == [{"place": "commands[0].payload.data.price", "before": 0, "after": 1}]
    assert following.stop(signal.SIGTERM) == 1
    summary = json.loads(following.lines[-1])
    assert (summary["asked"], summary["different"], summary["lost"], summary["same"]) == (1, 1, 0, False)


def test_a_shadow_that_ends(shop: Commands) -> None:
    (shop.folder / "new.py").write_text(
        "import os, bester\nhandler = bester.Handler()\n"
        "@handler.on('order')\ndef order(request):\n    os._exit(3)\nhandler.run()\n"
    )
    following = shadow(shop)
    order(shop, 1)
    assert following.wait() == 1
    assert "warning: the changed handler is gone: its process ended with 3" in following.told()
    done = shop.bester("handler", "shadow", "order", f"{sys.executable} -c pass")
    assert (done.returncode, "neither attached nor listened" in done.stderr) == (2, True)
