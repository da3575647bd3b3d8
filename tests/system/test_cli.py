"""The command ``bester`` against real servers: what it prints, and how it ends."""

from __future__ import annotations

import json
import shlex
import signal
import stat
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest
from tests.certificates import self_signed
from tests.system.conftest import BIN, environment
from tests.waiting import until_sync

from bester import __version__
from bester.compiled import build
from bester.config import load
from bester.net.fingerprints import fingerprints, spelled

if TYPE_CHECKING:
    from tests.system.conftest import Commands, Process

PASSWORD = "correct horse"


@pytest.fixture
def server(commands: Commands) -> Process:
    """A server with the accounts a and b, and the handler echo, which it starts."""
    script = commands.folder / "echo.sh"
    program = "from bester import Handler, Reply; h = Handler(classic=True); h.on()(lambda m: Reply(m.raw)); h.run()"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{program}"\n')
    script.chmod(0o755)
    kinds = {"echo": {"handlerBinary": "./echo.sh", "unixDomainSocketPath": "echoSocket"}}
    commands.configure(handlers={"typeMap": kinds})
    for name in ("a", "b"):
        assert commands.bester("account", "add", name).returncode == 0
    return commands.serve()


def test_help_is_quick_and_documents_the_exit_status(commands: Commands) -> None:
    for arguments in (["--help"], ["send", "--help"]):
        result = commands.installed("bester", *arguments)
        assert result.returncode == 0
        text = " ".join(result.stdout.split())
        assert "2 wrong usage" in text
        assert "3 no connection" in text
        assert "4 authentication failed" in text
    heavy = "asyncio", "pydantic", "uvloop", "cryptography", "argon2", "bester.server.runtime", "bester.cli.sending"
    program = f"import sys, bester.cli.main; print([name for name in {heavy!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not json.loads(loaded.stdout.replace("'", '"'))


def test_each_command_says_in_a_line_what_it_does(commands: Commands) -> None:
    for group in ("", "account", "queue", "handler", "gadget", "certificate", "peer"):
        listed = commands.bester(*group.split(), "--help").stdout.partition("\nCommands:\n")[2].partition("\n\n")[0]
        assert listed
        assert "..." not in listed, group


def test_version(commands: Commands) -> None:
    assert commands.installed("bester", "--version").stdout == f"bester {__version__} ({build()})\n"


# -- init, check -------------------------------------------------------------------------------------------------


def test_init(commands: Commands) -> None:
    result = commands.bester("init", "new", "--name", "A.Example")
    assert result.returncode == 0, result.stderr
    folder = commands.folder / "new"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
    config = load(folder / "bester.toml")
    assert config.warnings == ()
    assert config.server.name == "a.example"
    assert config.federation.policy == "verified"
    assert config.accounts.registration == "closed"
    by_kind = {listener.kind: listener.address for listener in config.listeners()}
    assert by_kind["tcp4"] == "127.0.0.1"
    assert set(by_kind) == {"unix", "tcp4", "tls"}
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert [line.split()[:2] for line in lines[-3:]] == [
        ["besterd", "new/bester.toml"],
        ["bester", "account"],
        ["bester", "ask"],
    ]


