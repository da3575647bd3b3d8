"""The XMPP servers that are compared, where they are installed: ejabberd and Prosody.

Each runs from a folder of its own, in the foreground, over plain TCP, without limits of rate, and with no module that
the work does not need: what is left out could only make them slower. The handler is an external component
(XEP-0114), which XMPP servers take over TCP only.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from tests.ports import free_ports

from bench.load.dialects import COMPONENT, PASSWORD, SECRET, SERVER, account
from bench.machine import Cores, command_path
from bench.peers import Running, wait_for_port
from bench.programs import Program, module, program

CLIENTS = 100
"""How many accounts Prosody has; more than the load has clients."""
STARTED_S = 30.0
"""How long a server may take until it listens."""

Start = Callable[[Path, Cores], AbstractContextManager[Running]]
"""Starts a server in an empty folder."""

PROSODY = """
run_as_root = true -- or it would look for a user that may not read the folder
data_path = "{folder}/data"
pidfile = "{folder}/pid"
log = {{ info = "{folder}/server.log" }}
modules_enabled = {{ "saslauth" }}
modules_disabled = {{ "offline", "s2s" }}
authentication = "internal_plain"
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
c2s_interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {clients} }}
c2s_direct_tls_ports = {{}}
component_interfaces = {{ "127.0.0.1" }}
component_ports = {{ {components} }}
VirtualHost "{host}"
Component "{component}"
    component_secret = "{secret}"
"""


@contextmanager
def prosody(folder: Path, cores: Cores) -> Iterator[Running]:
    """Prosody, its accounts in files."""
    command = command_path("prosody")
    assert command is not None, "prosody is not installed"
    clients, components = free_ports(2)
    settings = {"folder": folder, "clients": clients, "components": components, "host": SERVER}
    config = folder / "prosody.cfg.lua"
    config.write_text(PROSODY.format(component=COMPONENT.decode(), secret=SECRET.decode(), **settings))
    accounts = folder / "data" / SERVER.replace(".", "%2e") / "accounts"
    accounts.mkdir(parents=True)
    for number in range(CLIENTS):
        (accounts / f"{account(number)}.dat").write_text(f'return {{ ["password"] = "{PASSWORD}"; }};\n')
    with (
        program(command, "-F", "--config", str(config), cores=cores.server, log=folder / "log", cwd=folder) as server,
        _serving("Prosody", folder, cores, server, clients, components, r"Prosody version (\S+)") as running,
    ):
        yield running


@contextmanager
def ejabberd(folder: Path, cores: Cores) -> Iterator[Running]:
    """ejabberd; whoever comes is let in under the name and password that it says, so that there are no accounts."""
    command = command_path("ejabberdctl")
    assert command is not None, "ejabberd is not installed"
    clients, components = free_ports(2)
    host = {"password": SECRET.decode()}
    config = {
        "hosts": [SERVER],
        "loglevel": "info",
        "auth_method": ["anonymous"],
        "anonymous_protocol": "login_anon",
        "allow_multiple_connections": True,  # while a client of the load before is not quite gone
        # Neither listener has a shaper unless it is said.
        "listen": [
            # With its backlog of 5, clients that come at once would wait for the kernel's next attempt.
            {"port": clients, "module": "ejabberd_c2s", "ip": "127.0.0.1", "backlog": 1000},
            {"port": components, "module": "ejabberd_service", "ip": "127.0.0.1", "hosts": {COMPONENT.decode(): host}},
        ],
        "modules": {},
    }
    (folder / "ejabberd.yml").write_text(json.dumps(config))  # which is YAML too
    # No daemon of Erlang's own stays behind, and no port is open for other nodes.
    (folder / "ejabberdctl.cfg").write_text('ERL_OPTIONS="-start_epmd false -dist_listen false"\n')
    for name in ("spool", "logs"):
        (folder / name).mkdir()
    script = _own_ejabberdctl(Path(command), folder)
    places = ("--config-dir", str(folder), "--spool", str(folder / "spool"), "--logs", str(folder / "logs"))
    environment = ("env", f"HOME={folder}", f"SCRIPT={command}")
    node = ("--node", f"bench{clients}@localhost")
    whole = (*environment, str(script), *places, *node, "foreground-quiet")
    with (
        program(*whole, cores=cores.server, log=folder / "log", cwd=folder) as server,
        _serving("ejabberd", folder, cores, server, clients, components, r"ejabberd ([\d.]+)\S* is started") as running,
    ):
        yield running


def _own_ejabberdctl(command: Path, folder: Path) -> Path:
    """Writes ejabberdctl as it is for a user's own installation, and returns where.

    It would change to the user of the installed service, and be the parent of the server; so it becomes the server.

    Raises:
        RuntimeError: this version is not written as those that are known.
    """
    text = command.read_text()
    changes = (r"(?m)^INSTALLUSER=.*$", "INSTALLUSER="), (r'as_current_user\) "\$@"', 'as_current_user) exec "$@"')
    for old, new in changes:
        text, count = re.subn(old, new, text)
        if count != 1:
            raise RuntimeError(f"{command} is of an unknown version: {old}")
    script = folder / "ejabberdctl"
    script.write_text(text)
    script.chmod(0o700)
    return script


@contextmanager
def _serving(
    name: str, folder: Path, cores: Cores, server: Program, clients: int, components: int, version: str
) -> Iterator[Running]:
    """Waits until a server has said its version and listens on both ports, and gives it its component."""
    said = _said(folder, version)
    for port in (clients, components):
        wait_for_port(port, STARTED_S)
    with ExitStack() as stack:
        echo = stack.enter_context(program(*module("handlers", "xmpp", str(components)), cores=cores.load))
        echo.until("ready".__eq__)
        yield Running(name, "xmpp", clients, folder, server, [echo.pid], cores, version=said)


def _said(folder: Path, pattern: str) -> str:
    """Returns what the group of the pattern matches in the server's log, as soon as it does.

    Raises:
        RuntimeError: it does not in time.
    """
    deadline = time.monotonic() + STARTED_S
    while time.monotonic() < deadline:
        for log in folder.rglob("*.log"):
            said = re.search(pattern, log.read_text(errors="replace"))
            if said:
                return str(said[1])
        time.sleep(0.02)
    raise RuntimeError(f"it has not started, see the logs: {(folder / 'log').read_text(errors='replace')[-2000:]}")


SERVERS: dict[str, tuple[str, Start]] = {"ejabberd": ("ejabberdctl", ejabberd), "Prosody": ("prosody", prosody)}
"""By name, with the command that is there if it is installed."""


def installed() -> dict[str, Start]:
    """Returns those that can be measured here."""
    return {name: start for name, (command, start) in SERVERS.items() if command_path(command)}
