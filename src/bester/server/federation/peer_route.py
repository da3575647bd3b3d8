"""The route to another server, and its capabilities: whether it grants links, or is a classic server.

A server that answers the first message of a link (docs/protocol.md, section 8.6) with anything but a link, or closes in
order, is taken for a classic one for some minutes, so that not every message begins with a question. Silence says
nothing: a server that hangs is silent too, and messages to it in the classic form may be lost. A server that has
granted a link before is not taken for classic because it closes once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from bester.config.peers import Federation
from bester.errors import BesterError, Internal, ServerUnverified
from bester.net.dial_peer import PeerConnection, connect_peer, plan
from bester.net.keepalive import keep_alive
from bester.protocol.addresses import Address
from bester.server.federation.trust import Trust
from bester.server.runtime import Runtime

log = logging.getLogger("bester.servers")

P = TypeVar("P", bound=asyncio.Protocol)

CLASSIC_S = 300.0
"""How long a server is taken for classic before it is asked again."""
MAX_KNOWN = 10_000
QUICK_S = 1.0
"""After how long a dial counts as one to a silent server, which others need not wait for."""
MAX_QUICK_DIALS = 256
"""Dials under way, to all destinations, that began less than :data:`QUICK_S` ago."""
MAX_DIALS = 2048
"""Dials under way to servers that were reached at the last attempt, or not tried before; each is a descriptor."""
MAX_DIALS_AGAIN = 256
"""Dials under way to servers that could not be reached at the last attempt."""


class Dials:
    """Bounds the connections that are being opened, so that silent servers do not hold up those that answer."""

    def __init__(self) -> None:
        self._quick = asyncio.Semaphore(MAX_QUICK_DIALS)
        self._first = asyncio.Semaphore(MAX_DIALS)
        self._again = asyncio.Semaphore(MAX_DIALS_AGAIN)

    @asynccontextmanager
    async def turn(self, failed: bool) -> AsyncIterator[None]:
        """Waits until one more may be opened, which the block does.

        Args:
            failed: whether the last dial to this server failed.
        """
        if failed:
            async with self._again:
                yield
            return
        async with self._first:
            await self._quick.acquire()
            silent = asyncio.get_running_loop().call_later(QUICK_S, self._quick.release)
            try:
                yield
            finally:
                if silent.when() > asyncio.get_running_loop().time():
                    silent.cancel()
                    self._quick.release()


class PeerCapabilities:
    """Remembers by destination whether servers grant links; the oldest are forgotten beyond :data:`MAX_KNOWN`."""

    def __init__(self) -> None:
        self._classic_until: dict[str, float] = {}
        self._linked: dict[str, None] = {}

    def is_classic(self, destination: str, now: float) -> bool:
        """Whether the server is taken for a classic one now, and need not be asked for a link."""
        return self._classic_until.get(destination, 0.0) > now

    def has_linked(self, destination: str) -> bool:
        """Whether the server has granted a link before."""
        return destination in self._linked

    def classic(self, destination: str, now: float) -> None:
        """Notes that the server does not grant links."""
        self._classic_until.pop(destination, None)
        self._classic_until[destination] = now + CLASSIC_S
        self._linked.pop(destination, None)
        if len(self._classic_until) > MAX_KNOWN:
            del self._classic_until[next(iter(self._classic_until))]

    def linked(self, destination: str) -> None:
        """Notes that the server grants links."""
        self._classic_until.pop(destination, None)
        self._linked.pop(destination, None)
        self._linked[destination] = None
        if len(self._linked) > MAX_KNOWN:
            del self._linked[next(iter(self._linked))]


class PeerRoute:
    """The route to one destination, as the present configuration says.

    Args:
        runtime: has the configuration.
        address: the destination.
        trust: what is known of other servers' identities.
        capabilities: whether other servers grant links.
        dials: bounds the connections that are being opened, to all destinations.
    """

    def __init__(
        self,
        runtime: Runtime,
        address: Address,
        trust: Trust,
        capabilities: PeerCapabilities,
        dials: Dials,
    ) -> None:
        self.runtime = runtime
        self.address = address
        self.destination = str(address)
        self.trust = trust
        self.capabilities = capabilities
        self.dials = dials
        self._checked: Federation | None = None
        self._refusal: BesterError | None = None
        self._failed = False
        """Whether the last dial failed."""

    def refusal(self) -> BesterError | None:
        """Returns why the configuration lets nothing be sent there; None where it does."""
        federation = self.runtime.config.federation
        if self._checked is not federation:
            self._checked, self._refusal = federation, None
            try:
                plan(self.address, federation).check()
            except BesterError as error:
                self._refusal = error
        return self._refusal

    def is_classic(self) -> bool:
        """Whether the other server is taken for a classic one now."""
        return self.capabilities.is_classic(self.destination, asyncio.get_running_loop().time())

    @property
    def name(self) -> str:
        """This server's name."""
        return self.runtime.config.server.name

    @property
    def report_timeout_s(self) -> float:
        return self.runtime.config.federation.report_timeout

    @property
    def idle_timeout_s(self) -> float:
        return self.runtime.config.federation.idle_timeout

    @asynccontextmanager
    async def dialling(self) -> AsyncIterator[None]:
        """Waits until the server may be dialled, which the block does; it fails by raising."""
        failed, self._failed = self._failed, True
        async with self.dials.turn(failed):
            yield
        self._failed = False

    async def connect(self, protocol: P) -> PeerConnection[P]:
        """Opens a connection.

        Raises:
            ServerUnreachable: there is none within ``federation.connectTimeout``.
            ServerUnverified: the other server does not prove what it must.
            NotAllowed: nothing is sent there.
            Internal: something else went wrong.
        """
        identities = self.trust.identities
        assert identities is not None
        try:
            async with self.dialling():
                connection = await connect_peer(
                    self.address, self.runtime.config, identities, lambda: protocol, on_certificate=self._look
                )
        except BesterError as error:
            if isinstance(error, ServerUnverified):
                self.doubt(error)
            log.info("%s cannot be reached: %s", self.destination, error.inside, extra={"server": self.destination})
            raise
        except Exception as error:
            log.exception("connecting to %s failed", self.destination)
            raise Internal() from error
        self.trust.believe(self.destination)
        if (connected := connection.transport.get_extra_info("socket")) is not None:
            keep_alive(connected)
        return connection

    def doubt(self, error: BesterError) -> None:
        """Notes that the server at the other end does not prove its name."""
        name = plan(self.address, self.runtime.config.federation).name
        self.trust.doubt(self.destination, name, error.message)

    def judge(self, connection: PeerConnection[P]) -> BesterError | None:
        """Returns why the present configuration would not make this connection; None if it would."""
        identities = self.trust.identities
        return connection.judge(self.runtime.config, identities) if identities is not None else None

    def _look(self, certificate: bytes, proven: bool) -> None:
        self.trust.saw(self.destination, certificate, proven)
