"""Trust: which servers are let in, and under which name (docs/protocol.md, sections 8.3 and 8.5).

A server that has proven a name is let in, under every policy, and is known by that name, whatever it calls itself. One
that has proven nothing has no name; what it calls itself only chooses the policy that it meets: that of the server of
this name, if it has one of its own.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace

from bester.clock import wall_time
from bester.config.peers import Policy
from bester.net.fingerprints import Shown, shown
from bester.net.identity import Expiry, Identities, presented
from bester.net.peers import Remote
from bester.server.runtime import Runtime

log = logging.getLogger("bester.servers")

MAX_SEEN = 1000
"""How many servers' last certificates are remembered."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The certificate that a server showed last."""

    shown: Shown
    proven: bool
    """Whether it proved the server's name."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """The reason why a server does not prove its name."""

    why: str
    since: float
    """Seconds since 1970."""


class Trust:
    """Knows the identities of other servers."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.identities: Identities | None = None
        """The identities of the present configuration; None until the server has opened."""
        self.seen: dict[str, Seen] = {}
        """What servers showed last, by name or address; only those that proved a name, of servers that connected."""
        self.doubted: dict[str, Doubt] = {}
        """The configuration's servers that did not prove their names when they were last connected to."""

    def use(self, identities: Identities) -> None:
        """Goes by new identities from now on; :meth:`Federation.judge` checks the present links."""
        self.identities = identities
        self.seen.clear()
        self.doubted.clear()

    def doubt(self, destination: str, name: str | None, why: str) -> None:
        """Notes that a dialled server does not prove its name; a problem if the configuration has that server."""
        if name in self.runtime.config.federation.servers:
            before = self.doubted.get(destination)
            self.doubted[destination] = Doubt(why, before.since if before is not None else wall_time())
            if before is None:
                self.runtime.problems_changed()

    def believe(self, destination: str) -> None:
        """Notes that a dialled server proves its name."""
        if self.doubted.pop(destination, None) is not None:
            self.runtime.problems_changed()

    def identified(self, remote: Remote, transport: asyncio.BaseTransport) -> Remote:
        """Returns the other end of a new connection with the names that its certificate proves."""
        if self.identities is None:
            return remote
        certificate, others = presented(transport)
        if certificate is None:
            return remote
        proof = self.identities.proof(certificate, others)
        if not proof.names:
            log.info("a certificate from %s proves no server's name here", remote.address)
            return remote
        assert proof.shown is not None
        self._remember(proof.names[0], Seen(proof.shown, True))
        return replace(remote, names=proof.names)

    def saw(self, name: str, certificate: bytes, proven: bool) -> None:
        """Notes the certificate that a dialled server shows, in DER."""
        from cryptography import x509

        try:
            self._remember(name, Seen(shown(x509.load_der_x509_certificate(certificate)), proven))
        except Exception:
            # As everywhere: what others send may be wrong in more ways than the parser names.
            log.info("the certificate of %s cannot be read", name)

    def _remember(self, name: str, seen: Seen) -> None:
        if self.seen.pop(name, None) != seen:
            self.runtime.problems_changed()
        self.seen[name] = seen
        if len(self.seen) > MAX_SEEN:
            del self.seen[next(iter(self.seen))]

    def may_enter(self, remote: Remote) -> bool:
        """Whether a server from there can be let in at all, whatever it calls itself."""
        if remote.names:
            return True
        federation = self.runtime.config.federation
        policies = {federation.policy, *(peer.policy for peer in federation.servers.values() if peer.policy)}
        return any(_welcomes(policy, remote) for policy in policies)

    def lets_in(self, remote: Remote, claimed: str | None) -> bool:
        """Whether a server is let in under the name that it claims."""
        return bool(remote.names) or _welcomes(self._policy_for(claimed), remote)

    def _policy_for(self, claimed: str | None) -> Policy:
        federation = self.runtime.config.federation
        peer = federation.servers.get(_plain(claimed))
        return federation.policy if peer is None or peer.policy is None else peer.policy

    def name_of(self, remote: Remote, claimed: str | None) -> str | None:
        """Returns the name that a server has proven; where there are several, the one that it calls itself by."""
        name = _plain(claimed)
        return name if name in remote.names else remote.identity

    # -- certificates that end -------------------------------------------------------------------------------------

    def expiries(self) -> list[Expiry]:
        """Returns the ends of all certificates in use: our own, pinned ones, authorities, those of other servers."""
        own = self.identities.expiries if self.identities is not None else []
        pinned = {(one.what, one.at) for one in own}
        seen = [
            Expiry(f"the certificate of {name}", one.shown.expires)
            for name, one in self.seen.items()
            if one.proven and (f"the pinned certificate of {name}", one.shown.expires) not in pinned
        ]
        return [*own, *seen]


def _plain(claimed: str | None) -> str:
    return (claimed or "").lower().removesuffix(".")


def _welcomes(policy: Policy, remote: Remote) -> bool:
    """Whether a policy lets a server in that proves nothing."""
    return policy == "open" or (policy == "local" and remote.local)