def test_init_certificate(commands: Commands) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    result = commands.bester("init", "new", "--name", "a.example", "--json")
    certificate = x509.load_pem_x509_certificate((commands.folder / "new" / "certificate.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.example"]
    assert certificate.subject.rfc4514_string() == "CN=a.example"
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"

    assert json.loads(result.stdout)["fingerprint"] == spelled(fingerprints(certificate).key)


def test_init_never_writes_over_files(commands: Commands) -> None:
    (commands.folder / "new").mkdir()
    there = commands.folder / "new" / "bester.toml"
    there.write_text("# mine")
    result = commands.bester("init", "new")
    assert result.returncode == 1
    assert "--force" in result.stderr
    assert there.read_text() == "# mine"
    assert [path.name for path in there.parent.iterdir()] == ["bester.toml"]
    assert commands.bester("init", "new", "--force").returncode == 0
    assert tomllib.loads(there.read_text())["federation"] == {"policy": "verified"}


def test_servers_of_one_machine_have_ports_of_their_own(commands: Commands) -> None:
    assert commands.bester("init", "one", "--name", "a.example", "--port", "2300").returncode == 0
    ports = {listener.kind: listener.port for listener in load(commands.folder / "one" / "bester.toml").listeners()}
    assert (ports["tls"], ports["tcp4"]) == (2300, 2297)


def test_init_refuses(commands: Commands) -> None:
    assert commands.bester("init", "new", "--name", "not a name").returncode == 2
    low = commands.bester("init", "new", "--port", "1026")
    assert low.returncode == 2
    assert "1027" in low.stderr
    assert not (commands.folder / "new").exists()
    long = "x" * 100
    result = commands.bester("init", long)
    assert result.returncode == 1
    assert "107" in result.stderr
    assert not list((commands.folder / long).iterdir())


def test_the_first_three_commands(commands: Commands) -> None:
    """With other ports, so that nothing else on this machine is in the way."""
    made = json.loads(commands.bester("init", "new", "--name", "a.example", "--json").stdout)
    path = commands.folder / "new" / "bester.toml"
    path.write_text(path.read_text().replace("port = 2220", "port = 0").replace("port = 2223", "port = 0"))
    serve, account, ask = made["next"]
    server = commands.start(*serve)
    tls = server.wait_for("listening on tls://").rpartition(":")[2]
    server.wait_for("is ready")
    assert commands.bester(*account[1:]).returncode == 0
    answer = commands.bester(*ask[1:])
    assert (answer.returncode, answer.stdout) == (0, '"Hello"\n')
    url = f"besters://127.0.0.1:{tls}"
    words = ["ask", "--to", url, "--user", "alice", "--text", "echo", "over TLS"]
    pinned = commands.bester(*words, "--fingerprint", made["fingerprint"])
    assert (pinned.returncode, pinned.stdout) == (0, "over TLS\n")
    assert commands.bester(*words).returncode == 3
    assert commands.bester(*words, "--fingerprint", "0" * 64).returncode == 3
    assert server.stop() == 0


def test_check(commands: Commands) -> None:
    path = commands.configure(handlers={"typeMap": {"x": {"handlerBinary": "./none", "unixDomainSocketPath": "x"}}})
    good = commands.bester("check", str(path))
    assert good.returncode == 0
    assert "warning: handlers.typeMap.x.handlerBinary" in good.stdout
    commands.configure(network={"tcp4": {"port": "99999"}}, limits={"maxHops": 0}, nonsense={})
    bad = commands.bester("check")
    assert bad.returncode == 2
    assert "error: network.tcp4.port: found " in bad.stdout
    assert "error: limits.maxHops: found 0" in bad.stdout
    told = json.loads(commands.bester("check", "server.conf", "--json").stdout)
    assert told["ok"] is False
    assert {error["key"] for error in told["errors"]} >= {"network.tcp4.port", "limits.maxHops"}
    assert any("nonsense" in line for line in told["warnings"])


def test_an_expired_certificate_is_called_that(commands: Commands) -> None:
    self_signed(commands.folder, "a.example", days=0)
    commands.configure(network={"tls": {"port": 0, "certificate": "a.example.pem", "key": "a.example.key"}})
    assert "expired on" in commands.bester("check").stdout
    assert "EXPIRED" in commands.bester("certificate", "show").stdout
    assert json.loads(commands.bester("certificate", "show", "--json").stdout)["expired"] is True


# -- accounts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("running", [False, True])
def test_accounts(commands: Commands, running: bool) -> None:
    commands.configure()
    if running:
        commands.serve()
    assert "alice was created" in commands.bester("account", "add", "Alice", "--admin").stdout
    made = commands.bester("account", "add", "bob", "--password-stdin", "--json", input="secret\n", password=None)
    assert json.loads(made.stdout) == {"username": "bob", "roles": []}
    again = commands.bester("account", "add", "ALICE")
    assert again.returncode == 1
    assert "accountExists" in again.stderr
    assert commands.bester("account", "add", "a\u202eb").returncode == 1
    assert commands.bester("account", "role", "bob", "--add", "ops", "--add", "night").stdout == "bob: ops, night\n"
    assert commands.bester("account", "role", "BOB", "--remove", "ops").stdout == "bob: night\n"
    assert commands.bester("account", "role", "nobody", "--add", "ops").returncode == 1
    assert commands.bester("account", "role", "bob", "--add", "x", "--remove", "x").returncode == 2
    assert commands.bester("account", "role", "bob", "--add", "").returncode == 1
    rows = [json.loads(line) for line in commands.bester("account", "list", "--json").stdout.splitlines()]
    assert [(row["username"], row["roles"]) for row in rows] == [("alice", ["admin"]), ("bob", ["night"])]
    assert "alice" in commands.bester("account", "list").stdout
    assert commands.bester("account", "password", "bob", password="new").returncode == 0
    assert commands.bester("account", "password", "nobody").returncode == 1
    assert commands.bester("account", "remove", "alice").returncode == 0
    gone = commands.bester("account", "remove", "alice")
    assert gone.returncode == 1
    assert "unknownAccount" in gone.stderr
    if not running:
        commands.serve()
    assert commands.bester("send", commands.url, "none", "1", "-u", "bob", password="new").returncode == 1
    assert commands.bester("send", commands.url, "none", "1", "-u", "bob", password="secret").returncode == 4


def test_password_is_asked_for_nowhere_else(commands: Commands) -> None:
    commands.configure()
    result = commands.bester("account", "add", "a", password=None)
    assert result.returncode == 2
    assert "BESTER_PASSWORD" in result.stderr
    assert commands.bester("account", "add", "a", "--password-stdin", password=None).returncode == 2
    assert commands.bester("account", "add", "a", "--password", "x").returncode == 2


def test_no_configuration(commands: Commands) -> None:
    for words in (["account", "list"], ["status"], ["check"], ["reload"]):
        result = commands.bester(*words)
        assert result.returncode == 2
        assert "no server.conf or bester.toml" in result.stderr
    commands.configure(network={"tcp4": {"port": "99999"}})
    result = commands.bester("account", "list")
    assert result.returncode == 2
    assert "network.tcp4.port" in result.stderr


# -- messages ----------------------------------------------------------------------------------------------------


def test_send(commands: Commands, server: Process) -> None:
    good = commands.bester("send", "--to", commands.url, "--user", "a", "echo", '{"n": 1.50}')
    assert (good.returncode, good.stdout.splitlines()[0]) == (0, "good")
    bad = commands.bester("send", commands.url, "nothing", "null", "--user", "a")
    assert bad.returncode == 1
    assert "noHandler" in bad.stdout
    told = json.loads(commands.bester("send", commands.url, "nothing", "1", "-u", "a", "--json").stdout)
    assert told["status"] == "bad"
    assert told["error"]["code"] == "noHandler"


def test_ask_sends_the_bytes_as_they_are(commands: Commands, server: Process) -> None:
    written = '{"b":  1.50, "a": "\\u00e9",\n "big": 12345678901234567890123}'
    result = commands.bester("ask", commands.url, "echo", written, "--user", "a")
    assert (result.returncode, result.stdout) == (0, written.replace("\n", " ") + "\n")
    piped = commands.bester("ask", commands.url, "echo", "-", "--user", "a", "--json", input='"é\x9b"')
    assert piped.stdout == '{"type":"echo","data":"é\\u009b"}\n'
    text = commands.bester("ask", commands.url, "echo", "-", "--user", "a", "--text", input="say \x1b[31m hi\n")
    assert text.stdout == "say \\x1b[31m hi\n"
    first = commands.bester(
        "ask", commands.url, "echo", "-", "-u", "a", "--password-stdin", input=f'{PASSWORD}\n"x"', password=None
    )
    assert first.stdout == '"x"\n'


def test_ask_without_an_answer(commands: Commands, server: Process) -> None:
    program = (
        "import time; from bester import Handler; h = Handler('besterHandlers'); h.on('quiet')(lambda m: None);"
        "h.on('slow')(lambda m: time.sleep(1)); h.run()"
    )
    (commands.folder / "quiet.py").write_text(program)
    commands.start("python", "quiet.py").wait_for_log("attached to")
    quiet = commands.bester("ask", commands.url, "quiet", "1", "--user", "a")
    assert (quiet.returncode, quiet.stdout) == (1, "")
    assert "no handler replied" in quiet.stderr
    slow = commands.bester("ask", commands.url, "slow", "1", "--user", "a", "--timeout", "0.2")
    assert (slow.returncode, slow.stdout) == (1, "")
    assert "no answer within 0.2 s" in slow.stderr


def test_ask_prints_the_parts_of_an_answer_as_they_come(commands: Commands, server: Process) -> None:
    program = """
import asyncio
import sys
from bester import Handler, Refuse, Reply

handler = Handler("besterHandlers")

@handler.on("count")
async def count(message):
    last = int(message.data)
    try:
        for number in range(last):
            yield Reply(f"part {number}")
        if last == 3:
            raise Refuse("no more", code="count.tired")
        await asyncio.sleep(60 if last > 3 else 0)
    except (asyncio.CancelledError, GeneratorExit):
        print("given up", message.data, file=sys.stderr, flush=True)
        raise

handler.run()
"""
    (commands.folder / "count.py").write_text(program)
    handler = commands.start("python", "count.py")
    handler.wait_for_log("attached to")
    ask = ["ask", commands.url, "count", "--user", "a", "--stream"]
    assert commands.bester(*ask, "2").stdout == '"part 0"\n"part 1"\n'
    assert commands.bester(*ask, "2", "--text").stdout == "part 0\npart 1\n"
    assert commands.bester(*ask, "1", "--json").stdout == '{"type":"count","data":"part 0"}\n'
    refused = commands.bester(*ask, "3")
    assert (refused.returncode, refused.stdout.count("\n")) == (1, 3)
    assert "no more (handlerError: count.tired)" in refused.stderr
    none = commands.bester(*ask, "0")
    assert (none.returncode, none.stdout) == (1, "")
    assert "no handler replied" in none.stderr
    late = commands.bester(*ask, "4", "--timeout", "0.3")
    assert (late.returncode, late.stdout.count("\n")) == (1, 4)
    assert "no further part of the answer within 0.3 s" in late.stderr
    handler.wait_for_log("given up 4")
    asking = commands.start("bester", *ask, "1000000", BESTER_PASSWORD=PASSWORD)
    assert asking.wait_for("part 100") == '"part 100"'
    assert asking.stop(signal.SIGINT) == 130
    assert "Traceback" not in asking.told()
    handler.wait_for_log("given up 1000000")


def _kept(commands: Commands, user: str) -> int:
    """How many messages are in an account's mailbox."""
    rows = json.loads(commands.bester("command", "listAccounts").stdout)
    (found,) = [row["mailbox"]["messages"] for row in rows if row["username"] == user]
    return int(found)


def test_send_and_ask_leave_the_mailbox_alone(commands: Commands, server: Process) -> None:
    _to_b(commands, "echo:not an answer", "other:one")
    assert commands.bester("send", commands.url, "echo", "1", "--user", "b").returncode == 0
    assert commands.bester("ask", commands.url, "echo", '"mine"', "--user", "b").stdout == '"mine"\n'
    assert _kept(commands, "b") == 2


def test_listen_takes_what_it_prints_and_nothing_else(commands: Commands, server: Process) -> None:
    _to_b(commands, *(f"{type}:{number}" for number in range(3) for type in ("note", "other")))
    listen = ["listen", commands.url, "--user", "b"]
    full = ["sh", "-c", f"exec {shlex.join([str(BIN / 'bester'), *listen])} > /dev/full"]
    failed = subprocess.run(full, cwd=commands.folder, env=environment(BESTER_PASSWORD=PASSWORD), capture_output=True)
    assert failed.returncode == 1
    assert b"the output cannot be written: No space left" in failed.stderr
    assert b"Traceback" not in failed.stderr
    some = commands.bester(*listen, "--type", "other", "--count", "2")
    assert some.stdout.splitlines() == ['other: "0"', 'other: "1"']
    rest = commands.bester(*listen, "--count", "4")
    assert rest.stdout.splitlines() == ['note: "0"', 'note: "1"', 'note: "2"', 'other: "2"']
    until_sync(lambda: not _kept(commands, "b"))


@pytest.mark.parametrize("data", ["{", "NaN", "[1]]", "", "\ufeff1", "hello"])
def test_data_that_is_no_json(commands: Commands, data: str) -> None:
    result = commands.bester("send", "bester://127.0.0.1:1", "echo", data, "--user", "a")
    assert result.returncode == 2
    assert "not JSON" in result.stderr


def test_usage_errors(commands: Commands) -> None:
    for words in (
        ["send", "echo", "1", "--user", "a"],
        ["send", "bester://h", "echo", "--user", "a"],
        ["send", "bester://h", "echo", "1"],
        ["send", "http://h", "echo", "1"],
        ["send", "--to", "http://h", "echo", "1", "--user", "a"],
        ["listen", "--user", "a"],
        ["nonsense"],
    ):
        assert commands.bester(*words).returncode == 2, words


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("127.0.0.1:2223", "write bester://127.0.0.1:2223, or besters://127.0.0.1:2223 for TLS"),
        ("http://h", "write bester://h, or besters://h for TLS"),
        ("unix:/socket", "which starts with bester://, besters:// (TLS) or bester+unix:"),
    ],
)
def test_a_url_that_is_none_is_told_with_the_right_one(commands: Commands, url: str, said: str) -> None:
    for words in (["send", url, "echo", "1"], ["send", "--to", url, "echo", "1"], ["listen", url]):
        result = commands.bester(*words, "--user", "a")
        assert result.returncode == 2, words
        assert said in result.stderr, words


