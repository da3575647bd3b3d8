"""A Bester server in a simulated world."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import msgspec

from bester.config import load
from bester.lab.machine import Machine
from bester.lab.process import Process
from bester.lab.world import World
from bester.server.server import Server

PORT = 2223
TLS_PORT = 2224
PASSWORD = "secret"


class Known(Protocol):
    """Another server, or a cluster."""

    @property
    def name(self) -> str: ...
    @property
    def address(self) -> str:
        """Its address for other servers."""
        ...

    @property
    def fingerprint(self) -> str | None:
        """What it proves its name by."""
        ...


class LabServer:
    """The real server, as processes one after the other on one machine.

    Args:
        world: its world.
        name: the server's name, and its machine's if that has none.
        overrides: more of its configuration, merged into that of the lab.
        proven: whether it proves its name to other servers, with a certificate; see :meth:`know`.
        machine: the machine's name; each node of a cluster has one.
    """

    def __init__(
        self,
        world: World,
        name: str,
        overrides: Mapping[str, Any] | None = None,
        *,
        proven: bool = False,
        machine: str | None = None,
    ) -> None:
        self._world = world
        self.name = name
        self.machine: Machine = world.machine(machine or name)
        self.settings: dict[str, Any] = {
            "server": {"name": name},
            "network": {"types": ["tcp4"], "tcp4": {"port": PORT, "address": self.machine.address}},
            "accounts": {"registration": "firstUse"},
            "federation": {"policy": "open"},
        }
        self.fingerprint: str | None = None
        if proven:
            self.fingerprint = self._certify()
        if overrides:
            self.configure(overrides)
        self.process: Process | None = None
        self.server: Server | None = None
        """The running one; None while there is none."""
        self.starts = 0

    def configure(self, overrides: Mapping[str, Any]) -> None:
        """Changes the configuration, for the next start."""
        self.settings = merged(self.settings, overrides)

    def _certify(self) -> str:
        """Gives it a certificate, and returns its fingerprint."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        from bester.net.selfsigned import make_certificate

        # Signatures of this kind have one size: so OpenSSL, which has chance of its own, changes nothing in a trace.
        seed = self._world.random(f"key of {self.name}").randbytes(32)
        certificate, key, fingerprint = make_certificate(self.name, Ed25519PrivateKey.from_private_bytes(seed))
        (self.folder / "certificate.pem").write_bytes(certificate)
        (self.folder / "key.pem").write_bytes(key)
        paths = {"certificate": "certificate.pem", "key": "key.pem"}
        self.configure(
            {"network": {"types": ["tcp4", "tls"], "tls": {"address": self.machine.address, "port": TLS_PORT, **paths}}}
        )
        return fingerprint

    def know(self, *others: Known) -> None:
        """Tells it where other servers are, and by what they prove their names; for the next start."""
        for other in others:
            known: dict[str, Any] = {"address": other.address}
            if other.fingerprint is not None:
                known["fingerprint"] = other.fingerprint
            self.configure({"federation": {"servers": {other.name: known}}})

    async def start(self) -> None:
        """Starts it; returns when it is ready.

        Raises:
            bester.errors.BadConfiguration: it cannot start.
        """
        self.starts += 1
        self.process = process = self.machine.process(f"{self.machine.name}#{self.starts}")
        self._world.trace.note(f"{process} starts")
        self.server = await process.call(self._start())
        self._world.trace.note(f"{process} is ready")

    def write_configuration(self) -> None:
        """Writes its configuration into its file, which a reload reads."""
        (self.folder / "server.conf").write_bytes(msgspec.json.encode(self.settings))

    async def _start(self) -> Server:
        self.write_configuration()
        server = Server(load(self.folder / "server.conf"))
        await server.start()
        return server

    async def stop(self) -> None:
        """Stops it in an orderly way, as SIGTERM does."""
        process, server = self.process, self.server
        if process is not None and server is not None:
            self._world.trace.note(f"{process} stops")
            await process.call(server.stop())
            self.server = None
            process.kill()

    def kill(self) -> None:
        """Ends it as ``kill -9`` does."""
        if self.process is not None:
            self._world.trace.note(f"{self.process} is killed")
            self.process.kill()
            self.server = None

    @property
    def running(self) -> bool:
        """Whether there is a process, which may not be ready yet."""
        return self.process is not None and self.process.alive

    def url(self, user: str, password: str = PASSWORD) -> str:
        """Returns a client's URL. The account's first login creates it."""
        return f"bester://{quote(user, safe='')}:{quote(password, safe='')}@{self.machine.address}:{PORT}"

    @property
    def address(self) -> str:
        """Its address for other servers."""
        return f"{self.machine.address}:{PORT if self.fingerprint is None else TLS_PORT}"

    @property
    def handlers_path(self) -> str:
        """The address for :class:`bester.Handler` on its machine."""
        return str(self.folder / "besterHandlers")

    @property
    def folder(self) -> Path:
        return self.machine.folder


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Returns one configuration merged into another."""
    result = dict(base)
    for key, value in over.items():
        before = result.get(key)
        result[key] = merged(before, value) if isinstance(before, dict) and isinstance(value, Mapping) else value
    return result
