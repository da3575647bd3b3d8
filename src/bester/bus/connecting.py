"""Connecting a NATS client for the first time, within a time limit."""

from __future__ import annotations

import asyncio
from typing import Any

from nats.errors import Error

from bester.bus.wire import WireClient


class CannotConnect(Exception):
    """No server can be reached, or one refuses this node; the text says why."""


async def connect(client: WireClient, arguments: dict[str, Any], refused: asyncio.Event, timeout_s: float) -> None:
    """Connects a new client, or closes it.

    Args:
        client: the client.
        arguments: all arguments of its ``connect``.
        refused: set by an error callback when a server refuses this node; ends the attempt at once.
        timeout_s: how long it tries.

    Raises:
        CannotConnect: the client is not connected, and closed.
    """
    refused.clear()
    connecting = asyncio.ensure_future(client.connect(**arguments))
    refusal = asyncio.ensure_future(refused.wait())
    try:
        await asyncio.wait({connecting, refusal}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done():
            raise TimeoutError
        connecting.result()
    except (OSError, Error, TimeoutError) as error:
        raise CannotConnect(str(client.last_error or error) or "no answer in time") from error
    finally:
        refusal.cancel()
        connecting.cancel()
        await asyncio.wait({connecting})
        if not client.is_connected:
            await client.close()
