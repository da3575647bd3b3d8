"""Handlers that the server starts itself (docs/protocol.md, section 10.1)."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.server.peers import Wire, hello, script
from tests.waiting import until

from bester.config import parse
from bester.server.server import Server
from bester.testing import PASSWORD

HANDLER = """\
import json, os, socket, struct, sys
print("at work as", os.environ["BESTER_TYPE"], flush=True)
print("a \\x1b[31mline", file=sys.stderr, flush=True)
with socket.socket(socket.AF_UNIX) as listening:
    listening.bind(os.environ["BESTER_SOCKET"])
    listening.listen()
    while True:
        connection, _ = listening.accept()
        with connection:
            (size,) = struct.unpack("<I", connection.recv(4, socket.MSG_WAITALL))
            asked = json.loads(connection.recv(size, socket.MSG_WAITALL))
            if asked == "crash":
                os._exit(3)
            told = {"cwd": os.getcwd(), "more": os.environ.get("MORE"), "pid": os.getpid()}
            answer = {"header": {"status": "0", "command": {"type": "reply"}}, "data": told}
            body = json.dumps(answer).encode()
            connection.sendall(struct.pack("<I", len(body)) + body)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, since those of sockets are limited."""
    with tempfile.TemporaryDirectory(prefix="bester-") as name:
        yield Path(name).resolve()


@asynccontextmanager
async def serving(folder: Path, **more: Any) -> AsyncIterator[tuple[Server, Wire]]:
    """Runs a server that starts a handler for the type ``work``, with a client."""
    types = {"work": {"handlerBinary": "./work", "unixDomainSocketPath": "workSocket", **more}}
    tree = {
        "network": {"unix": {"address": "clients"}},
        "handlers": {"typeMap": types},
        "accounts": {"registration": "firstUse"},
    }
    server = Server(await asyncio.to_thread(parse, json.dumps(tree), folder))
    await server.start()
    try:
        wire = Wire(*await asyncio.open_unix_connection(folder / "clients"))
        wire.send(hello("t", PASSWORD))
        await wire.good("auth_special")
        yield server, wire
        await wire.leave()
    finally:
        await server.stop()


async def work(wire: Wire) -> Any:
    """Asks the handler, and returns what it told."""
    wire.ask("work", "1", "tell")
    told = (await wire.get())["payload"]["data"]
    await wire.good("1")
    return told


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_started_with_the_server_and_stopped_with_it(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    script(folder / "work", HANDLER)
    caplog.set_level(logging.INFO, "bester")
    async with serving(folder, environment={"MORE": "more"}) as (_, wire):
        # At once: the first message waits until the handler has its socket.
        told = await work(wire)
        assert told["cwd"] == str(folder)
        assert told["more"] == "more"
        await until(lambda: "a \ufffd[31mline" in caplog.text)
        assert "at work as work" in caplog.text
        assert "MORE" not in caplog.text
    assert not alive(told["pid"])


async def test_restarted_after_a_crash(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The socket that it left behind is removed, so that a simple handler can bind there again."""
    script(folder / "work", HANDLER)
    caplog.set_level(logging.INFO, "bester")
    async with serving(folder) as (server, wire):
        first = await work(wire)
        wire.ask("work", "2", "crash")
        assert await wire.bad("2") == "handlerUnavailable"
        state = server.supervisor.state("work")
        assert state is not None

        def starts() -> Any:
            now = server.supervisor.state("work")
            return now and now["starts"]

        await until(lambda: starts() == 2)
        second = await work(wire)
        assert second["pid"] != first["pid"]
        assert "its handler ended with 3" in caplog.text
        os.kill(second["pid"], signal.SIGKILL)
        await until(lambda: starts() == 3)
        third = await work(wire)
    assert not alive(third["pid"])


async def test_one_that_answers_already_is_left_alone(folder: Path) -> None:
    script(folder / "work", HANDLER)
    answering = await asyncio.start_unix_server(lambda _, writer: writer.close(), folder / "workSocket")
    async with serving(folder) as (server, wire):
        wire.ask("work", "1")
        assert await wire.bad("1") == "handlerUnavailable"
        assert server.supervisor.state("work") == {"pid": None, "starts": 0, "lastExit": None}
        answering.close()
        await answering.wait_closed()
        # The next message finds that it is gone, and starts it.
        wire.ask("work", "2")
        assert await wire.bad("2") == "handlerUnavailable"
        await until(lambda: (server.supervisor.state("work") or {})["pid"])
        await work(wire)


async def test_a_dead_socket_is_removed_before_the_start(folder: Path) -> None:
    script(folder / "work", HANDLER)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / "workSocket"))
    async with serving(folder) as (_, wire):
        assert (await work(wire))["pid"]


async def test_one_that_does_not_end_when_asked_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bester.server.handlers.processes.STOP_S", 0.1)
    script(folder / "work", "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + HANDLER)
    async with serving(folder) as (_, wire):
        told = await work(wire)
    assert not alive(told["pid"])


async def test_its_children_end_with_it(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bester")
    script(folder / "work", "import subprocess\nprint('child', subprocess.Popen(['sleep', '1000']).pid)\n" + HANDLER)
    async with serving(folder) as (_, wire):
        await work(wire)
        await until(lambda: "child " in caplog.text)
        child = int(caplog.text.split("child ")[1].split()[0])
        assert alive(child)
    stat = Path(f"/proc/{child}/stat")
    await until(lambda: not alive(child) or "Z" in stat.read_text(encoding="utf-8").rsplit(")")[1])


async def test_one_that_cannot_be_started(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The server starts all the same; its type is unavailable, and it is tried again."""
    caplog.set_level(logging.INFO, "bester")
    path = script(folder / "work", "")
    path.write_text("#!/nonexistent/interpreter\n", encoding="utf-8")
    async with serving(folder) as (_, wire):
        assert "cannot be started" in caplog.text
        wire.ask("work", "1")
        assert await wire.bad("1") == "handlerUnavailable"
        script(path, HANDLER)
        caplog.clear()
        await until(lambda: "at work" in caplog.text)
        await work(wire)
