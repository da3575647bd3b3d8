"""What operators have for a server that runs for years (docs/operating.md)."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.system.conftest import PASSWORD, Commands
from tests.waiting import until_sync
from typer.testing import CliRunner, Result

from bester.cli import service
from bester.cli.control import Control
from bester.cli.handlers import newer
from bester.cli.main import app
from bester.config import load
from bester.server.admin.commands import COMMANDS
from bester.server.stores import make_stores
from bester.store.ports import Letter, MailboxBounds

PACKAGING = Path(__file__).parents[2] / "packaging" / "systemd"
CONSOLE = Path(service.__file__).parents[1] / "web/static/console"
ANALYZE = shutil.which("systemd-analyze")
CHATTY = """#!/bin/sh
exec 3<> {pipe}
echo one
while read -r line <&3; do echo "$line"; done
"""

# -- one table of commands ---------------------------------------------------------------------------------------


def test_everything_that_the_console_runs_is_in_the_table() -> None:
    found = {
        name
        for file in CONSOLE.rglob("*.js")
        for name in re.findall(r"""\bcommand\(\s*["'](\w+)["']""", file.read_text(encoding="utf-8"))
    }
    assert len(found) > 15
    assert found <= {name for name, one in COMMANDS.items() if not one.session}


BY_BESTER: list[tuple[str, list[str]]] = [
    ("addAccount", ["account", "add", "new"]),
    ("setRoles", ["account", "role", "new", "--add", "ops"]),
    ("addToken", ["account", "token", "new", "--days", "7"]),
    ("setPassword", ["account", "password", "new"]),
    ("listAccounts", ["account", "list"]),
    ("removeAccount", ["account", "remove", "new"]),
    ("kick", ["kick", "nobody"]),
    ("listHandlers", ["handler", "list"]),
    ("describe", ["handler", "describe", "work"]),
    ("handlerLog", ["handler", "log", "work"]),
    ("stopHandler", ["handler", "stop", "work"]),
    ("startHandler", ["handler", "start", "work"]),
    ("drainHandler", ["handler", "drain", "work"]),
    ("listServers", ["peer", "list"]),
    ("disconnectServer", ["peer", "disconnect", "b.example"]),
    ("listQueue", ["queue", "list"]),
    ("showQueue", ["queue", "show", "1"]),
    ("retryQueue", ["queue", "retry", "--all"]),
    ("dropQueue", ["queue", "drop", "--dead"]),
    ("trace", ["trace", "an-id"]),
    ("why", ["why"]),
    ("status", ["status"]),
    ("listClients", ["status"]),
    ("problems", ["status", "--check"]),
    ("reload", ["reload"]),
    ("identity", ["command", "identity"]),
    ("listTypes", ["command", "listTypes"]),
    ("serverInfo", ["command", "serverInfo"]),
    ("listHeld", ["held", "list"]),
    ("release", ["held", "release", "--from-server", "b.example"]),
    ("refuse", ["held", "refuse", "--from-server", "b.example"]),
    ("record", ["command", "record", '{"type": "work", "seconds": 0.1}']),
    ("drain", ["drain"]),
]
"""Each command of the table, and how ``bester`` runs it; in an order in which they can be run on one server."""


@pytest.fixture(scope="module")
def running() -> Iterator[Commands]:
    """A server whose handler ``work`` writes what comes through a pipe."""
    folder = Path(tempfile.mkdtemp(prefix="bester-"))
    made = Commands(folder)
    try:
        os.mkfifo(folder / "pipe")
        script = folder / "work.sh"
        script.write_text(CHATTY.format(pipe=folder / "pipe"))
        script.chmod(0o755)
        made.configure(handlers={"typeMap": {"work": {"handlerBinary": str(script), "unixDomainSocketPath": "w"}}})
        made.serve()
        yield made
    finally:
        made.end()
        shutil.rmtree(folder)


@pytest.fixture
def bester(running: Commands, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs ``bester`` in this process, which is quicker, in the server's folder."""
    monkeypatch.chdir(running.folder)
    monkeypatch.setenv("BESTER_PASSWORD", PASSWORD)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(app, arguments)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result

    return run


def test_every_command_of_the_table_is_run_by_bester(
    bester: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    assert {name for name, _ in BY_BESTER} == {name for name, one in COMMANDS.items() if not one.session}
    ran: list[str] = []
    run = Control.run

    def noted(control: Control, command: str, /, **args: object) -> Any:
        ran.append(command)
        return run(control, command, **args) if command != "drain" else {"underWay": 0}

    monkeypatch.setattr(Control, "run", noted)
    for name, arguments in BY_BESTER:
        with subtests.test(name):
            ran.clear()
            result = bester(*arguments)
            assert name in ran, result.output
            # Bad where there is nothing of the kind, which is a result all the same; never a usage error.
            assert result.exit_code in (0, 1), result.output
    assert bester("handler", "start", "work").exit_code == 0


def test_any_command(bester: Callable[..., Result]) -> None:
    listed = bester("command").stdout
    for name, one in COMMANDS.items():
        assert (f"{name} " in listed) is not one.session
    assert json.loads(bester("command", "serverInfo").stdout)["clientCount"] == 0
    added = bester("command", "addAccount", '{"username": "T", "password": "x"}')
    assert json.loads(added.stdout) == {"username": "t"}
    assert bester("command", "nothing").exit_code == 1
    for wrong in ("{", "[]", "7"):
        assert bester("command", "kick", wrong).exit_code == 2


# -- handlers ----------------------------------------------------------------------------------------------------


def test_the_log_of_a_handler_is_followed(running: Commands, bester: Callable[..., Result]) -> None:
    following = running.start("bester", "handler", "log", "work", "--follow")
    assert following.wait_for("one").endswith("  one")
    for line in ("two", "three"):
        (running.folder / "pipe").write_text(f"{line}\n")
        following.wait_for(line)
    assert following.stop(signal.SIGINT) == 0
    assert sum("three" in line for line in following.lines) == 1
    assert json.loads(bester("handler", "log", "work", "-n", "1", "--json").stdout)["line"] == "three"
    assert bester("handler", "log", "nothing").exit_code == 1
    (row,) = [json.loads(line) for line in bester("handler", "list", "--json").stdout.splitlines()]
    assert (row["type"], row["down"], row["stopped"]) == ("work", False, False)
    assert " up " in bester("handler", "list").stdout
    assert "stopped" in bester("handler", "stop", "work").stdout
    assert " stopped " in bester("handler", "list").stdout
    assert "the pid" in bester("handler", "start", "work").stdout


@pytest.mark.parametrize(
    ("before", "now", "added"),
    [("", "", ""), ("", "ab", "ab"), ("ab", "ab", ""), ("ab", "abc", "c"), ("abc", "bcd", "d"), ("ab", "cd", "cd")],
)
def test_what_is_new_in_a_log(before: str, now: str, added: str) -> None:
    def lines(text: str) -> list[dict[str, Any]]:
        return [{"time": ord(char), "line": char} for char in text]

    assert newer(lines(before), lines(now)) == lines(added)


# -- problems ----------------------------------------------------------------------------------------------------


def without_loop(text: str) -> list[str]:
    """Returns the problems, but for a machine that is busy with other things."""
    return [line for line in text.splitlines() if not line.startswith("loop: ")]


def test_monitoring_asks_for_problems(running: Commands, bester: Callable[..., Result]) -> None:
    good = bester("status", "--check")
    assert (good.exit_code, without_loop(good.stdout)) == (int(bool(good.stdout)), [])
    sockets = {block: {"address": f"other{block}"} for block in ("handlers", "informer", "control")}
    more = {"storage": {"reserve": 1 << 40, "path": "other.db", "receipts": "other.receipts"}, **sockets}
    running.configure("full.conf", network={"unix": {"address": "other"}}, **more)
    check = ("status", "--check", "--config", "full.conf")
    assert bester(*check).exit_code == 3
    full = running.serve("full.conf")
    bad = bester(*check)
    assert bad.exit_code == 1
    (line,) = without_loop(bad.stdout)
    assert line.startswith("disk: ")
    found = [json.loads(line)["what"] for line in bester(*check, "--json").stdout.splitlines()]
    assert "disk" in found
    full.wait_for_log("bester.problems: disk: ")
    shown = json.loads(bester("status", "--json", "--config", "full.conf").stdout)
    assert "disk" in [problem["what"] for problem in shown["problems"]]
    assert shown["disk"]["reserve"] == 1 << 40
    assert full.stop() == 0


def test_every_member_of_the_status_is_documented(bester: Callable[..., Result]) -> None:
    shown = json.loads(bester("status", "--json").stdout)
    text = (PACKAGING.parents[1] / "docs" / "operating.md").read_text(encoding="utf-8")
    table = text.partition("### Fields")[2].partition("\n##")[0]
    first = re.findall(r"^\| ([^|]*)\|", table, flags=re.MULTILINE)
    assert {name for cell in first for name in re.findall(r"`(\w+)`", cell)} == set(shown)


# -- the log -----------------------------------------------------------------------------------------------------


def test_a_log_file_that_is_copied_and_truncated(commands: Commands) -> None:
    """As logrotate does it with copytruncate: nothing of the old file comes back."""
    commands.configure()
    log = commands.folder / "bester.log"
    server = commands.start("/bin/sh", "-c", f"exec {Path(sys.executable).parent / 'besterd'} server.conf 2>> {log}")
    server.wait_for("is ready")
    for _ in range(2):
        server.send_signal(signal.SIGHUP)
        text = until_sync(log.read_text, lambda text: "has been reloaded" in text)
        assert text.count("has been reloaded") == 1
        assert "\0" not in text
        os.truncate(log, 0)
    assert server.stop() == 0


# -- accounts of a stopped server --------------------------------------------------------------------------------


def test_a_removed_account_leaves_no_mail(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no server runs: whoever gets the name later finds nothing."""
    monkeypatch.chdir(commands.folder)
    monkeypatch.setenv("BESTER_PASSWORD", PASSWORD)
    config = load(commands.configure())

    async def mail() -> list[int]:
        accounts, messages = make_stores(config)
        await accounts.open()
        await messages.open()
        try:
            await messages.deposit([Letter("b", "1", "chat", b'"x"')], MailboxBounds(10, 1000, 60), time.time())
            return [(await messages.mailbox_size(name)).messages for name in ("b",)]
        finally:
            await messages.close()
            await accounts.close()

    def run(*arguments: str) -> int:
        return CliRunner().invoke(app, ["account", *arguments]).exit_code

    assert run("add", "b") == 0
    assert asyncio.run(mail()) == [1]
    assert run("remove", "B") == 0
    assert run("remove", "b") == 1  # there is nothing left of it


# -- the units ---------------------------------------------------------------------------------------------------

STATE = Path("/var/lib/bester")
PACKAGED = (
    Path("/opt/bester/bin"),
    STATE / "bester.toml",
    "bester",
    {STATE},
    (STATE / "besterHandlers", STATE / "bInformer"),
)


def test_the_packaged_units_are_what_bester_prints() -> None:
    assert (PACKAGING / "bester.service").read_text() == service.unit(*PACKAGED[:4])
    assert (PACKAGING / "bester-gadget@.service").read_text() == service.gadget_unit(*PACKAGED)


def test_the_unit_of_a_folder(commands: Commands) -> None:
    made = commands.bester("init", "new", "--name", "a.example")
    assert made.returncode == 0
    refused = commands.bester("service", "-c", "new/bester.toml")
    assert refused.returncode == 2  # a service's /tmp is its own
    assert "/tmp" in refused.stderr
    home = Path("/home/t/50% $bester")
    with pytest.raises(ValueError, match="white space"):
        service.unit(home, home / "c", "t", {home})
    home = Path("/home/t/50%$b")
    text = service.unit(home, home / "c", "t", {home, Path("/run/bester")}, 3)
    assert "ExecStart=/home/t/50%%$$b/besterd --nodes 3 /home/t/50%%$$b/c\n" in text
    assert "ExecReload=/home/t/50%%$$b/bester reload --nodes --config /home/t/50%%$$b/c\n" in text
    assert "ReadWritePaths=/home/t/50%%$$b\n" in text
    assert "ProtectHome=read-only\n" in text
    assert "StateDirectory" not in text


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", ["bester.service", "bester-gadget@.service"])
def test_systemd_knows_every_line_of_the_units(tmp_path: Path, name: str) -> None:
    unit = tmp_path / name
    unit.write_text((PACKAGING / name).read_text().replace("/opt/bester/bin", str(Path(sys.executable).parent)))
    verified = subprocess.run(
        [str(ANALYZE), "verify", "--recursive-errors=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    told = [line for line in verified.stderr.splitlines() if name.partition("@")[0].partition(".")[0] in line]
    assert (verified.returncode, told) == (0, [])