def test_completion_knows_the_commands(commands: Commands) -> None:
    asked = {"_TYPER_COMPLETE_ARGS": "bester qu", "COMP_WORDS": "bester qu", "COMP_CWORD": "1"}
    assert commands.start("bester", _BESTER_COMPLETE="complete_bash", **asked).wait_for("q") == "queue"


def test_no_connection_and_no_entry(commands: Commands, server: Process) -> None:
    nowhere = commands.bester("send", "bester+unix:/nonexistent/socket", "echo", "1", "--user", "a")
    assert nowhere.returncode == 3
    assert len(nowhere.stderr.splitlines()) == 1
    wrong = commands.bester("send", commands.url, "echo", "1", "--user", "a", password="wrong")
    assert wrong.returncode == 4
    assert "authenticationFailed" in wrong.stderr
    assert commands.bester("listen", commands.url, "--user", "nobody").returncode == 4


def test_tls_where_there_is_none_is_told(commands: Commands) -> None:
    commands.configure(network={"tcp4": {"port": 0, "address": "127.0.0.1"}})
    server = commands.start("besterd")
    port = server.wait_for("listening on tcp4://127.0.0.1:").rpartition(":")[2]
    result = commands.bester("send", "--to", f"besters://127.0.0.1:{port}", "--user", "a", "echo", "1")
    assert (result.returncode, "TLS: the server does not speak it" in result.stderr) == (3, True), result
    server.wait_for_log("the other end speaks TLS")


