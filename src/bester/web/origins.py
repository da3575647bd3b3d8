"""Determines a request's server and page from its ``Host`` and ``Origin``, and whether to trust these headers.

Browsers send a page's origin in ``Origin``. A page is this server's own if its origin matches the request's ``Host``.
But that also holds for a foreign page whose host name resolves to 127.0.0.1 (DNS rebinding). So over loopback and
without TLS, whose certificate would not have that name, ``Host`` must be an IP address or a name that the server knows,
unless a proxy has forwarded the request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::([0-9]{1,5}))?", re.ASCII | re.IGNORECASE)
_PROXY_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Host:
    """A host and, if given, its port."""

    name: str
    """The name in lower case, or an address without brackets."""
    port: int | None
    number: IPv4Address | IPv6Address | None
    """The address, if the name is one."""

    @property
    def is_this_machine(self) -> bool:
        """Whether the host is ``localhost`` or a loopback address, and not a name that may resolve to one."""
        return self.name == "localhost" if self.number is None else self.number.is_loopback


def parse_host(text: str) -> Host | None:
    """Parses a ``Host``; returns None if it is not ``NAME``, ``1.2.3.4`` or ``[1::2]``, with or without a port."""
    match = _HOST.fullmatch(text)
    if match is None:
        return None
    name = (match[1] or match[2]).lower()
    number = None
    try:
        number = ip_address(name)
    except ValueError:
        if match[1]:
            return None
    port = int(match[3]) if match[3] else None
    if (port or 0) > 65_535 or (number is not None and (number.version == 6) is not bool(match[1])):
        return None
    return Host(name, port, number)


def is_own(headers: Mapping[str, str]) -> bool:
    """Returns whether a request comes from a page of the server that it is sent to, or from no page.

    The schemes may differ, because a proxy may terminate TLS.
    """
    origin = headers.get("Origin")
    if origin is None:
        return headers.get("Sec-Fetch-Site", "none") in ("same-origin", "none")
    scheme, _, rest = origin.partition("://")
    page, host = parse_host(rest), parse_host(headers.get("Host", ""))
    if page is None or host is None or scheme not in _PORTS or page.name != host.name:
        return False
    return host.port == page.port or (page.port is None and host.port == _PORTS[scheme])


def is_rebound(headers: Mapping[str, str], known: Iterable[str]) -> bool:
    """Returns whether a page's request over loopback may come from another site, whose name resolves to here.

    A page can forge a proxy's headers, but not when it opens a WebSocket.
    """
    if "Origin" not in headers and "Sec-Fetch-Site" not in headers:
        return False  # not a browser
    host = parse_host(headers.get("Host", ""))
    if host is None:
        return True
    if host.number is not None or host.is_this_machine or host.name.endswith(".localhost") or host.name in known:
        return False
    return not is_proxied(headers)


def is_proxied(headers: Mapping[str, str]) -> bool:
    """Returns whether a proxy has marked a request as forwarded."""
    return any(name in headers for name in _PROXY_HEADERS)


def is_listed(headers: Mapping[str, str], origins: Sequence[str]) -> bool:
    """Returns whether a request comes from a page that the configuration lists."""
    return "*" in origins or headers.get("Origin", "").lower() in origins


def names_of(origins: Sequence[str]) -> set[str]:
    """Returns the host names of listed origins."""
    hosts = (parse_host(origin.partition("://")[2]) for origin in origins)
    return {host.name for host in hosts if host is not None}
