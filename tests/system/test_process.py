"""``besterd`` as a process among others: signals, children that are left over, a log that nobody reads."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.system.conftest import BIN, environment
from tests.waiting import PATIENCE_S, until_sync

if TYPE_CHECKING:
    from tests.system.conftest import Commands


def children(pid: int) -> dict[int, str]:
    """Returns the states of a process's children, by their pids."""
    found = {}
    for one in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = one.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if parent == str(pid):
            found[int(one.parent.name)] = state
    return found


# -- signals at the start ----------------------------------------------------------------------------------------


def test_a_server_that_waits_for_its_database_can_be_stopped(commands: Commands) -> None:
    config = commands.configure(network={"unix": {"address": "socket"}})
    assert commands.bester("account", "add", "a").returncode == 0
    holding = sqlite3.connect(commands.folder / "bester.db", isolation_level=None)
    holding.execute("BEGIN IMMEDIATE")
    server = commands.start("besterd", str(config))
    until_sync((commands.folder / "bester.db-lock").exists)
    assert server.stop() == 0
    assert "besterd: stopped before it was ready" in server.lines
    assert not (commands.folder / "socket").exists()
    holding.close()


def test_a_reload_that_is_asked_for_at_the_start_comes_when_it_is_ready(commands: Commands) -> None:
    config = commands.configure(network={"unix": {"address": "socket"}})
    assert commands.bester("account", "add", "a").returncode == 0
    holding = sqlite3.connect(commands.folder / "bester.db", isolation_level=None)
    holding.execute("BEGIN IMMEDIATE")
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(commands.folder / "notify"))
    manager.settimeout(PATIENCE_S)
    server = commands.start("besterd", str(config), NOTIFY_SOCKET=str(commands.folder / "notify"))
    until_sync((commands.folder / "bester.db-lock").exists)
    server.send_signal(signal.SIGHUP)
    holding.execute("ROLLBACK")
    told = [manager.recv(4096).decode().split("\n")[0] for _ in range(2)]
    assert told[0] == "READY=1"
    assert (commands.folder / "socket").exists()
    while "RELOADING=1" not in told:
        told.append(manager.recv(4096).decode().split("\n")[0])
    assert server.stop() == 0
    holding.close()
    manager.close()


def test_signals_before_the_configuration_is_read_do_no_harm(commands: Commands) -> None:
    os.mkfifo(commands.folder / "server.conf")
    for number, status in ((signal.SIGTERM, 0), (signal.SIGHUP, 2)):
        server = commands.start("besterd", "server.conf")
        writing = os.open(commands.folder / "server.conf", os.O_WRONLY)  # returns when the server reads it
        server.send_signal(number)
        if status:
            os.write(writing, b"no configuration")
        os.close(writing)
        assert server.wait() == status


# -- a log that nobody reads -------------------------------------------------------------------------------------


def test_a_log_that_nobody_reads_stops_nothing(commands: Commands) -> None:
    commands.configure(network={"unix": {"address": "socket"}})
    reading, writing = os.pipe()
    with subprocess.Popen(
        [BIN / "besterd", "server.conf"], cwd=commands.folder, env=environment(), stdout=subprocess.PIPE, stderr=writing
    ) as server:
        os.close(writing)
        assert server.stdout is not None
        while b"is ready" not in server.stdout.readline():
            pass
        for _ in range(1000):  # each leaves a line of more than 64 bytes
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(commands.folder / "socket"))
                client.sendall(b"\0\0\0\0")
                assert client.recv(4)
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE_S) == 0
    os.close(reading)


# -- other processes ---------------------------------------------------------------------------------------------


def handler(commands: Commands, script: str) -> None:
    path = commands.folder / "handler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    types = {"work": {"handlerBinary": "./handler", "unixDomainSocketPath": "work"}}
    commands.configure(network={"unix": {"address": "socket"}}, handlers={"typeMap": types})


def test_a_killed_server_takes_its_handlers_along(commands: Commands) -> None:
    pids = commands.folder / "pids"
    handler(commands, f"sleep 60 & echo $! > {pids}.new; echo $$ >> {pids}.new; mv {pids}.new {pids}; wait")
    server = commands.start("besterd", "server.conf")
    until_sync(pids.exists)
    server.wait_for("is ready")
    begun = [int(line) for line in pids.read_text().split()]
    assert all(Path(f"/proc/{pid}").exists() for pid in begun)
    server.stop(signal.SIGKILL)

    def gone(pid: int) -> bool:
        try:
            return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return True

    until_sync(lambda: all(map(gone, begun)))


def test_process_1_waits_for_processes_that_lost_their_parents(commands: Commands) -> None:
    unshare = shutil.which("unshare")
    prefix = [str(unshare), "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if unshare is None or subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        pytest.skip("there are no namespaces here")
    left = commands.folder / "left"
    handler(commands, f"for i in 1 2 3; do (setsid sh -c 'echo >> {left}' &); done; exec sleep 60")
    with subprocess.Popen(
        [*prefix, BIN / "besterd", "server.conf"],
        cwd=commands.folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as outside:
        assert outside.stdout is not None
        while b"is ready" not in outside.stdout.readline():
            pass
        (first,) = children(outside.pid)
        until_sync(lambda: left.exists() and left.read_text() == "\n\n\n")
        until_sync(lambda: len(children(first)) == 1)  # the server; nothing waits to be reaped
        assert "Z" not in children(first).values()
        os.kill(first, signal.SIGHUP)  # is passed on, and ends nothing
        os.kill(first, signal.SIGTERM)
        assert outside.wait(PATIENCE_S) == 0
        assert b"besterd: stopped\n" in outside.stdout.read()