def _listen(commands: Commands, *options: str) -> Process:
    listening = commands.start("bester", "listen", commands.url, "--user", "b", *options, BESTER_PASSWORD=PASSWORD)
    listening.wait_for_log("listening on a.example")
    return listening


def _to_b(commands: Commands, *texts: str) -> None:
    """A handler that sends to b, attached for as long as it takes."""
    program = (
        "import asyncio, sys; from bester import Handler, SendClients\n"
        "h = Handler('besterHandlers'); h.on('note')(lambda m: None)\n"
        "async def go():\n"
        "    async with h:\n"
        "        for text in sys.argv[1:]:\n"
        "            kind, _, rest = text.partition(':')\n"
        "            (await h.push(SendClients(['b'], rest, type=kind))).raise_for_status()\n"
        "asyncio.run(go())\n"
    )
    subprocess.run([sys.executable, "-c", program, *texts], cwd=commands.folder, check=True, timeout=30)


def test_listen(commands: Commands, server: Process) -> None:
    listening = _listen(commands, "--json", "--count", "2", "--type", "note")
    _to_b(commands, "note:one", "other:two", "note:three")
    assert listening.wait() == 0
    assert [json.loads(line) for line in listening.lines] == [
        {"type": "note", "data": "one"},
        {"type": "note", "data": "three"},
    ]


