"""Opens connections to other servers, and knows whom they lead to (docs/protocol.md, section 8.5).

First it is decided, without a connection, how a server is reached and what it must prove (:func:`plan`); then it is
done (:func:`connect_peer`). Nothing is written to a server before it has proven what it must.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar, cast

from bester import dialling
from bester.config import Config
from bester.config.peers import Federation, Peer, Policy
from bester.errors import BadAddress, BesterError, NotAllowed, ServerUnreachable, ServerUnverified
from bester.net.fingerprints import Shown, shown
from bester.net.forbidden import addresses_of, number_of, refusal_of, socket_to
from bester.net.identity import Identities, ProofBy, presented
from bester.net.resolve import resolve
from bester.net.tls import peer_context
from bester.protocol.addresses import Address, ServerName, TcpAddress, UnixAddress, parse_address
from bester.timeouts import within

P = TypeVar("P", bound=asyncio.BaseProtocol)
Look = Callable[[bytes, bool], None]
"""Is told the certificate, in DER, that a dialled server shows over TLS, and whether that proves its name."""


class Unreachable(ServerUnreachable):
    """No connection; ``step`` says how far it came: ``address``, ``connection`` or ``tls``."""

    def __init__(self, message: str, step: str) -> None:
        super().__init__(message)
        self.step = step


class PeerConnection(NamedTuple, Generic[P]):
    """An open connection, which is the caller's."""

    transport: asyncio.Transport
    protocol: P
    plan: Plan
    """By which it was made."""
    certificate: bytes | None
    """What the other server shows, in DER; None without TLS."""
    others: list[bytes]
    """The certificates that it sent with it."""

    @property
    def name(self) -> str | None:
        """The name that the other server has proven; None where it has proven nothing."""
        return self.plan.name if self.plan.proof else None

    def judge(self, config: Config, identities: Identities) -> BesterError | None:
        """Returns why it would not be made as it is by these, if there is a reason."""
        now = plan(self.plan.address, config.federation)
        try:
            now.check()
        except ServerUnverified as error:
            return error
        if replace(now, policy=self.plan.policy) != self.plan:
            return ServerUnreachable("the server is reached in another way now")
        if not now.named and (refusal := self._refusal(config)) is not None:
            return refusal
        doubt = identities.doubt(now.name or "", now.proof, self.certificate, self.others)
        return _unproven(now.name, doubt) if doubt else None

    def _refusal(self, config: Config) -> NotAllowed | None:
        """Returns why nothing is sent any more to where it leads, which ``federation.servers`` does not name."""
        if not isinstance(self.plan.target, UnixAddress):
            place = self.transport.get_extra_info("peername")
            return refusal_of(number_of(place), config) if place else None
        try:
            with socket_to(config.base / self.plan.target.path, config, False):
                return None
        except NotAllowed as error:
            return error
        except OSError:  # its file is gone, and it is open all the same
            return None


@dataclass(frozen=True, slots=True)
class Plan:
    """How a server is reached."""

    address: Address
    """As it was given."""
    name: str | None
    """The server's name, as far as it is known; what it must prove if ``proof`` says so."""
    proof: ProofBy
    tls: bool
    policy: Policy
    target: Address
    """Where the configuration leads: its address, or the name that is to be looked up."""
    unix: bool
    """Whether the configuration, or the address, leads to a Unix socket."""
    named: bool
    """Whether ``federation.servers`` has the name, or an entry with this address."""

    def check(self) -> None:
        """Refuses what the policy forbids.

        Raises:
            ServerUnverified: under the policy ``verified`` nothing goes to a name that could not be proven. Where the
                operator has given a Unix socket, the file system's permissions say who is there; and an address that
                is no name claims nothing that could be proven.
        """
        named = isinstance(self.address, ServerName)
        if self.policy == "verified" and named and not self.proof and not self.unix:
            raise ServerUnverified(
                f"{self.name} has nothing to prove its name with here: neither a pinned certificate nor an authority"
            )


