"""Connects to names that have many addresses, some of which may be silent (RFC 8305, "Happy Eyeballs").

All TCP connections are made here, so that an address that does not answer costs a quarter of a second and not the
caller's whole time limit: the next address is tried in parallel, and the first connection to be established wins.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from itertools import zip_longest
from typing import Any, TypeVar

from bester.timeouts import within

T = TypeVar("T")
AddressInfo = tuple[Any, Any, int, str, Any]
"""One address, as ``getaddrinfo`` returns it."""

STAGGER_S = 0.25
"""How long an address may be silent before the next one is tried in parallel."""
ATTEMPT_S = 4.0
"""How long a look-up, or the attempt after the connection, may take if there are other addresses."""


async def addresses(where: Sequence[tuple[str, int]]) -> list[AddressInfo]:
    """Returns the addresses of hosts, in the hosts' order; one host's addresses alternate between IPv6 and IPv4.

    Raises:
        OSError: none of the hosts has an address; usually a ``socket.gaierror``.
    """
    found = await asyncio.gather(*(_lookup(host, port, len(where) > 1) for host, port in where), return_exceptions=True)
    infos: list[AddressInfo] = []
    failure: BaseException | None = None
    for one in found:
        if isinstance(one, BaseException):
            failure = failure or one
        else:
            infos += [info for info in one if info not in infos]
    if not infos:
        raise failure or OSError("no addresses")
    return infos


async def _lookup(host: str, port: int, others: bool) -> list[AddressInfo]:
    try:  # without a look-up if the host is an IP address
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass
    except UnicodeError as error:  # IDNA refuses the name: an empty label, or one of more than 63 characters
        raise socket.gaierror(socket.EAI_NONAME, "no such host") from error
    async with within(ATTEMPT_S if others else None):
        infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    families: dict[int, list[AddressInfo]] = {}
    for info in infos:
        families.setdefault(info[0], []).append(info)
    return [info for row in zip_longest(*families.values()) for info in row if info is not None]


async def connected(infos: Sequence[AddressInfo]) -> socket.socket:
    """Returns a socket that is connected to the first address that answers; the caller owns it.

    Raises:
        OSError: no address answers.
    """
    from aiohappyeyeballs import start_connection

    found = await start_connection(list(infos), happy_eyeballs_delay=STAGGER_S, interleave=0)
    with contextlib.suppress(OSError):  # it is reset already
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


async def dial(
    infos: Sequence[AddressInfo],
    attempt: Callable[[socket.socket], Awaitable[T]],
    again: tuple[type[Exception], ...] = (OSError,),
) -> T:
    """Connects and makes an attempt with the connection, such as TLS; if that fails, tries the other addresses.

    Args:
        infos: at least one address.
        attempt: gets a connected socket, which it owns.
        again: the exceptions of ``attempt`` after which another address is tried.

    Raises:
        OSError: no address answers; or what the last attempt raised.
    """
    left = list(infos)
    failure: Exception | None = None
    while left:
        try:
            found = await connected(left)
        except OSError as error:
            raise failure or error from error.__cause__
        try:
            peer = found.getpeername()
        except OSError as error:  # it is reset already
            found.close()
            failure = error
            del left[0]
            continue
        others = [info for info in left if info[4][:2] != peer[:2]]
        left = others if len(others) < len(left) else left[1:]  # 0.0.0.0 connects to an address that is not in the list
        try:
            async with within(ATTEMPT_S if left else None):
                return await attempt(found)
        except again as error:
            found.close()
            failure = error
        except BaseException:
            found.close()
            raise
    assert failure is not None
    raise failure
