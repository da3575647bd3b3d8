"""NATS servers as processes of their own, which are one cluster, and are killed and started."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.machine import nats_server
from tests.ports import free_ports

from faults.run import Run, Skipped

START_S = 30.0
STEP_DOWN = """
import asyncio, sys, nats

async def main(url, *streams):
    client = await nats.connect(url)
    for stream in streams:
        await client.request(f"$JS.API.STREAM.LEADER.STEPDOWN.{stream}", b"", timeout=5)
    await client.close()

asyncio.run(main(*sys.argv[1:]))
"""
ASK = "import sys, urllib.request as u; sys.stdout.buffer.write(u.urlopen(sys.argv[1], timeout=1).read())"


class Nats:
    """One NATS server, with JetStream.

    Args:
        folder: for its configuration, data and log.
        ports: of its clients, of its health, and of its routes.
        routes: where the others' routes are.
        host: its address.
        prefix: the command that runs it, such as ``ip netns exec NAME``.
        more: more options of its routes.
    """

    def __init__(
        self,
        folder: Path,
        ports: tuple[int, int, int],
        routes: Sequence[str],
        host: str = "127.0.0.1",
        prefix: Sequence[str] = (),
        more: str = "",
    ) -> None:
        found = nats_server()
        if found is None:
            raise Skipped("nats-server is not installed")
        self._program = found
        self._folder = folder
        self._prefix = list(prefix)
        self.port, self._health, own = ports
        self.name = f"nats-{host}-{self.port}"
        self.url = f"nats://{host}:{self.port}"
        others = ", ".join(f'"nats://{where}"' for where in routes)
        lines = (
            f"server_name: {self.name}",
            f"listen: {host}:{self.port}",
            f"http: 127.0.0.1:{self._health}",
            "max_payload: 4MB",
            f'jetstream: {{store_dir: "{folder}"}}',
            f"cluster: {{name: faults, listen: {host}:{own}, routes: [{others}], {more}}}",
        )
        (folder / "nats.conf").write_text("\n".join(lines))
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Starts it, again with its earlier data if it has any; does not wait."""
        with (self._folder / "log").open("ab") as log:
            command = (*self._prefix, self._program, "-c", str(self._folder / "nats.conf"))
            self._process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)

    def elections(self, since: float, stream: str = "") -> list[float]:
        """Returns when it became the leader of a stream whose name contains ``stream``; in seconds since 1970."""
        found: list[float] = []
        for line in (self._folder / "log").read_text(errors="replace").splitlines():
            if "new stream leader" in line and stream in line:
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
        found = self._asked("healthz")
        return found is not None and found.get("status") == "ok"

    async def leads(self) -> set[str]:
        """Returns the streams that it leads, as it knows it."""
        found = await asyncio.to_thread(self._asked, "jsz?streams=true&accounts=true") or {}
        accounts = found.get("account_details") or ()
        streams = [one for account in accounts for one in account.get("stream_detail") or ()]
        return {one["name"] for one in streams if one.get("cluster", {}).get("leader") == self.name}

    async def step_down(self, streams: set[str]) -> None:
        """Lets other servers lead these streams."""
        command = [*self._prefix, sys.executable, "-c", STEP_DOWN, self.url, *streams]
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
        await process.wait()

    def _asked(self, what: str) -> dict[str, Any] | None:
        """Returns what its monitor says; None where it says nothing."""
        url = f"http://127.0.0.1:{self._health}/{what}"
        try:
            if not self._prefix:
                with urllib.request.urlopen(url, timeout=1) as answer:
                    found = answer.read()
            else:
                command = [*self._prefix, sys.executable, "-S", "-c", ASK, url]
                found = subprocess.run(command, capture_output=True, check=True, timeout=5).stdout
            return json.loads(found)  # type: ignore[no-any-return]
        except (OSError, ValueError, subprocess.SubprocessError):
            return None

    async def kill(self) -> None:
        """Ends it as ``kill -9`` does."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


async def nats_cluster(run: Run, count: int = 3) -> list[Nats]:
    """Starts servers that are one cluster; they end with the run."""
    ports = free_ports(3 * count)
    each = [(ports[3 * n], ports[3 * n + 1], ports[3 * n + 2]) for n in range(count)]
    made = [Nats(run.folder(), own, [f"127.0.0.1:{one[2]}" for one in each if one is not own]) for own in each]
    await started(run, made)
    return made


async def started(run: Run, servers: Sequence[Nats]) -> None:
    """Starts servers, which end with the run; returns when they are ready."""
    for one in servers:
        run.ending.push_async_callback(one.kill)
        await one.start()
    for one in servers:
        await one.ready()