def plan(address: Address, federation: Federation) -> Plan:
    """Decides how a server is reached, and what it must prove.

    A name that leads to another name in ``federation.servers`` is another name for that server: what its own entry does
    not say, the other's does. An address that is a pinned server's is that server.
    """
    if isinstance(address, ServerName):
        names = list(_chain(address.name, federation))
    else:
        names = [name for name, peer in federation.servers.items() if _leads(peer, address)][:1]
    entries = [(name, federation.servers[name]) for name in names if name in federation.servers]
    final = _parsed(entries[-1][1]) if entries else address
    unix = isinstance(final, UnixAddress)
    asked = next((peer.tls for _, peer in entries if peer.tls is not None), None)
    pinned = next((name for name, peer in entries if _is_pinned(peer)), None)
    proof: ProofBy = ""
    if not unix and asked is not False:
        if pinned is not None:
            proof = "pin"
        elif federation.ca is not None and names:
            proof = "authority"
    policy = next((peer.policy for _, peer in entries if peer.policy is not None), federation.policy)
    name = pinned or (names[-1] if names else None)
    named = bool(entries) or any(_parsed(peer) == address for peer in federation.servers.values())
    return Plan(
        address, name, proof, bool(proof) or (asked is True and not unix), policy, final or address, unix, named
    )


def _chain(name: str, federation: Federation) -> Iterator[str]:
    """Gives a name, and those that its entries lead to, as :func:`bester.net.resolve.resolve` follows them."""
    for _ in range(8):
        yield name
        found = _parsed(federation.servers[name]) if name in federation.servers else None
        if not isinstance(found, ServerName) or found.name == name:
            return
        name = found.name


def _parsed(peer: Peer) -> Address | None:
    try:
        return parse_address(peer.address)
    except BadAddress:
        return None  # resolving it tells what is wrong


def _is_pinned(peer: Peer) -> bool:
    return peer.certificate is not None or peer.fingerprint is not None


def _leads(peer: Peer, address: Address) -> bool:
    return (_is_pinned(peer) or peer.tls is True) and _parsed(peer) == address


async def connect_peer(
    address: Address,
    config: Config,
    identities: Identities,
    make_protocol: Callable[[], P],
    *,
    timeout_s: float | None = None,
    look: Look | None = None,
) -> PeerConnection[P]:
    """Connects to another server, over TCP, a Unix socket or TLS, as :func:`plan` says.

    Args:
        address: as a handler's command gave it.
        config: relative paths of Unix sockets are relative to its ``base``.
        identities: those of the same configuration.
        make_protocol: makes the connection's protocol, whose ``connection_made`` is called when the server has proven
            what it must, and not before. Called once at most.
        timeout_s: for the name, the connection and the handshake together; by default
            ``federation.connectTimeout``.
        look: is told of the certificate, where there is one.

    Raises:
        ServerUnreachable: no connection, with the reason; an :class:`Unreachable`, but for what is wrong with the
            configured address.
        ServerUnverified: the server does not prove its name, or the policy asks for a proof and there is none.
        NotAllowed: nothing is sent there (:mod:`bester.net.forbidden`).
    """
    planned = plan(address, config.federation)
    planned.check()
    limit_s = config.federation.connect_timeout if timeout_s is None else timeout_s
    step = "address"
    try:
        async with within(limit_s):
            configured = {name: peer.address for name, peer in config.federation.servers.items()}
            targets = await resolve(address, configured)
            step = "connection"
            return await _first(targets, planned, config, identities, make_protocol, look)
    except TimeoutError as error:
        raise Unreachable(f"no connection within {limit_s:g} s", step) from error


