"""How players of the lab that speak the protocol by hand connect."""

from __future__ import annotations

import asyncio

from faults.wire import READ_BYTES, Lost, Wire

PASSWORD = "secret"


async def dial(address: str | tuple[str, int]) -> Wire:
    """Connects to a path, or to a host and its port.

    Raises:
        Lost: nobody answers.
    """
    try:
        if isinstance(address, str):
            return Wire(*await asyncio.open_unix_connection(address, limit=READ_BYTES))
        return Wire(*await asyncio.open_connection(*address, limit=READ_BYTES))
    except OSError as error:
        raise Lost from error
