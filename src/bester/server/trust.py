"""Which servers are let in, and by what name they go (docs/protocol.md, sections 8.3 and 8.5).

A server that has proven a name is let in, under every policy, and is known by that name, whatever it calls itself. One
that has proven nothing has no name; what it calls itself only chooses the policy that it meets: that of the server of
this name, if it has one of its own.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from bester.net.identity import Expiry, Identities, Proof, presented, warnings_of
from bester.net.peers import Remote

if TYPE_CHECKING:
    from bester.config.peers import Policy
    from bester.server.hall import Hall

log = logging.getLogger("bester.servers")

REMIND_S = 24 * 60 * 60.0
"""How often certificates that are about to end are warned of."""


class Trust:
    """What the running server knows of other servers' identities."""

    def __init__(self, hall: Hall) -> None:
        self.hall = hall
        self.identities: Identities | None = None
        """Those of the present configuration; None until the server has opened."""
        self._seen: dict[str, Expiry] = {}
        """When the certificates end that have proven names; by name."""

    def use(self, identities: Identities) -> None:
        """Goes by these from now on; connections that are open keep what they have proven."""
        self.identities = identities
        self._seen.clear()
        self.warn()

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
        self._remember(proof)
        return replace(remote, names=proof.names)

    def _remember(self, proof: Proof) -> None:
        expires, name = proof.expires, proof.names[0]
        before = self._seen.get(name)
        if expires is not None and (before is None or before != expires):
            self._seen[name] = expires
            warning = expires.warning(datetime.datetime.now(datetime.UTC))
            if warning:
                log.warning("%s", warning)

    def may_enter(self, remote: Remote) -> bool:
        """Whether a server from there can be let in at all, before it is known what it calls itself."""
        if remote.names:
            return True
        federation = self.hall.config.federation
        policies = {federation.policy, *(peer.policy for peer in federation.servers.values() if peer.policy)}
        return any(_welcomes(policy, remote) for policy in policies)

    def lets_in(self, remote: Remote, claimed: str | None) -> bool:
        """Whether a server is let in that calls itself so."""
        return bool(remote.names) or _welcomes(self._policy_for(claimed), remote)

    def _policy_for(self, claimed: str | None) -> Policy:
        federation = self.hall.config.federation
        peer = federation.servers.get(_plain(claimed))
        return federation.policy if peer is None or peer.policy is None else peer.policy

    def name_of(self, remote: Remote, claimed: str | None) -> str | None:
        """Returns the name that a server has proven; where there are several, the one that it calls itself by."""
        name = _plain(claimed)
        return name if name in remote.names else remote.identity

    # -- certificates that end -------------------------------------------------------------------------------------

    def expiries(self) -> list[Expiry]:
        """Returns when which certificates end: our own, the pinned ones, the authorities, those that were seen."""
        own = self.identities.expiries if self.identities is not None else []
        return [*own, *self._seen.values()]

    def warn(self) -> None:
        """Tells the log of certificates that end soon."""
        for line in warnings_of(self.expiries()):
            log.warning("%s", line)

    async def remind(self) -> None:
        """Warns once a day, until it is cancelled."""
        while True:
            await asyncio.sleep(REMIND_S)
            self.warn()


def _plain(claimed: str | None) -> str:
    return (claimed or "").lower().removesuffix(".")


def _welcomes(policy: Policy, remote: Remote) -> bool:
    """Whether a policy lets a server in that proves nothing."""
    return policy == "open" or (policy == "local" and remote.local)
