"""``besterd`` under a service manager: what it says on the manager's socket (docs/operating.md)."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from tests.waiting import PATIENCE_S

if TYPE_CHECKING:
    from tests.system.conftest import Commands, Process


class Manager:
    """The manager's socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(b"\0" + address[1:].encode() if address.startswith("@") else address)
        self.socket.settimeout(PATIENCE_S)
        self.watchdogs: list[float] = []

    def next(self, wanted: str) -> dict[str, str]:
        """Returns the next message with this name in it."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert time.monotonic() < deadline, f"no {wanted}"
            said = dict(line.split("=", 1) for line in self.socket.recv(4096).decode().split("\n"))
            if "WATCHDOG" in said:
                self.watchdogs.append(time.monotonic())
            if wanted in said:
                return said


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, commands: Commands) -> Iterator[Manager]:
    where = f"@bester-test-{os.getpid()}" if request.param == "abstract" else str(commands.folder / "notify")
    made = Manager(where)
    yield made
    made.socket.close()


def serve(commands: Commands, manager: Manager, **more: str) -> Process:
    return commands.start("besterd", "server.conf", NOTIFY_SOCKET=manager.address, **more)


def test_the_life_of_a_service(commands: Commands, manager: Manager) -> None:
    told = commands.folder / "told"
    handler = commands.folder / "handler.sh"
    handler.write_text(f"#!/bin/sh\nenv > {told}.new; mv {told}.new {told}; exec sleep 60\n")
    handler.chmod(0o755)
    kinds = {"work": {"handlerBinary": str(handler), "unixDomainSocketPath": "work"}}
    config = commands.configure(handlers={"typeMap": kinds})
    process = serve(commands, manager, WATCHDOG_USEC="200000")
    said = manager.next("READY")
    assert said["STATUS"] == "a.example is ready"
    with socket.socket(socket.AF_UNIX) as client:  # whoever waited for it can connect
        client.connect(str(commands.folder / "socket"))
    assert manager.next("STATUS")["STATUS"].startswith("a.example is ready, ")
    for _ in range(3):
        manager.next("WATCHDOG")

    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    process.send_signal(signal.SIGHUP)
    assert int(manager.next("RELOADING")["MONOTONIC_USEC"]) >= before_us
    assert manager.next("READY") == {"READY": "1"}
    config.write_text("{")
    process.send_signal(signal.SIGHUP)
    manager.next("RELOADING")
    assert manager.next("READY") == {"READY": "1"}
    process.wait_for_log("nothing has changed")

    environment = told.read_text()
    assert "NOTIFY_SOCKET" not in environment
    assert "WATCHDOG" not in environment
    process.send_signal(signal.SIGTERM)
    assert int(manager.next("STOPPING")["EXTEND_TIMEOUT_USEC"]) > 10_000_000
    assert process.wait() == 0


def test_a_server_that_hangs_gives_no_sign_of_life(commands: Commands, manager: Manager) -> None:
    commands.configure()
    process = serve(commands, manager, WATCHDOG_USEC="100000", WATCHDOG_PID="")
    manager.next("WATCHDOG")
    process.send_signal(signal.SIGSTOP)
    manager.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):
        manager.next("never")
    process.send_signal(signal.SIGCONT)
    manager.socket.settimeout(PATIENCE_S)
    manager.next("WATCHDOG")


def test_no_watchdog_of_another_process_and_no_manager(commands: Commands, manager: Manager) -> None:
    commands.configure(server={"name": "b.example"}, limits={"drainTimeout": 0.1})
    process = serve(commands, manager, WATCHDOG_USEC="50000", WATCHDOG_PID="1")
    manager.next("READY")
    process.send_signal(signal.SIGTERM)
    manager.next("STOPPING")
    assert manager.watchdogs == []
    manager.socket.close()
    assert process.wait() == 0
    assert serve(commands, manager).wait_for("is ready")  # a manager that does not listen is no reason to fail


def test_a_configuration_that_is_wrong_is_never_ready(commands: Commands, manager: Manager) -> None:
    (commands.folder / "server.conf").write_text(json.dumps({"nonsense": 1}))
    assert serve(commands, manager).wait() == 2  # which a service manager need not try again
    manager.socket.settimeout(0.0)
    with pytest.raises(BlockingIOError):
        manager.next("READY")
