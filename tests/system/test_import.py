"""``bester import``, and the other commands on a cluster of which no node runs here."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from typing import TYPE_CHECKING

from tests.system.conftest import BIN, environment

from bester.store.opening import Lock

if TYPE_CHECKING:
    from tests.nats import NatsServer
    from tests.system.conftest import Commands


def test_accounts_move_into_a_cluster(commands: Commands, nats: NatsServer) -> None:
    commands.configure()
    assert commands.bester("account", "add", "alice", "--admin").returncode == 0
    refused = commands.bester("import", "bester.db")
    assert (refused.returncode, "the configuration has no cluster" in refused.stderr) == (2, True)
    name = f"{commands.folder.name.lower().replace('_', '-')}.example"
    commands.configure("cluster.conf", server={"name": name}, cluster={"nats": [nats.url]})

    lock = Lock(str(commands.folder / "bester.db"))
    refused = commands.bester("import", "bester.db", "-c", "cluster.conf")
    assert (refused.returncode, f"is held by another process ({os.getpid()})" in refused.stderr) == (1, True)
    lock.release()

    terminal, standard_error = pty.openpty()
    moved = subprocess.run(
        [str(BIN / "bester"), "import", "bester.db", "-c", "cluster.conf", "--json"],
        cwd=commands.folder,
        env=environment(TERM="xterm"),
        stdout=subprocess.PIPE,
        stderr=standard_error,
        check=False,
    )
    os.close(standard_error)
    assert moved.returncode == 0
    assert json.loads(moved.stdout) | {"accounts": 1, "others": 0} == json.loads(moved.stdout)
    shown = os.read(terminal, 65536)
    os.close(terminal)
    assert b"accounts" in shown

    listed = commands.bester("account", "list", "-c", "cluster.conf", "--json")
    assert [json.loads(line)["username"] for line in listed.stdout.splitlines()] == ["alice"]
    assert commands.bester("account", "remove", "alice", "-c", "cluster.conf").returncode == 0
    again = commands.bester("import", "bester.db", "-c", "cluster.conf")
    assert (again.returncode, "1 rows were moved earlier" in again.stdout) == (0, True)
    assert not commands.bester("account", "list", "-c", "cluster.conf", "--json").stdout
    backup = commands.bester("backup", "copy.db", "-c", "cluster.conf")
    assert (backup.returncode, "nats account backup" in backup.stderr) == (2, True)


def test_a_cluster_that_is_away_is_told(commands: Commands) -> None:
    commands.configure(cluster={"nats": ["nats://127.0.0.1:1"]})
    status = commands.bester("status")
    assert (status.returncode, "no server is running" in status.stderr) == (3, True)
    (commands.folder / "from.db").touch()
    assert commands.bester("import", "nothing.db").returncode == 1
