"""``bester backup`` beside a running server, and the way back."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import stat
import subprocess
from typing import TYPE_CHECKING

from tests.system.conftest import BIN, environment

if TYPE_CHECKING:
    from tests.system.conftest import Commands


def names(commands: Commands) -> list[str]:
    result = commands.bester("account", "list", "--json")
    assert result.returncode == 0, result.stderr
    return [json.loads(line)["username"] for line in result.stdout.splitlines()]


def test_a_backup_of_a_running_server_is_restored(commands: Commands) -> None:
    commands.configure()
    server = commands.serve()
    assert commands.bester("account", "add", "alice").returncode == 0
    result = commands.bester("backup", "copy.db")
    assert result.returncode == 0, result.stderr
    assert "copy.db: 0." in result.stdout
    assert "MiB, copied from" in result.stdout
    copy = commands.folder / "copy.db"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert commands.bester("account", "add", "bob").returncode == 0
    assert names(commands) == ["alice", "bob"]

    server.popen.send_signal(signal.SIGKILL)
    server.popen.wait()
    for left in commands.folder.glob("bester.db*"):
        left.unlink()
    shutil.copy(copy, commands.folder / "bester.db")
    restored = commands.serve()
    restored.wait_for_log("the database is good")
    assert names(commands) == ["alice"]


def test_nothing_is_written_over_unless_it_is_said(commands: Commands) -> None:
    commands.configure()
    assert commands.bester("account", "add", "alice").returncode == 0
    copy = commands.folder / "copy.db"
    copy.write_text("older")
    result = commands.bester("backup", "copy.db")
    assert (result.returncode, copy.read_text()) == (2, "older")
    assert "--force" in result.stderr
    result = commands.bester("backup", "copy.db", "--force", "--json")
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["file"] == "copy.db"
    assert told["bytes"] == copy.stat().st_size
    assert told["seconds"] >= 0


def test_what_cannot_be_copied_is_told(commands: Commands) -> None:
    commands.configure()
    result = commands.bester("backup", "copy.db")
    assert result.returncode == 1
    assert "no database" in result.stderr
    assert commands.bester("account", "add", "alice").returncode == 0
    for target, word in (("bester.db", "itself"), (".", "folder")):
        result = commands.bester("backup", target, "--force")
        assert result.returncode == 2
        assert word in result.stderr
    result = commands.bester("backup", "nowhere/copy.db")
    assert result.returncode == 1
    assert "No such file" in result.stderr
    assert not list(commands.folder.glob("*.partial"))


def test_a_terminal_sees_a_bar(commands: Commands) -> None:
    commands.configure()
    assert commands.bester("account", "add", "alice").returncode == 0
    terminal, other_end = pty.openpty()
    command = [str(BIN / "bester"), "backup", "copy.db"]
    result = subprocess.run(
        command,
        cwd=commands.folder,
        env=environment(TERM="xterm"),
        stderr=other_end,
        stdout=subprocess.PIPE,
        check=True,
    )
    os.close(other_end)
    assert b"copying" in os.read(terminal, 65536)
    os.close(terminal)
    assert b"MiB" in result.stdout


def test_a_second_server_is_refused_the_database(commands: Commands) -> None:
    commands.configure()
    commands.serve()
    sockets = {"control": {"address": "c"}, "informer": {"address": "i"}, "handlers": {"address": "h"}}
    commands.configure("other.conf", network={"unix": {"address": "s"}}, **sockets)
    result = commands.besterd("other.conf")
    assert result.returncode == 1
    assert "is held by another process" in result.stderr
