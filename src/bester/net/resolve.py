"""From a server's name to where it can be reached (docs/protocol.md, section 8)."""

from __future__ import annotations

import random
from collections.abc import Mapping

from bester.errors import BadAddress, ServerUnreachable
from bester.protocol.addresses import DEFAULT_PORT, Address, ServerName, TcpAddress, UnixAddress, parse_address


async def resolve(address: Address, configured: Mapping[str, str]) -> list[TcpAddress | UnixAddress]:
    """Returns where to try, in order: for a name what is configured, else DNS SRV, else the name at port 2223.

    Args:
        address: as the command gave it.
        configured: the addresses of ``federation.servers``, by name.

    Raises:
        ServerUnreachable: the configuration gives a name that does not lead anywhere.
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
    """Looks ``_bester._tcp.NAME`` up; empty where there is none, or no DNS at all."""
    if "." not in name:
        return []  # a host of this network: no domain that could have service records
    import dns.asyncresolver  # only needed here, and slow to import
    import dns.exception

    try:
        answer = await dns.asyncresolver.resolve(f"_bester._tcp.{name}.", "SRV", lifetime=3.0)
    except (dns.exception.DNSException, OSError):
        return []
    # RFC 2782: the lowest priority first; within one, at random by weight.
    records = sorted(answer, key=lambda record: (record.priority, -(random.random() ** (1 / max(record.weight, 0.1)))))
    return [TcpAddress(str(record.target).rstrip("."), record.port) for record in records[:8]]
