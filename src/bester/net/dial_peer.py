"""Opens connections to other servers and verifies their names (docs/protocol.md, section 8.5).

:func:`plan` first decides, without a connection, how to reach a server and what it must prove; :func:`connect_peer`
then connects. Nothing is written to a server before it has proven what it must.
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
CertificateCallback = Callable[[bytes, bool], None]
"""Receives the certificate, in DER, that a server presents over TLS, and whether it proves the server's name."""


class Unreachable(ServerUnreachable):
    """There is no connection; ``step`` names the step that failed: ``address``, ``connection`` or ``tls``."""

    def __init__(self, message: str, step: str) -> None:
        super().__init__(message)
        self.step = step


class PeerConnection(NamedTuple, Generic[P]):
    """An open connection, owned by the caller."""

    transport: asyncio.Transport
    protocol: P
    plan: Plan
    """The plan that the connection follows."""
    certificate: bytes | None
    """The other server's certificate, in DER; None without TLS."""
    others: list[bytes]
    """The other certificates that the server sent."""

    @property
    def name(self) -> str | None:
        """The name that the other server has proven; None if it has proven nothing."""
        return self.plan.name if self.plan.proof else None

    def judge(self, config: Config, identities: Identities) -> BesterError | None:
        """Returns why this configuration and these identities no longer permit the connection; None if they do."""
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
        """Returns why the connection's destination, which ``federation.servers`` does not name, is forbidden now."""
        if not isinstance(self.plan.target, UnixAddress):
            place = self.transport.get_extra_info("peername")
            return refusal_of(number_of(place), config) if place else None
        try:
            with socket_to(config.base / self.plan.target.path, config, False):
                return None
        except NotAllowed as error:
            return error
        except OSError:  # the socket's file is gone, but the connection is still open
            return None


@dataclass(frozen=True, slots=True)
class Plan:
    """How to reach a server."""

    address: Address
    """The address as given."""
    name: str | None
    """The server's name, if known; the server must prove it if ``proof`` says so."""
    proof: ProofBy
    tls: bool
    policy: Policy
    target: Address
    """The configured destination: the server's address, or the name to look up."""
    unix: bool
    """Whether the destination is a Unix socket."""
    named: bool
    """Whether ``federation.servers`` has the name, or an entry with this address."""

    def check(self) -> None:
        """Checks the plan against the policy.

        Raises:
            ServerUnverified: the policy is ``verified``, and the server cannot prove its name. A Unix socket that the
                operator configured is exempt, because the file system's permissions protect it, and so is an address
                that is not a name, because there is nothing to prove.
        """
        named = isinstance(self.address, ServerName)
        if self.policy == "verified" and named and not self.proof and not self.unix:
            raise ServerUnverified(
                f"{self.name} has nothing to prove its name with here: neither a pinned certificate nor an authority"
            )


def plan(address: Address, federation: Federation) -> Plan:
    """Decides how to reach a server and what it must prove.

    A name whose address in ``federation.servers`` is another name is an alias of that server: settings missing from
    its own entry come from the other's. The address of a pinned server stands for that server.
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
    """Yields a name and the names that its entries lead to, as :func:`bester.net.resolve.resolve` follows them."""
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
        return None  # resolve() reports what is wrong


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
    on_certificate: CertificateCallback | None = None,
) -> PeerConnection[P]:
    """Connects to another server, over TCP, a Unix socket or TLS, as :func:`plan` decides.

    Args:
        address: the address from a handler's command.
        config: relative paths of Unix sockets start at its ``base``.
        identities: the identities of the same configuration.
        make_protocol: makes the connection's protocol, whose ``connection_made`` is called only after the server has
            proven what it must. Called once at most.
        timeout_s: for the name, the connection and the handshake together; by default
            ``federation.connectTimeout``.
        on_certificate: receives the certificate, if there is one.

    Raises:
        ServerUnreachable: there is no connection; the message says why. It is an :class:`Unreachable`, unless the
            configured address is at fault.
        ServerUnverified: the server does not prove its name, or the policy requires a proof that is impossible.
        NotAllowed: the destination is forbidden (:mod:`bester.net.forbidden`).
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
            return await _connect_first(targets, planned, config, identities, make_protocol, on_certificate)
    except TimeoutError as error:
        raise Unreachable(f"no connection within {limit_s:g} s", step) from error


async def _connect_first(
    targets: list[TcpAddress | UnixAddress],
    planned: Plan,
    config: Config,
    identities: Identities,
    make_protocol: Callable[[], P],
    on_certificate: CertificateCallback | None,
) -> PeerConnection[P]:
    """Connects to the first target that answers."""
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
            check = _CertificateCheck(planned, identities, make_protocol, on_certificate)
            name = planned.name or where[0].host
            transport, _ = await loop.create_connection(
                lambda: check, sock=connected, ssl=identities.dialling, server_hostname=name
            )
            if check.failure is not None:
                raise check.failure
            assert check.protocol is not None
            return PeerConnection(transport, check.protocol, planned, *check.presented)

        return await dialling.dial(infos, attempt, (OSError, ServerUnverified))
    except ssl.SSLError as error:
        raise Unreachable(f"the connection failed: TLS: {error.reason or error}", "tls") from error
    except OSError as error:
        raise Unreachable(f"the connection failed: {_reason(error)}", "connection") from error


def _reason(error: OSError) -> str:
    """Returns a description of the error that reveals no addresses of this network to outsiders."""
    if isinstance(error, socket.gaierror):
        return "no such host"
    return os.strerror(error.errno) if error.errno else "none of its addresses answers"


def _unproven(name: str | None, doubt: str) -> ServerUnverified:
    return ServerUnverified(f"{name} does not prove its name: {doubt}")


class _CertificateCheck(asyncio.Protocol, Generic[P]):
    """The first protocol of a TLS connection: checks the certificate, then hands over to the real protocol."""

    def __init__(
        self,
        planned: Plan,
        identities: Identities,
        make_protocol: Callable[[], P],
        on_certificate: CertificateCallback | None,
    ) -> None:
        self.planned = planned
        self.identities = identities
        self.make_protocol = make_protocol
        self.on_certificate = on_certificate
        self.protocol: P | None = None
        self.failure: BesterError | None = None
        self.presented: tuple[bytes | None, list[bytes]] = (None, [])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        planned = self.planned
        self.presented = certificate, others = presented(transport)
        doubt = self.identities.doubt(planned.name or "", planned.proof, certificate, others)
        if self.on_certificate is not None and certificate is not None:
            self.on_certificate(certificate, bool(planned.proof) and not doubt)
        if doubt:
            self.failure = _unproven(planned.name, doubt)
            cast(asyncio.Transport, transport).abort()
            return
        self.protocol = self.make_protocol()
        transport.set_protocol(self.protocol)
        self.protocol.connection_made(transport)


async def shown_by(address: Address, name: str, timeout_s: float) -> Shown:
    """Returns the certificate that a server presents over TLS.

    Raises:
        ServerUnreachable: there is no connection, or no TLS; the message says why.
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
