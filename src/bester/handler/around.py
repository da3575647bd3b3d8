"""Puts error handlers and middleware around functions."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from bester.handler.binding import replied
from bester.handler.registered import Call
from bester.protocol.commands import KINDS, Response
from bester.protocol.requests import Request

CallNext = Callable[[Request], Awaitable[Response]]
"""What middleware calls to have the message handled; returns the answer, with a value as a reply of it."""
AT_ONCE = KINDS | {list, tuple, type(None)}
"""The types of results that nobody needs to wait for."""

Catch = Callable[[Exception, Request], Any]
"""An error handler with all that it needs besides."""
Wrap = Callable[[Request, CallNext], Awaitable[Any]]
"""Middleware with all that it needs besides."""


def catching(catches: Mapping[type[Exception], Catch], call: Call, asynchronous: bool) -> Call:
    """Returns the call with error handlers; an exception goes to that of its nearest class."""
    caught = tuple(catches)

    def found(error: Exception) -> Catch:
        return next(catches[kind] for kind in type(error).__mro__ if kind in catches)

    async def call_async(request: Request, started: Awaitable[Any] | None = None) -> Any:
        try:
            return await (call(request) if started is None else started)
        except caught as error:
            answer = found(error)(error, request)
            return await answer if inspect.isawaitable(answer) else answer

    def call_at_once(request: Request) -> Any:
        try:
            result = call(request)
        except caught as error:
            return found(error)(error, request)
        if type(result) not in AT_ONCE and inspect.isawaitable(result):
            return call_async(request, result)
        return result

    return call_async if asynchronous else call_at_once


def wrapped(wrap: Wrap, call: Call) -> Call:
    """Returns the call within middleware; it is always a coroutine function."""

    async def call_next(request: Request) -> Response:
        result = call(request)
        if type(result) not in AT_ONCE and inspect.isawaitable(result):
            result = await result
        return replied(result)

    def call_wrapped(request: Request) -> Awaitable[Any]:
        return wrap(request, call_next)

    return call_wrapped