def test_listen_until_interrupted(commands: Commands, server: Process) -> None:
    listening = _listen(commands)
    _to_b(commands, "note:one")
    assert listening.wait_for("note") == 'note: "one"'
    assert listening.stop(signal.SIGINT) == 0
    assert "Traceback" not in listening.told()


def test_listen_ends_with_its_reader(commands: Commands, server: Process) -> None:
    listening = _listen(commands)
    listening.output.close()
    assert listening.popen.wait(10) == 0
    assert "Traceback" not in listening.told()


def test_listen_timeout(commands: Commands, server: Process) -> None:
    words = ["listen", commands.url, "--user", "b", "--timeout", "0.5"]
    assert commands.bester(*words).returncode == 0
    assert commands.bester(*words, "--count", "1").returncode == 1


def test_listen_ends_with_the_server(commands: Commands, server: Process) -> None:
    listening = _listen(commands)
    assert server.stop() == 0
    assert listening.wait() == 3
    assert "shuttingDown" in listening.told()


# -- operating ---------------------------------------------------------------------------------------------------


def test_no_server_is_running(commands: Commands) -> None:
    commands.configure()
    for words in (["status"], ["reload"], ["drain"], ["kick", "a"], ["bench", "-c", "server.conf"]):
        result = commands.bester(*words)
        assert result.returncode == 3
        assert "no server is running" in result.stderr
        assert "besterd" in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_status(commands: Commands, server: Process) -> None:
    _listen(commands)
    told = json.loads(commands.bester("status", "--json").stdout)
    assert told["pid"] == server.pid
    assert [client["username"] for client in told["clients"]] == ["b"]
    assert told["rates"] == {"accepted": 0.0, "good": 0.0, "bad": 0.0, "deliveries": 0.0}
    commands.bester("send", commands.url, "nothing", "1", "-u", "a")
    shown = commands.bester("status")
    assert shown.returncode == 0, shown.stderr
    for text in ("a.example", "echo", "classic", "1 noHandler", "unix://"):
        assert text in shown.stdout
    watching = commands.start("bester", "status", "--watch", "--json", "--interval", "0.1")
    for _ in range(2):
        assert json.loads(watching.wait_for("{"))["server"] == "a.example"
    assert watching.stop(signal.SIGINT) == 0


