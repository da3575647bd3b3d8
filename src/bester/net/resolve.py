"""Resolves a server's name to addresses (docs/protocol.md, section 8)."""

from __future__ import annotations

import random
from collections.abc import Mapping

from bester.errors import BadAddress, ServerUnreachable
from bester.protocol.addresses import DEFAULT_PORT, Address, ServerName, TcpAddress, UnixAddress, parse_address


async def resolve(address: Address, configured: Mapping[str, str]) -> list[TcpAddress | UnixAddress]:
    """Returns the addresses to try, in order: for a name the configured address, else DNS SRV, else port 2223.

    Args:
        address: the address from a command.
        configured: the addresses of ``federation.servers``, by name.

    Raises:
        ServerUnreachable: the configured address is a name that leads nowhere.
    """
    if not isinstance(address, ServerName):
        return [address]
    name = address.name
    for _ in range(8):
        if name not in configured:
            break
        try:
            found = parse_address(configured[name])
        except BadAddress as error:
            raise ServerUnreachable(f"the address configured for {name} is not valid") from error
        if not isinstance(found, ServerName):
            return [found]
        if found.name == name:
            break
        name = found.name
    return await _service_records(name) or [TcpAddress(name, DEFAULT_PORT)]


async def _service_records(name: str) -> list[TcpAddress | UnixAddress]:
    """Looks up ``_bester._tcp.NAME``; returns an empty list if there is no such record, or no DNS."""
    if "." not in name:
        return []  # a host of this network, whose name is not a domain with service records
    import dns.asyncresolver  # needed only here, and slow to import
    import dns.exception

    try:
        answer = await dns.asyncresolver.resolve(f"_bester._tcp.{name}.", "SRV", lifetime=3.0)
    except (dns.exception.DNSException, OSError):
        return []
    # RFC 2782: the lowest priority first; within a priority, at random by weight.
    records = sorted(answer, key=lambda record: (record.priority, -(random.random() ** (1 / max(record.weight, 0.1)))))
    return [TcpAddress(str(record.target).rstrip("."), record.port) for record in records[:8]]
