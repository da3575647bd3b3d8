"""``besterd --nodes``: several processes are one server; whoever of them dies is started again; nothing is left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.nats import find_nats
from tests.ports import free_ports
from tests.system.conftest import PASSWORD, TIMEOUT_S, Process
from tests.waiting import until, until_sync

from bester import Client, Handler, SendClients
from bester.cli.control import Control

if TYPE_CHECKING:
    from tests.system.conftest import Commands


@pytest.fixture(autouse=True)
def _has_nats() -> None:
    find_nats()


def start(commands: Commands, count: int = 2) -> Process:
    server = commands.start("besterd", "--nodes", str(count), "server.conf")
    server.wait_until(lambda line: line == "besterd: a.example is ready", "server")
    return server


def children(pid: int) -> dict[str, int]:
    """The processes that a parent has: ``1``, ``2`` and ``nats``, as far as they run."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue  # it has just ended
        if parent == pid and words[0]:
            found[words[words.index("--node") + 1] if "--node" in words else "nats"] = int(folder.name)
    return found


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]) != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def sockets(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_socket())


def client(path: Path, user: str) -> Client:
    return Client(f"bester+unix:{path}", username=user, password=PASSWORD, reconnect=True)


async def goes_through(sender: Client, receiver: Client, to: str, text: str) -> None:
    """Sends until it is good: a node that has just died has to be missed by the others."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            report = await sender.send("chat", {"to": to, "text": text}, once=True)
            if report.good:
                break
        except Exception:
            if time.monotonic() > deadline:
                raise
    while (await receiver.receive(TIMEOUT_S)).data["text"] != text:
        pass


async def talk_and_kill(commands: Commands, server: Process) -> None:
    folder = commands.folder
    handler = Handler(str(folder / "besterHandlers"))
    handler.on("chat")(lambda message: SendClients([message.data["to"]], message.data))
    pids = children(server.pid)
    assert pids.keys() == {"1", "2", "nats"}
    async with handler:
        await handler.wait_attached(TIMEOUT_S)
        async with client(folder / "socket", "alice") as first, client(folder / "socket.2", "bob") as second:
            await goes_through(first, second, "bob", "from one node to the other")
            await goes_through(second, first, "alice", "and back, by a handler of the other one")

            os.kill(pids["2"], signal.SIGKILL)
            server.wait_for("node 2: a.example is ready")
            await goes_through(first, second, "bob", "to a node that died")
            os.kill(pids["nats"], signal.SIGKILL)
            await until(lambda: not alive(pids["nats"]))
            await goes_through(second, first, "alice", "over a NATS that died")
        # Kept, and acknowledged by what is on disk.
        async with client(folder / "socket.2", "bob") as second:
            assert (await second.send("chat", {"to": "carol", "text": "later"})).good


def test_two_nodes_are_one_server(commands: Commands) -> None:
    (port,) = free_ports(1)
    network = {"unix": {"address": "socket"}, "tcp4": {"address": "127.0.0.1", "port": port}}
    accounts = {"registration": "firstUse"}
    commands.configure(network=network, accounts=accounts, handlers={"typeMap": {"chat": {}}}, log={"level": "warning"})
    assert commands.bester("account", "add", "carol").returncode == 0
    server = start(commands)
    assert any("taken over from" in line and "1 accounts" in line for line in server.lines)
    access = commands.folder / "bester.db.nodes" / "access.json"
    assert stat.S_IMODE(access.stat().st_mode) == 0o600
    assert json.loads(access.read_text())["token"] not in server.log.read_text()
    assert stat.S_IMODE(access.parent.stat().st_mode) == 0o700

    connected = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
    assert all(connections(commands.folder / name) > 1 for name in ("besterControl", "besterControl.2"))
    for one in connected:
        one.close()
    busy = commands.besterd("--nodes", "2", "server.conf")
    assert (busy.returncode, f"cannot listen on tcp4://127.0.0.1:{port}" in busy.stderr) == (1, True)
    asyncio.run(talk_and_kill(commands, server))

    pids = list(children(server.pid).values())
    assert server.stop() == 0
    assert server.lines[-2:] == ["besterd: node 1: stopped", "besterd: stopped"]
    assert not any(map(alive, pids))
    assert sockets(commands.folder) == []

    alone = commands.besterd("server.conf")
    assert (alone.returncode, "start it with --nodes again" in alone.stderr) == (2, True)
    for arguments, status in ((("account", "list"), 3), (("backup", "copy.db"), 2)):
        refused = commands.bester(*arguments)
        assert (refused.returncode, "besterd --nodes" in refused.stderr) == (status, True)

    again = start(commands)
    assert not any("taken over" in line for line in again.lines)
    asyncio.run(find_mail(commands.folder))
    # An operator's drain of one of them is one of the server.
    with Control(commands.folder / "besterControl.2") as control:
        control.run("drain")
    assert again.wait() == 0
    assert sockets(commands.folder) == []


async def find_mail(folder: Path) -> None:
    async with client(folder / "socket.2", "carol") as carol:
        assert (await carol.receive(TIMEOUT_S)).data["text"] == "later"


def connections(path: Path) -> int:
    """How many connections a node has, with the one that asks."""
    with Control(path) as control:
        return int(control.run("status")["connections"])


def test_nothing_outlives_a_parent_that_is_killed(commands: Commands) -> None:
    commands.configure(log={"level": "warning"})
    server = start(commands, 1)
    pids = children(server.pid)
    assert pids.keys() == {"1", "nats"}
    server.send_signal(signal.SIGKILL)
    until_sync(lambda: not any(map(alive, pids.values())))
    assert sockets(commands.folder) == []


def test_what_cannot_be_several_nodes_is_refused(commands: Commands) -> None:
    for arguments in (["--nodes"], ["--nodes", "0"], ["--nodes", "65"], ["--nodes", "x", "server.conf"]):
        result = commands.besterd(*arguments)
        assert (result.returncode, "Usage: besterd [--nodes N]" in result.stderr) == (2, True)
    commands.configure(network={"tcp4": {"port": 0}})
    result = commands.besterd("--nodes", "2", "server.conf")
    assert result.returncode == 2
    assert "network.tcp4.port: found 0, allowed: with --nodes, a port from 1 to 65535" in result.stderr
    commands.configure(network={"web": {"port": 8080}})
    assert "no listener but web" in commands.besterd("--nodes", "2", "server.conf").stderr
    commands.configure()
    result = commands.besterd("--node", "2", "server.conf")
    assert (result.returncode, "start all of them with: besterd --nodes N" in result.stderr) == (2, True)


def test_a_node_that_cannot_start_stops_all(commands: Commands) -> None:
    commands.configure(log={"level": "warning"})
    (commands.folder / "socket").touch()
    result = commands.besterd("--nodes", "1", "server.conf")
    assert result.returncode == 1
    assert "socket: there is a file of that name that is no socket" in result.stderr
    assert result.stdout.endswith("besterd: stopped\n")
    assert sockets(commands.folder) == []
