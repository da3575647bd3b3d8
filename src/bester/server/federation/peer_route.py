"""How another server is reached, and what it turns out to be: one that grants links, or a classic one.

Who answers the first message of a link (docs/protocol.md, section 8.6) with anything but a link, or closes in order, is
classic, and is taken for that for some minutes, so that not every message begins with a question. Silence says nothing:
a server that hangs is silent too, and what is sent to it in the classic form may be lost. A server that has granted a
link before is not taken for classic because it closes once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeVar

from bester.config.peers import Federation
from bester.errors import BesterError, Internal, ServerUnreachable, ServerUnverified
from bester.net.dial_peer import PeerConnection, connect_peer, plan
from bester.net.keepalive import keep_alive
from bester.protocol.addresses import Address
from bester.server.federation.link import Link, Owner, quoted

if TYPE_CHECKING:
    from bester.server.runtime import Runtime

log = logging.getLogger("bester.servers")

P = TypeVar("P", bound=asyncio.Protocol)

ANSWER_S = 5.0
"""How long the first message's answer may take."""
CLASSIC_S = 300.0
"""How long a server is taken for classic before it is asked again."""
MAX_KINDS = 10_000
MAX_DIALS = 256
"""Connections that are being opened, to all destinations."""


class PeerCapabilities:
    """What servers have turned out to be, by destination; the oldest are forgotten beyond a number."""

    def __init__(self) -> None:
        self._classic_until: dict[str, float] = {}
        self._linked: dict[str, None] = {}

    def is_classic(self, destination: str, now: float) -> bool:
        """Whether it need not be asked for a link."""
        return self._classic_until.get(destination, 0.0) > now

    def has_linked(self, destination: str) -> bool:
        """Whether it has granted a link before."""
        return destination in self._linked

    def classic(self, destination: str, now: float) -> None:
        """It does not grant links."""
        self._classic_until.pop(destination, None)
        self._classic_until[destination] = now + CLASSIC_S
        self._linked.pop(destination, None)
        if len(self._classic_until) > MAX_KINDS:
            del self._classic_until[next(iter(self._classic_until))]

    def linked(self, destination: str) -> None:
        """It grants links."""
        self._classic_until.pop(destination, None)
        self._linked.pop(destination, None)
        self._linked[destination] = None
        if len(self._linked) > MAX_KINDS:
            del self._linked[next(iter(self._linked))]


class PeerRoute:
    """How one destination is reached, as the configuration says now."""

    def __init__(self, runtime: Runtime, address: Address, kinds: PeerCapabilities, dials: asyncio.Semaphore) -> None:
        self.runtime = runtime
        self.address = address
        self.destination = str(address)
        self.kinds = kinds
        self.dials = dials
        self._checked: Federation | None = None
        self._refusal: BesterError | None = None

    def refusal(self) -> BesterError | None:
        """Returns why nothing can be sent there, as far as the configuration alone tells."""
        federation = self.runtime.config.federation
        if self._checked is not federation:
            self._checked, self._refusal = federation, None
            try:
                plan(self.address, federation).check()
            except BesterError as error:
                self._refusal = error
        return self._refusal

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

    async def connect(self, protocol: P) -> PeerConnection[P]:
        """Opens a connection.

        Raises:
            ServerUnreachable: there is none within ``federation.connectTimeout``.
            ServerUnverified: the other server does not prove what it must.
            NotAllowed: nothing is sent there.
            Internal: something else went wrong.
        """
        identities = self.runtime.federation.trust.identities
        assert identities is not None
        try:
            async with self.dials:
                connection = await connect_peer(
                    self.address, self.runtime.config, identities, lambda: protocol, look=self._look
                )
        except BesterError as error:
            if isinstance(error, ServerUnverified):
                self.doubt(error)
            log.info("%s cannot be reached: %s", self.destination, error.inside, extra={"server": self.destination})
            raise
        except Exception as error:
            log.exception("connecting to %s failed", self.destination)
            raise Internal() from error
        self.runtime.federation.trust.believe(self.destination)
        if (connected := connection.transport.get_extra_info("socket")) is not None:
            keep_alive(connected)
        return connection

    def doubt(self, error: BesterError) -> None:
        """Whoever is there does not prove what must be proven."""
        name = plan(self.address, self.runtime.config.federation).name
        self.runtime.federation.trust.doubt(self.destination, name, error.message)

    def judge(self, connection: PeerConnection[P]) -> BesterError | None:
        """Returns why a connection would not be made now as it is, if there is a reason."""
        identities = self.runtime.federation.trust.identities
        return connection.judge(self.runtime.config, identities) if identities is not None else None

    def _look(self, certificate: bytes, proven: bool) -> None:
        self.runtime.federation.trust.saw(self.destination, certificate, proven)


async def open_link(way: PeerRoute, owner: Owner) -> Link | None:
    """Returns a link that is up, or None where the other server is a classic one.

    Raises:
        BesterError: it cannot be reached now, or says that it takes nothing now.
    """
    kinds, destination = way.kinds, way.destination
    loop = asyncio.get_running_loop()
    if kinds.is_classic(destination, loop.time()):
        return None
    link = Link(way, owner)
    link.connection = await way.connect(link)
    try:
        answer = await link.greet(min(ANSWER_S, way.runtime.config.federation.connect_timeout))
    except TimeoutError as silence:
        link.retire()
        raise ServerUnreachable("the other server did not answer") from silence
    except BaseException:
        link.retire()
        raise
    if answer is not None and answer.grants_link:
        if link.closed:
            raise ServerUnreachable("the link was lost")
        kinds.linked(destination)
        link.granted(answer)
        log.info("the link to %s is up", destination, extra={"server": destination})
        return link
    link.retire()
    error = answer.payload.error if answer is not None else None
    if error is not None and error.temporary:
        raise ServerUnreachable(f"the other server says: {quoted(error)}")
    if answer is None and kinds.has_linked(destination):
        raise ServerUnreachable("the other server closed the connection instead of an answer")
    kinds.classic(destination, loop.time())
    log.info("%s grants no links: messages go there in the classic form", destination)
    return None
