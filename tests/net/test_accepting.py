"""Where gadgets listen: on all addresses of a host that this machine has."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from bester.accepting import bound

NO_FAMILY = (socket.AF_APPLETALK, ("127.0.0.1", 0))
NO_ADDRESS = (socket.AF_INET, ("192.0.2.1", 0))
GOOD = (socket.AF_INET, ("127.0.0.1", 0))


def lead_to(monkeypatch: pytest.MonkeyPatch, *places: Any) -> None:
    async def getaddrinfo(*_: Any, **__: Any) -> Any:
        return [(family, socket.SOCK_STREAM, 6, "", address) for family, address in places]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("absent", [NO_FAMILY, NO_ADDRESS], ids=["family", "address"])
async def test_what_this_machine_does_not_have_is_passed_over(absent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for places in ((absent, GOOD), (GOOD, absent)):
        lead_to(monkeypatch, *places)
        (one,) = await bound("localhost", 0)
        with one:
            assert one.getsockname()[0] == "127.0.0.1"
    lead_to(monkeypatch, absent)
    with pytest.raises(OSError, match=r"not supported|annot assign"):
        await bound("localhost", 0)


async def test_what_somebody_else_has_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        for places in (
            (GOOD, (socket.AF_INET, other.getsockname())),
            (NO_FAMILY, (socket.AF_INET, other.getsockname())),
        ):
            lead_to(monkeypatch, *places)
            with pytest.raises(OSError, match="in use"):
                await bound("localhost", 0)


async def test_a_host_that_no_name_can_be() -> None:
    with pytest.raises(socket.gaierror, match="no such host"):
        await bound("a..b", 0)
