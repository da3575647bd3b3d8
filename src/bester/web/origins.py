"""Which server a request is for and which page it is from, by its ``Host`` and ``Origin``, and when to believe them.

Browsers say in ``Origin`` where a page is from. A page is this server's own if that is what the request calls the
server. But the page of anyone whose name leads to 127.0.0.1 says so as well (DNS rebinding). So over loopback, and
without TLS, whose certificate would not have that name, the server must be called by a number, or by a name that it
knows; unless a proxy has passed the request on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::([0-9]{1,5}))?", re.ASCII | re.IGNORECASE)
_PASSED_ON = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Host:
    """A host and its port, if one is named."""

    name: str
    """In lower case; an address without brackets."""
    port: int | None
    number: IPv4Address | IPv6Address | None
    """The address, if the name is one."""

    @property
    def is_this_machine(self) -> bool:
        """Whether it is ``localhost`` or a loopback address, and not a name that may lead there."""
        return self.name == "localhost" if self.number is None else self.number.is_loopback


def parse_host(text: str) -> Host | None:
    """Parses a ``Host``; returns None if it is not ``NAME``, ``1.2.3.4`` or ``[1::2]``, with a port or without."""
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
    """Whether a request is from a page of the server that it is for, or from no page at all.

    The schemes may differ: a proxy does TLS.
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
    """Whether a page's request over loopback may be another site's, whose name leads here.

    A page can say that a proxy has passed its request on, but not where it opens a WebSocket.
    """
    if "Origin" not in headers and "Sec-Fetch-Site" not in headers:
        return False  # not a browser
    host = parse_host(headers.get("Host", ""))
    if host is None:
        return True
    if host.number is not None or host.is_this_machine or host.name.endswith(".localhost") or host.name in known:
        return False
    return not is_passed_on(headers)


def is_passed_on(headers: Mapping[str, str]) -> bool:
    """Whether a proxy has marked a request."""
    return any(name in headers for name in _PASSED_ON)


def is_listed(headers: Mapping[str, str], origins: Sequence[str]) -> bool:
    """Whether a request is from a page that the configuration lists."""
    return "*" in origins or headers.get("Origin", "").lower() in origins


def names_of(origins: Sequence[str]) -> set[str]:
    """Returns the hosts' names of listed origins."""
    hosts = (parse_host(origin.partition("://")[2]) for origin in origins)
    return {host.name for host in hosts if host is not None}
