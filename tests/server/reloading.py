"""Servers with a configuration file that is changed while they run."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.server.peers import Stage, result

from bester.config import load
from bester.server.server import Server
from bester.testing import RunningServer


class Reloading(Stage):
    """A server with a configuration file."""

    def write(self, **more: Any) -> None:
        write(self.folder, **more)

    async def reload(self, **more: Any) -> Any:
        """Changes the file, and lets the operator reload it."""
        self.write(**more)
        return await result(await self.connect("control"), "reload")


def write(folder: Path, **more: Any) -> None:
    tree = {
        "server": {"name": "test.example"},
        "network": {"unix": {"address": "clients"}, "tcp4": {"address": "127.0.0.1", "port": 0}},
        "accounts": {"registration": "firstUse"},
        "log": {"level": "warning"},
    }
    (folder / "server.conf").write_text(json.dumps(tree | more), encoding="utf-8")


@asynccontextmanager
async def reloading(web: Any = None, **more: Any) -> AsyncIterator[Reloading]:
    """Runs a server with a configuration file, in which this stands besides what it needs."""
    with tempfile.TemporaryDirectory(prefix="bester-") as name:
        folder = Path(name)
        write(folder, **more)
        daemon = Server(await asyncio.to_thread(load, folder / "server.conf"), web)
        await daemon.start()
        try:
            async with AsyncExitStack() as closing:
                yield Reloading(RunningServer(daemon, folder), closing)
        finally:
            await daemon.stop()
