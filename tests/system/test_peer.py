"""``bester peer`` and ``bester certificate`` with real servers: two of them are joined, and tell each other apart."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from tests.certificates import issued, self_signed
from tests.system.conftest import BIN, TIMEOUT_S, environment

if TYPE_CHECKING:
    from tests.system.conftest import Commands, Process

HANDLER = """
from bester import Handler, Reply, SendServers
handler = Handler("{folder}/besterHandlers")
@handler.on("pass")
def pass_on(message):
    return SendServers(["b.example"], message.data, type="who")
@handler.on("who")
def who(message):
    print("from", message.sender.server, message.sender.verified, flush=True)
    return Reply(message.data)
handler.run()
"""


def made(commands: Commands, name: str, form: str = "toml") -> Path:
    """Makes a server's folder with ``bester init``, with free ports; returns its configuration."""
    folder = name.partition(".")[0]
    assert commands.bester("init", folder, "--name", name).returncode == 0
    path = commands.folder / folder / "bester.toml"
    text = path.read_text().replace("port = 2220", "port = 0").replace("port = 2223", "port = 0")
    path.write_text(text)
    if form == "toml":
        return path
    other = path.with_name("server.conf")
    other.write_text(json.dumps(tomllib.loads(text), indent=2))
    return other


def started(commands: Commands, config: Path) -> tuple[Process, int]:
    """Returns a running server, and its port for TLS."""
    process = commands.start("besterd", str(config))
    port = process.wait_for("listening on tls://").rpartition(":")[2]
    process.wait_for("is ready")
    return process, int(port)


def key_of(commands: Commands, config: Path) -> str:
    result = commands.bester("certificate", "show", "--config", str(config), "--json")
    assert result.returncode == 0, result.stderr
    return str(json.loads(result.stdout)["key"])


def steps(commands: Commands, config: Path, name: str, *more: str) -> tuple[int, list[tuple[str, bool]]]:
    result = commands.bester("peer", "test", name, "--config", str(config), "--json", *more)
    found = json.loads(result.stdout)
    assert found["ok"] is (result.returncode == 0), result.stdout
    return result.returncode, [(one["step"], one["ok"]) for one in found["steps"]]


@pytest.mark.parametrize("form", ["toml", "json"])
def test_two_servers_are_joined(commands: Commands, form: str) -> None:
    a, b = made(commands, "a.example", form), made(commands, "b.example", form)
    (_, a_port), (_, b_port) = started(commands, a), started(commands, b)
    reached = ["policy", "address", "connection", "tls", "certificate"]
    assert steps(commands, a, "b.example") == (1, [("policy", False)])
    added = commands.bester(
        *("peer", "add", "B.example", f"127.0.0.1:{b_port}", "--config", str(a)),
        *("--fingerprint", key_of(commands, b)),
    )
    assert added.returncode == 0, added.stderr
    assert "the running server has reloaded its configuration" in added.stdout
    assert steps(commands, a, "b.example") == (1, [*((step, True) for step in reached), ("hello", False)])
    told = commands.bester("peer", "test", "b.example", "--config", str(a)).stdout
    assert "it refuses this server: serverUnverified" in told
    added = commands.bester("peer", "add", "a.example", f"127.0.0.1:{a_port}", "--config", str(b), "--yes", "--json")
    assert json.loads(added.stdout) == {
        "name": "a.example",
        "address": f"127.0.0.1:{a_port}",
        "fingerprint": key_of(commands, a),
        "reloaded": True,
    }
    assert steps(commands, a, "b.example") == (0, [*((step, True) for step in reached), ("hello", True)])
    (commands.folder / "pass.py").write_text(HANDLER.format(folder=a.parent))
    (commands.folder / "who.py").write_text(HANDLER.format(folder=b.parent))
    handlers = [commands.start("python", name) for name in ("pass.py", "who.py")]
    assert commands.bester("account", "add", "alice", "--config", str(a)).returncode == 0
    types = ""
    while "pass" not in types or "who" not in types:  # both handlers have attached
        found = [commands.bester("status", "--config", str(one), "--json").stdout for one in (a, b)]
        types = "".join(str([handler["type"] for handler in json.loads(one)["handlers"]]) for one in found)
    url = f"bester+unix:{a.parent / 'besterSocket'}"
    result = commands.bester("send", "--to", url, "--user", "alice", "pass", '"hello"')
    assert result.returncode == 0, result.stderr
    handlers[1].wait_for("from a.example True")


def test_a_renewed_certificate_is_still_the_pinned_one(commands: Commands) -> None:
    a, b = made(commands, "a.example"), made(commands, "b.example")
    _, port = started(commands, b)
    add = ("peer", "add", "b.example", f"127.0.0.1:{port}", "--config", str(a), "--yes")
    assert commands.bester(*add).returncode == 0
    before = json.loads(commands.bester("certificate", "show", "--config", str(b), "--json").stdout)
    result = commands.bester("certificate", "renew", "--config", str(b), "--days", "20", "--json")
    after = json.loads(result.stdout)
    assert after["key"] == before["key"]
    assert after["certificate"] != before["certificate"]
    assert after["names"] == ["b.example"]
    _, found = steps(commands, a, "b.example")
    assert ("certificate", True) in found
    shown = commands.bester("peer", "add", "b.example", f"127.0.0.1:{port}", "--config", str(a), "--yes").stdout
    assert after["certificate"] in shown  # the running server shows the new one already