async def _first(
    targets: list[TcpAddress | UnixAddress],
    planned: Plan,
    config: Config,
    identities: Identities,
    make_protocol: Callable[[], P],
    look: Look | None,
) -> PeerConnection[P]:
    """Connects to the first target that does."""
    loop = asyncio.get_running_loop()
    try:
        if isinstance(targets[0], UnixAddress):
            with socket_to(config.base / targets[0].path, config, planned.named) as path:
                transport, protocol = await loop.create_unix_connection(make_protocol, path)
            return PeerConnection(transport, protocol, planned, None, [])
        where = [one for one in targets if isinstance(one, TcpAddress)]
        infos = await addresses_of(where, config, planned.named)

        async def attempt(connected: socket.socket) -> PeerConnection[P]:
            if not planned.tls:
                transport, protocol = await loop.create_connection(make_protocol, sock=connected)
                return PeerConnection(transport, protocol, planned, None, [])
            door = _Door(planned, identities, make_protocol, look)
            name = planned.name or where[0].host
            transport, _ = await loop.create_connection(
                lambda: door, sock=connected, ssl=identities.dialling, server_hostname=name
            )
            if door.failure is not None:
                raise door.failure
            assert door.protocol is not None
            return PeerConnection(transport, door.protocol, planned, *door.presented)

        return await dialling.dial(infos, attempt, (OSError, ServerUnverified))
    except ssl.SSLError as error:
        raise Unreachable(f"the connection failed: TLS: {error.reason or error}", "tls") from error
    except OSError as error:
        raise Unreachable(f"the connection failed: {_reason(error)}", "connection") from error


def _reason(error: OSError) -> str:
    """Returns what is the matter, in words that show outsiders no addresses of this network."""
    if isinstance(error, socket.gaierror):
        return "no such host"
    return os.strerror(error.errno) if error.errno else "none of its addresses answers"


def _unproven(name: str | None, doubt: str) -> ServerUnverified:
    return ServerUnverified(f"{name} does not prove its name: {doubt}")


class _Door(asyncio.Protocol, Generic[P]):
    """Stands at a TLS connection until the certificate has been looked at; the real protocol then takes its place."""

    def __init__(
        self, planned: Plan, identities: Identities, make_protocol: Callable[[], P], look: Look | None
    ) -> None:
        self.planned = planned
        self.identities = identities
        self.make_protocol = make_protocol
        self.look = look
        self.protocol: P | None = None
        self.failure: BesterError | None = None
        self.presented: tuple[bytes | None, list[bytes]] = (None, [])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        planned = self.planned
        self.presented = certificate, others = presented(transport)
        doubt = self.identities.doubt(planned.name or "", planned.proof, certificate, others)
        if self.look is not None and certificate is not None:
            self.look(certificate, bool(planned.proof) and not doubt)
        if doubt:
            self.failure = _unproven(planned.name, doubt)
            cast(asyncio.Transport, transport).abort()
            return
        self.protocol = self.make_protocol()
        transport.set_protocol(self.protocol)
        self.protocol.connection_made(transport)


async def shown_by(address: Address, name: str, timeout_s: float) -> Shown:
    """Returns the certificate that a server shows over TLS.

    Raises:
        ServerUnreachable: no connection, or no TLS, with the reason.
    """
    from cryptography import x509

    step = "address"
    loop = asyncio.get_running_loop()

    async def attempt(connected: socket.socket) -> bytes:
        transport, _ = await loop.create_connection(
            asyncio.Protocol, sock=connected, ssl=peer_context(), server_hostname=name
        )
        try:
            found: bytes = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
            return found
        finally:
            transport.abort()

    try:
        async with within(timeout_s):
            targets = await resolve(address, {})
            where = [(one.host, one.port) for one in targets if isinstance(one, TcpAddress)]
            if not where:
                raise Unreachable("a Unix socket has no certificate", "tls")
            step = "connection"
            der = await dialling.dial(await dialling.addresses(where), attempt)
            return shown(x509.load_der_x509_certificate(der))
    except TimeoutError as error:
        raise Unreachable(f"no answer within {timeout_s:g} s", step) from error
    except ssl.SSLError as error:
        raise Unreachable(f"{address} answers, but not with TLS: {error.reason or error}", "tls") from error
    except OSError as error:
        raise Unreachable(f"{address}: {_reason(error)}", "connection") from error
    except ValueError as error:
        raise Unreachable("its certificate cannot be read", "tls") from error
