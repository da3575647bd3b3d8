"""The other servers, as operators see them, and the certificate by which they know this one."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from bester.core.endpoint import Peer
from bester.net.fingerprints import Shown, spelled
from bester.server.admin.services import AdminServices
from bester.server.runtime import Runtime
from bester.store.ports import QueueSize, account_of


def configured_servers(runtime: Runtime) -> list[str]:
    """Returns the names of the other servers that the configuration has, sorted."""
    return sorted(runtime.config.federation.servers)


def identity(services: AdminServices) -> dict[str, Any] | None:
    """Returns the certificate by which other servers and clients know this one; None if it has none."""
    identities = services.federation.trust.identities
    if identities is None or not identities.own:
        return None
    return {"name": services.runtime.config.server.name, **_certificate(identities.own[0])}


def _certificate(shown: Shown) -> dict[str, Any]:
    return {
        "key": spelled(shown.fingerprints.key),
        "certificate": spelled(shown.fingerprints.certificate),
        "subject": shown.subject,
        "expires": shown.expires.timestamp(),
    }


def _certificates(services: AdminServices, name: str) -> dict[str, Any]:
    """Returns the keys that are pinned for a server, and the certificate that it presented last."""
    trust = services.federation.trust
    pins = trust.identities.pins.get(name) if trust.identities is not None else None
    seen = trust.seen.get(name)
    return {
        "pinned": sorted(map(spelled, pins)) if pins else None,
        "presented": _certificate(seen.shown) | {"proven": seen.proven} if seen is not None else None,
    }


def servers(services: AdminServices, queues: list[QueueSize]) -> list[dict[str, Any]]:
    """Returns the servers of the configuration, and those that have anything under way or waiting.

    Args:
        queues: the outbox's queues; empty where the node that was asked adds them.
    """
    federation = services.federation
    sizes = {size.destination: size for size in queues if account_of(size.destination) is None}
    configured = {name: peer.address for name, peer in services.runtime.config.federation.servers.items()}
    incoming: Counter[str] = Counter()
    for connection in federation.incoming:
        if isinstance(connection.endpoint, Peer) and connection.endpoint.name is not None:
            incoming[connection.endpoint.name] += 1
    loop_now = asyncio.get_running_loop().time()
    rows: list[dict[str, Any]] = []
    for name in sorted({*configured, *federation.destinations, *sizes, *incoming}):
        row: dict[str, Any] = {"name": name, "address": configured.get(name, name), "verified": None, "link": "down"}
        destination = federation.destinations.get(name)
        if destination is not None:
            link = destination.link
            if link is not None:
                row |= {"link": "up", "seconds": round(loop_now - link.since, 1), "verified": link.verified}
            elif destination.is_classic:
                row["link"] = "classic"
        retry_in_s = destination.retry_in_s() if destination is not None else None
        size = sizes.get(name)
        row |= {
            "incoming": incoming[name],
            "inFlight": destination.in_flight if destination is not None else 0,
            "waiting": size.waiting if size is not None else 0,
            "dead": size.dead if size is not None else 0,
            "retryIn": round(retry_in_s, 1) if retry_in_s is not None else None,
            "lastError": (destination.last_error or None) if destination is not None else None,
            **_certificates(services, name),
        }
        rows.append(row)
    return rows