def test_a_certificate_of_an_authority_is_not_renewed(commands: Commands) -> None:
    papers = issued(commands.folder, trustme.CA(), "a.example")
    commands.configure(network={"tls": papers.network["tls"]})
    result = commands.bester("certificate", "renew")
    assert result.returncode == 1
    assert "must renew it" in result.stderr
    assert "issued by    itself" not in commands.bester("certificate", "show").stdout
    commands.configure(network={"unix": {"address": "socket"}})
    assert "has no certificate" in commands.bester("certificate", "show").stderr


def test_a_key_in_the_same_file_stays(commands: Commands) -> None:
    papers = self_signed(commands.folder, "a.example")
    both = commands.folder / "both.pem"
    both.write_bytes(Path(papers.certificate).read_bytes() + Path(papers.key).read_bytes())
    both.chmod(0o600)
    commands.configure(network={"tls": {"port": 0, "certificate": "both.pem", "key": "both.pem"}})
    before = key_of(commands, commands.folder / "server.conf")
    assert commands.bester("certificate", "renew").returncode == 0
    assert key_of(commands, commands.folder / "server.conf") == before
    assert commands.bester("check").returncode == 0
    assert both.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("answer", ["y", "n"])
def test_it_asks_before_it_pins(commands: Commands, answer: str) -> None:
    b = made(commands, "b.example")
    _, port = started(commands, b)
    config = commands.configure()
    ours, its = pty.openpty()
    with open(ours, "wb", buffering=0) as terminal:
        command = [str(BIN / "bester"), "peer", "add", "b.example", f"127.0.0.1:{port}"]
        asking = subprocess.Popen(
            command,
            cwd=commands.folder,
            env=environment(),
            stdin=its,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(its)
        terminal.write(f"{answer}\n".encode())
        out, errors = asking.communicate(timeout=TIMEOUT_S)
    key = key_of(commands, b)
    assert key in out
    assert "Is this the fingerprint that its operator gave you?" in errors
    assert asking.returncode == (0 if answer == "y" else 1), errors
    assert (key in config.read_text()) is (answer == "y")


def test_what_peer_add_refuses(commands: Commands) -> None:
    b = made(commands, "b.example")
    _, port = started(commands, b)
    commands.configure()
    address = f"127.0.0.1:{port}"
    with socket.create_server(("127.0.0.1", 0)) as gone:
        nobody = f"127.0.0.1:{gone.getsockname()[1]}"
    for arguments, status, text in (
        (["b.example", address], 2, "there is no terminal to ask on"),
        (["b.example", address, "--fingerprint", "0" * 64], 1, "has another key, " + key_of(commands, b)),
        (["b.example", address, "--fingerprint", "x"], 2, "a fingerprint must be"),
        (["b.example", nobody, "--yes"], 3, "Connection refused"),
        (["b example", address, "--yes"], 2, "not a server's name"),
        (["a.example", address, "--yes"], 2, "own name"),
        (["b.example", "b:0", "--yes"], 2, "not an address"),
        (["b.example", "unix:x", "--fingerprint", "0" * 64], 2, "no certificate"),
    ):
        before = (commands.folder / "server.conf").read_bytes()
        result = commands.bester("peer", "add", *arguments)
        assert (result.returncode, text in result.stderr) == (status, True), result
        assert (commands.folder / "server.conf").read_bytes() == before


def test_a_certificate_for_another_name(commands: Commands) -> None:
    b = made(commands, "b.example")
    _, port = started(commands, b)
    config = commands.configure()
    before = config.read_bytes()
    add = ("peer", "add", "c.example", f"127.0.0.1:{port}")
    for how in (["--yes"], ["--yes", "--json"], ["--fingerprint", key_of(commands, b)], []):
        result = commands.bester(*add, *how)
        assert result.returncode == 1, result
        assert "presents a certificate for b.example, and not for c.example" in result.stderr
        assert "--other-name" in result.stderr
        assert config.read_bytes() == before
    result = commands.bester(*add, "--yes", "--other-name")
    assert result.returncode == 0, result.stderr
    assert key_of(commands, b) in config.read_text()


def test_both_sides_see_the_same_fingerprint(commands: Commands) -> None:
    """What init says is what the other operator is asked about, and what is pinned."""
    said = commands.bester("init", "b", "--name", "b.example").stdout
    path = commands.folder / "b" / "bester.toml"
    path.write_text(path.read_text().replace("port = 2220", "port = 0").replace("port = 2223", "port = 0"))
    _, port = started(commands, path)
    commands.configure()
    shown = commands.bester("peer", "add", "b.example", f"127.0.0.1:{port}", "--yes").stdout
    assert "by its key's fingerprint:" in said
    key = key_of(commands, path)
    assert f"  {key}\n" in said
    assert f"  key          {key}\n" in shown
    assert "The key will be pinned" in shown


def test_the_configuration_keeps_the_rest(commands: Commands) -> None:
    """In JSON the order and the other keys, in TOML every character."""
    tree: dict[str, Any] = {
        "zeta": 1,
        "network": {"unix": {"address": "socket"}},
        "federation": {"servers": {"B.example": {"address": "old:1", "policy": "open"}}, "policy": "open"},
        "server": {"name": "a.example"},
    }
    path = commands.folder / "server.conf"
    path.write_text(json.dumps(tree))
    path.chmod(0o640)
    assert commands.bester("peer", "add", "b.example", "unix:near").returncode == 0
    assert commands.bester("peer", "add", "c.example", "unix:far").returncode == 0
    tree["federation"]["servers"] = {
        "B.example": {"address": "unix:near", "policy": "open"},
        "c.example": {"address": "unix:far"},
    }
    assert path.read_text() == json.dumps(tree, indent=2) + "\n"
    assert path.stat().st_mode & 0o777 == 0o640
    rows = [json.loads(line) for line in commands.bester("peer", "list", "--json").stdout.splitlines()]
    assert [(row["name"], row["address"], row["proof"]) for row in rows] == [
        ("b.example", "unix:near", None),
        ("c.example", "unix:far", None),
    ]
    for name in ("b.example", "C.EXAMPLE"):
        assert commands.bester("peer", "remove", name).returncode == 0
    del tree["federation"]["servers"]
    assert json.loads(path.read_text()) == tree
    assert commands.bester("peer", "remove", "b.example").returncode == 1

    toml = commands.folder / "bester.toml"
    head = 'server.name = "a.example"  # me\n\n[network]\nunix = { address = "socket" }\n'
    toml.write_text(head)
    words = ("--config", str(toml))
    assert commands.bester("peer", "add", "b.example", "unix:near", *words).returncode == 0
    assert commands.bester("peer", "add", "c.example", "unix:far", *words).returncode == 0
    assert commands.bester("peer", "add", "b.example", "unix:other", *words).returncode == 0
    text = toml.read_text()
    assert text.startswith(head)
    assert text.count("b.example") == 1
    for name in ("b.example", "c.example"):
        assert commands.bester("peer", "remove", name, *words).returncode == 0
    assert toml.read_text().rstrip() == head.rstrip()
    toml.write_text(head + '[federation]\nservers = { "x.example" = { address = "x:1" } }\n')
    result = commands.bester("peer", "add", "b.example", "unix:near", *words)
    assert result.returncode == 1
    assert result.stdout == '[federation.servers."b.example"]\naddress = "unix:near"\n'
    assert "x.example" in commands.bester("peer", "remove", "x.example", *words).stderr


def test_which_step_fails(commands: Commands) -> None:
    papers = self_signed(commands.folder, "other.example")
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as gone:
        port, nobody = silent.getsockname()[1], gone.getsockname()[1]
        gone.close()
        b = made(commands, "b.example")
        _, tls = started(commands, b)
        pin = papers.fingerprints.key
        servers = {
            "silent.example": {"address": f"127.0.0.1:{port}", "fingerprint": pin},
            "plain.example": {"address": f"127.0.0.1:{port}", "policy": "open"},
            "gone.example": {"address": f"127.0.0.1:{nobody}", "fingerprint": pin},
            "other.example": {"address": f"127.0.0.1:{tls}", "fingerprint": pin},
            "nowhere.example": {"address": "nowhere.invalid:1", "fingerprint": pin},
            "near.example": {"address": "unix:nobody"},
        }
        config = commands.configure(federation={"policy": "verified", "servers": servers})
        for name, failed in (
            ("silent.example", "tls"),
            ("plain.example", "hello"),
            ("gone.example", "connection"),
            ("other.example", "certificate"),
            ("nowhere.example", "connection"),
            ("near.example", "connection"),
            ("unknown.example", "policy"),
        ):
            status, found = steps(commands, config, name, "--timeout", "1")
            assert (status, found[-1]) == (1, (failed, False)), (name, found)
            assert all(ok for _, ok in found[:-1]), (name, found)


def test_a_client_that_trusts_an_authority(commands: Commands) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(commands.folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(commands.folder / "other.pem"))
    papers = issued(commands.folder, authority, "localhost")
    network = {"unix": {"address": "socket"}, "tls": papers.network["tls"]}
    config = commands.configure(network=network)
    assert commands.bester("account", "add", "a").returncode == 0
    _, port = started(commands, config)
    words = ("send", "--to", f"besters://localhost:{port}", "--user", "a", "nobody", "1")
    trusting = commands.bester(*words, "--ca", "ca.pem")
    assert (trusting.returncode, "noHandler" in trusting.stderr + trusting.stdout) == (1, True), trusting
    assert commands.bester(*words, "--ca", "other.pem").returncode == 3
    plain = commands.bester("send", "--to", f"bester://localhost:{port}", "--user", "a", "nobody", "1")
    assert (plain.returncode, "write besters:// instead of bester://" in plain.stderr) == (3, True), plain
    assert commands.bester(*words).returncode == 3
