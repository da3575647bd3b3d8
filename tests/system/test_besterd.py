"""The daemon's command: usage, start, signals, restart."""

from __future__ import annotations

import json
import signal
import socket
from typing import TYPE_CHECKING

from bester import __version__
from bester.compiled import build

if TYPE_CHECKING:
    from tests.system.conftest import Commands


def test_usage(commands: Commands) -> None:
    result = commands.installed("besterd", "--help")
    assert result.returncode == 0
    assert result.stdout.startswith("Usage: besterd [--nodes N] [CONFIG]")
    for arguments, said in (
        (["one", "two"], "at most one CONFIG is allowed; got 2"),
        (["--port", "3"], "there is no option --port"),
        (["--nodes", "many"], "--nodes needs a number from 1 to 64"),
    ):
        result = commands.besterd(*arguments)
        assert result.returncode == 2
        assert result.stderr.startswith(f"besterd: {said}")
        assert "Usage: besterd [--nodes N] [CONFIG]" in result.stderr
        assert not result.stdout
    assert commands.installed("besterd", "--version").stdout == f"besterd {__version__} ({build()})\n"


def test_no_configuration(commands: Commands) -> None:
    result = commands.besterd()
    assert result.returncode == 2
    assert "there is no server.conf or bester.toml in this folder" in result.stderr


def test_wrong_configuration_tells_every_error(commands: Commands) -> None:
    commands.configure(
        network={"types": ["tcp4", "tls"], "tcp4": {"port": "99999"}},
        limits={"handlerTimeout": "long", "maxHops": 0},
    )
    result = commands.besterd("server.conf")
    assert result.returncode == 2
    for key in ("network.tcp4.port", "network.tls", "limits.handlerTimeout", "limits.maxHops"):
        assert f"{key}: found " in result.stderr
    assert not result.stdout


def test_a_misspelled_key_is_told_where_the_start_fails(commands: Commands) -> None:
    commands.configure(netwrok={"tcp4": {"port": 2300}}, network={"types": ["tcp4"]})
    result = commands.besterd("server.conf")
    assert result.returncode == 2
    assert "warning: netwrok: unknown key, ignored; did you mean network?" in result.stderr


def test_no_such_file(commands: Commands) -> None:
    result = commands.besterd("nothing.conf")
    assert result.returncode == 2
    assert "nothing.conf" in result.stderr


def test_ready_and_stopped(commands: Commands) -> None:
    commands.configure(network={"unix": {"address": "socket"}, "tcp4": {"address": "127.0.0.1", "port": 0}})
    server = commands.start("besterd")  # server.conf of this folder
    server.wait_for("listening on unix://")
    port = int(server.wait_for("listening on tcp4://127.0.0.1:").rpartition(":")[2])
    assert server.wait_for("is ready") == "besterd: a.example is ready"
    socket.create_connection(("127.0.0.1", port), 5).close()
    assert (commands.folder / "socket").is_socket()
    assert server.stop() == 0
    assert server.lines[-2:] == ["besterd: stopping", "besterd: stopped"]
    assert not [path.name for path in commands.folder.iterdir() if path.is_socket()]


def test_interrupt_stops_too(commands: Commands) -> None:
    commands.configure()
    assert commands.serve().stop(signal.SIGINT) == 0


def test_stale_socket_is_replaced(commands: Commands) -> None:
    commands.configure()
    for name in ("socket", "besterControl"):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(commands.folder / name))
    server = commands.serve()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(commands.folder / "socket"))
    assert server.stop() == 0


def test_killed_server_leaves_sockets_that_are_replaced(commands: Commands) -> None:
    commands.configure()
    assert commands.serve().stop(signal.SIGKILL) == -signal.SIGKILL
    assert (commands.folder / "socket").is_socket()
    assert commands.serve().stop() == 0


def test_live_socket_is_an_error(commands: Commands) -> None:
    commands.configure()
    commands.configure(
        "other.conf",
        control={"address": "c"},
        handlers={"address": "h"},
        informer={"address": "i"},
        storage={"path": "o.db"},
    )
    first = commands.serve()
    second = commands.besterd("other.conf")
    assert second.returncode == 1
    assert "another process is listening there" in second.stderr
    assert len(second.stderr.splitlines()) < 10
    assert not (commands.folder / "c").exists()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(commands.folder / "socket"))
    assert first.stop() == 0


def test_a_file_at_the_sockets_path_is_an_error(commands: Commands) -> None:
    commands.configure()
    (commands.folder / "socket").write_text("precious")
    result = commands.besterd("server.conf")
    assert result.returncode == 1
    assert "no socket" in result.stderr
    assert (commands.folder / "socket").read_text() == "precious"


def test_restart_binds_again_at_once(commands: Commands) -> None:
    commands.configure(network={"tcp4": {"address": "127.0.0.1", "port": 0}})
    server = commands.start("besterd", "server.conf")
    port = int(server.wait_for("listening on tcp4://").rpartition(":")[2])
    server.wait_for("is ready")
    commands.configure(network={"tcp4": {"address": "127.0.0.1", "port": port}})
    # A connection that the server closes first stays in TIME_WAIT there.
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        assert server.stop() == 0
        while client.recv(4096):
            pass
    assert commands.serve().stop() == 0


def test_reload(commands: Commands) -> None:
    commands.configure(admin={"info": {"round": 1}})
    server = commands.serve()
    commands.configure(admin={"info": {"round": 2}})
    server.send_signal(signal.SIGHUP)
    server.wait_for_log("the configuration has been reloaded")
    (commands.folder / "server.conf").write_text('{"network": {"tcp4": {"port": "many"}}}')
    server.send_signal(signal.SIGHUP)
    server.wait_for_log("was not reloaded; nothing has changed")
    server.wait_for_log("network.tcp4.port: found ")
    with socket.socket(socket.AF_UNIX) as informer:
        informer.settimeout(10)
        informer.connect(str(commands.folder / "bInformer"))
        body = json.dumps({"command": {"type": "serverInfo"}}).encode()
        informer.sendall(len(body).to_bytes(4, "little") + body)
        size = int.from_bytes(informer.recv(4), "little")
        answer = json.loads(informer.recv(size, socket.MSG_WAITALL))
    assert answer["data"]["adminInfo"] == {"round": 2}
    assert server.stop() == 0
