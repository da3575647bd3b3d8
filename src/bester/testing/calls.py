"""Calls a handler's functions as a server would, without one."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from bester.handler.binding import replied
from bester.handler.handler import DEFAULT_MAX_FRAME_BYTES
from bester.handler.parts import collecting
from bester.handler.registered import Registered
from bester.handler.registry import Registry
from bester.handler.router import Router
from bester.protocol.commands import Command, commands_in
from bester.protocol.requests import Request, Sender
from bester.protocol.responses import encode_response
from bester.protocol.values import encode_data


def call(
    router: Router,
    type: str,
    data: Any = None,
    *,
    user: str | None = "t",
    server: str | None = "localhost",
    verified: bool = True,
    scope: str = "client",
    id: str = "",
    hops: int = 0,
    dry_run: bool = False,
    given: Mapping[Any, Any] | None = None,
) -> list[Command]:
    """Calls a handler's function as a server would, with its middleware and error handlers; returns its commands.

    A value that it returns is a :class:`bester.Reply` of it, and a generator's parts are collected. A function that is
    not plain runs in a new event loop; if a loop is running already, await :func:`call_async` instead.

    Args:
        router: a handler, or a router.
        type: the type of the message.
        data: its data: a value, a Struct, a dataclass or a model.
        user, server, verified: the sender; another server has no user, and a classic handler is told nothing.
        scope, id, hops, dry_run: as in :class:`bester.Request`.
        given: what the lifespans would make, by its type; none is started.

    Raises:
        KeyError: the handler has no function for the type.
        TypeError: the function's result has no form on the wire.
        Exception: the exception that the function raised; for data of another type :class:`bester.Refuse`.
    """
    request = _request(type, data, Sender(user, server, verified), scope, id, hops, dry_run)
    found = _found(router, type, given)
    if found.asynchronous:
        return asyncio.run(_awaited(found, request))
    result = found.call(request)
    return asyncio.run(_finished(result, request)) if inspect.isawaitable(result) else _checked(result, request)


async def call_async(
    router: Router,
    type: str,
    data: Any = None,
    *,
    user: str | None = "t",
    server: str | None = "localhost",
    verified: bool = True,
    scope: str = "client",
    id: str = "",
    hops: int = 0,
    dry_run: bool = False,
    given: Mapping[Any, Any] | None = None,
) -> list[Command]:
    """Calls a handler's function as :func:`call` does, in the running loop."""
    request = _request(type, data, Sender(user, server, verified), scope, id, hops, dry_run)
    return await _awaited(_found(router, type, given), request)


def _request(type: str, data: Any, sender: Sender, scope: str, id: str, hops: int, dry_run: bool) -> Request:
    return Request(type, id, sender, scope, hops, dry_run, raw=Raw(bytes(encode_data(data))))


def _found(router: Router, type: str, given: Mapping[Any, Any] | None) -> Registered:
    registry = Registry(router)
    registry.made.update(given or {})
    found = registry.get(type)
    if found is None:
        raise KeyError(type)
    return found


async def _awaited(found: Registered, request: Request) -> list[Command]:
    if found.streams:
        return _checked(await collecting(found, DEFAULT_MAX_FRAME_BYTES)(request), request)
    return await _finished(found.call(request), request)


async def _finished(result: Any, request: Request) -> list[Command]:
    return _checked(await result if inspect.isawaitable(result) else result, request)


def _checked(result: object, request: Request) -> list[Command]:
    response = replied(result)
    encode_response(response, request.raw)
    return commands_in(response)
