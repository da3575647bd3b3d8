"""What waits for other servers, with real processes: kept over kill -9, and in an operator's hands."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.system.conftest import Commands
from tests.waiting import PATIENCE_S, until_sync

from bester.protocol.framing import Framer, frame

FEDERATION = {"retryMin": 0.05, "retryMax": 0.2}


class Accepting(ABC):
    """A socket that somebody connects to, served one connection after the other."""

    def __init__(self, path: Path) -> None:
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._connected: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connected, _ = self._listening.accept()
            except OSError:
                return
            self._connected = connected
            with connected, contextlib.suppress(OSError):
                framer = Framer(1 << 20)
                while data := connected.recv(65536):
                    for body in framer.feed(data):
                        connected.sendall(frame(json.dumps(self.answer(json.loads(body))).encode()))

    @abstractmethod
    def answer(self, message: Any) -> Any:
        """Returns what is answered to a message."""

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        if self._connected is not None:
            with contextlib.suppress(OSError):
                self._connected.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_S)


class Sending(Accepting):
    """A classic handler that sends everything on to the other server."""

    def answer(self, message: Any) -> Any:
        return {"header": {"status": "0", "command": {"type": "sendServers", "data": ["unix:other"]}}, "data": message}


class Other(Accepting):
    """Another server: it grants links, and reports what it gets good."""

    def __init__(self, path: Path) -> None:
        self.messages: list[Any] = []
        self.arrived = threading.Condition()
        super().__init__(path)

    def answer(self, message: Any) -> Any:
        payload = {"id": message["payload"]["id"]}
        if message["header"].get("features"):
            payload["features"] = ["link"]
        else:
            with self.arrived:
                self.messages.append(message["payload"])
                self.arrived.notify_all()
        return {"header": {"messageType": "statusReport", "status": "good"}, "payload": payload}

    def wait_for(self, count: int) -> list[Any]:
        """Returns the data of so many messages, each id's once, in the order in which they first came."""

        def ids() -> set[str]:
            return {one["id"] for one in self.messages}

        with self.arrived:
            assert self.arrived.wait_for(lambda: len(ids()) >= count, PATIENCE_S), self.messages
            return list({one["id"]: one["data"] for one in reversed(self.messages)}.values())[::-1]


@pytest.fixture
def ready(commands: Commands) -> Iterator[Commands]:
    """A configured server, not yet running, whose handler sends on."""
    types = {"chat": {"unixDomainSocketPath": "chat"}}
    commands.configure(federation=FEDERATION, handlers={"typeMap": types}, accounts={"registration": "firstUse"})
    handler = Sending(commands.folder / "chat")
    yield commands
    handler.close()


@pytest.fixture
def other(ready: Commands) -> Iterator[Callable[[], Other]]:
    """Starts the other server."""
    with contextlib.ExitStack() as stack:

        def begin() -> Other:
            started = Other(ready.folder / "other")
            stack.callback(started.close)
            return started

        yield begin


def send(commands: Commands, data: int) -> str | None:
    """Sends a message, and returns what became of it; None where no report came."""
    first = {"header": {"scope": "client", "authentication": {"username": "t", "password": "secret"}}}
    message = first | {"payload": {"type": "chat", "id": "1", "data": data}}
    framer = Framer(1 << 20)
    with socket.socket(socket.AF_UNIX) as connected:
        connected.settimeout(PATIENCE_S)
        connected.connect(str(commands.folder / "socket"))
        connected.sendall(frame(json.dumps(message).encode()))
        while read := connected.recv(65536):
            for body in framer.feed(read):
                payload = json.loads(body)["payload"]
                if payload["id"] == "1":
                    return str(payload["results"][0]["status"])
    return None


def rows(commands: Commands, *arguments: str) -> list[Any]:
    """Returns what waits."""
    listed = commands.bester("queue", "list", "--json", *arguments)
    assert listed.returncode == 0, listed.stderr
    return [json.loads(line) for line in listed.stdout.splitlines()]


def test_what_was_reported_good_outlives_a_kill(ready: Commands, other: Callable[[], Other]) -> None:
    server = ready.serve()
    assert [send(ready, data) for data in range(3)] == ["queued"] * 3
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    ready.serve()
    assert other().wait_for(3) == [0, 1, 2]
    until_sync(lambda: not rows(ready))


@pytest.mark.parametrize("point", ["outbox.stored:2", "link.written:1", "link.reported:1", "outbox.removed:1"])
def test_a_server_that_dies_at_any_point_loses_nothing(ready: Commands, other: Callable[[], Other], point: str) -> None:
    server = ready.serve()
    assert [send(ready, data) for data in range(2)] == ["queued"] * 2
    server.stop(signal.SIGKILL)
    doomed = ready.start("besterd", "server.conf", BESTER_DIE_AT=point)
    expected = [0, 1]
    if point == "outbox.stored:2":
        doomed.wait_for("is ready")
        assert send(ready, 2) == "queued"
        assert send(ready, 3) is None  # it died before it could report, and after the message was on disk
        expected = [0, 1, 2, 3]
        assert doomed.wait() == -signal.SIGKILL
        there = other()
    else:
        there = other()
        assert doomed.wait() == -signal.SIGKILL
    ready.serve()
    assert there.wait_for(len(expected)) == expected
    until_sync(lambda: not rows(ready))


def test_the_operators_commands(ready: Commands, other: Callable[[], Other]) -> None:
    ready.configure(
        federation={"retryMin": 3600, "retryMax": 3600},
        handlers={"typeMap": {"chat": {"unixDomainSocketPath": "chat"}}},
        accounts={"registration": "firstUse"},
    )
    ready.serve()
    assert "no messages" in ready.bester("queue", "list").stdout
    assert [send(ready, data) for data in range(3)] == ["queued"] * 3
    first, second, third = (row["id"] for row in rows(ready))
    assert [row["id"] for row in rows(ready, "--server", "unix:other", "--after", str(first), "--limit", "1")] == [
        second
    ]
    assert rows(ready, "--dead") == []
    assert "unix:other" in ready.bester("queue", "list").stdout
    assert "data: 1" in ready.bester("queue", "show", str(second)).stdout
    assert json.loads(ready.bester("queue", "show", str(third), "--json").stdout)["data"] == "2"
    assert "1 messages removed" in ready.bester("queue", "drop", str(second)).stdout
    status = ready.bester("status").stdout
    assert "3 queued" in status
    assert "serverUnreachable" in status
    for arguments in (["retry"], ["drop"], ["retry", "1", "--all"], ["drop", "1", "--server", "a"]):
        assert ready.bester("queue", *arguments).returncode == 2
    assert ready.bester("queue", "show", "999").returncode == 1
    for command in ("retry", "drop"):
        result = ready.bester("queue", command, "999")
        assert (result.returncode, "no message 999" in result.stderr) == (1, True), result
    there = other()
    assert ready.bester("queue", "retry", "--all").returncode == 0
    assert there.wait_for(2) == [0, 2]
    until_sync(lambda: not rows(ready))
    assert json.loads(ready.bester("queue", "drop", "--dead", "--json").stdout) == {"messages": 0}
