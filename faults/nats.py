"""NATS servers as processes of their own, which are one cluster, and are killed and started."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from datetime import datetime
from pathlib import Path

from bench.machine import nats_server
from bench.peers import free_ports

from faults.run import Run, Skipped

START_S = 30.0


class Nats:
    """One of them, on loopback, with JetStream.

    Args:
        folder: for its configuration, data and log.
        ports: of its clients, of its health, and of its routes.
        routes: the ports of the others' routes.
    """

    def __init__(self, folder: Path, ports: tuple[int, int, int], routes: list[int]) -> None:
        found = nats_server()
        if found is None:
            raise Skipped("nats-server is not installed")
        self._program = found
        self._folder = folder
        self.port, self._health, own = ports
        others = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        lines = (
            f"server_name: nats{self.port}",
            f"listen: 127.0.0.1:{self.port}",
            f"http: 127.0.0.1:{self._health}",
            "max_payload: 4MB",
            f'jetstream: {{store_dir: "{folder}"}}',
            f"cluster: {{name: faults, listen: 127.0.0.1:{own}, routes: [{others}]}}",
        )
        (folder / "nats.conf").write_text("\n".join(lines))
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Starts it, or starts it again with what it had; does not wait."""
        with (self._folder / "log").open("ab") as log:
            command = (self._program, "-c", str(self._folder / "nats.conf"))
            self._process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)

    def elections(self, since: float) -> list[float]:
        """Returns when it became the leader of a stream; both in seconds since 1970."""
        found: list[float] = []
        for line in (self._folder / "log").read_text(errors="replace").splitlines():
            if "new stream leader" in line:
                _, day, hour = line.split(maxsplit=3)[:3]
                found.append(datetime.strptime(f"{day} {hour}", "%Y/%m/%d %H:%M:%S.%f").timestamp())
        return [at for at in found if at > since]

    async def ready(self) -> None:
        """Returns when its streams can be used.

        Raises:
            TimeoutError: they cannot.
        """
        async with asyncio.timeout(START_S):
            while not await asyncio.to_thread(self._is_ready):
                await asyncio.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._health}/healthz", timeout=1) as answer:
                return bool(json.load(answer).get("status") == "ok")
        except (OSError, ValueError):
            return False

    async def kill(self) -> None:
        """Ends it as ``kill -9`` does."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


async def nats_cluster(run: Run, count: int = 3) -> list[Nats]:
    """Starts servers that are one cluster; they end with the run."""
    ports = free_ports(3 * count)
    each = [(ports[3 * n], ports[3 * n + 1], ports[3 * n + 2]) for n in range(count)]
    made = [Nats(run.folder(), own, [one[2] for one in each if one is not own]) for own in each]
    for one in made:
        run.ending.push_async_callback(one.kill)
        await one.start()
    for one in made:
        await one.ready()
    return made