def test_reload_kick_drain(commands: Commands, server: Process) -> None:
    assert commands.bester("kick", "b").returncode == 1
    listening = _listen(commands)
    assert json.loads(commands.bester("kick", "b", "--json").stdout) == {"sessions": 1}
    assert listening.wait() == 3
    assert "sessionEnded" in listening.told()
    assert "was reloaded" in commands.bester("reload").stdout
    commands.configure(server={"name": "b.example"})
    assert json.loads(commands.bester("reload", "--json").stdout)["restartNeeded"] == ["server.name"]
    assert commands.bester("drain").returncode == 0
    assert server.wait() == 0


def test_bench(commands: Commands) -> None:
    result = commands.bester("bench", "--count", "500", "--json", "--clients", "2")
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert (figures["messages"], figures["bad"]) == (500, 0)
    assert figures["roundTripsPerSecond"] > 0
    shown = commands.bester("bench", "--count", "100")
    assert "round trips/s" in shown.stdout
    assert not shown.stderr


def test_bench_of_a_running_server(commands: Commands, server: Process) -> None:
    words = ["bench", "--count", "200", "--json"]
    result = commands.bester(*words, "--config", "server.conf")
    assert result.returncode == 0, result.stderr
    assert [row for row in commands.bester("account", "list").stdout.splitlines() if "bench" in row] == []
    _to_b(commands, "other:one")
    result = commands.bester(*words, "--to", commands.url, "--user", "b")
    assert result.returncode == 0, result.stderr
    assert _kept(commands, "b") == 1
    result = commands.bester(*words, "--to", commands.url, "--user", "a", "--type", "nothing")
    assert result.returncode == 1
    assert "noHandler" in result.stderr
