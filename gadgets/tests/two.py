"""Two servers that prove to each other who they are: j.example and l.example."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.certificates import Papers, self_signed
from tests.ports import free_ports

from bester.testing import RunningServer, server

NAMES = ("j.example", "l.example")


def configuration(name: str, papers: dict[str, Papers], ports: dict[str, int]) -> dict[str, Any]:
    """Returns what one of them must know of itself and of the other."""
    [other] = [one for one in NAMES if one != name]
    tls = papers[name].network["tls"] | {"port": ports[name]}
    known = {"address": f"127.0.0.1:{ports[other]}", "fingerprint": papers[other].fingerprints.key}
    return {
        "server": {"name": name},
        "network": papers[name].network | {"tls": tls},
        "federation": {"servers": {other: known}, "retryMin": 0.01, "retryMax": 0.1},
    }


@asynccontextmanager
async def two_servers(folder: Path) -> AsyncIterator[tuple[RunningServer, RunningServer]]:
    """Runs both, in this process."""
    papers = {name: self_signed(folder, name) for name in NAMES}
    ports = dict(zip(NAMES, free_ports(2), strict=True))
    first, second = (configuration(name, papers, ports) for name in NAMES)
    async with server(first) as here, server(second) as there:
        yield here, there
