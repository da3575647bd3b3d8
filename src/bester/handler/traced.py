"""Calls a handler's functions within OpenTelemetry spans; imported only where the application has a tracer provider."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Tracer, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from bester.handler.registered import Call, Registered
from bester.protocol.requests import Request

_FAILED = "handlerError"
"""The code that the sender of a message gets for any exception."""
_MAX_ID = 256
_propagator = TraceContextTextMapPropagator()


def traced(tracer: Tracer, find: Callable[[str], Registered | None]) -> Callable[[str], Registered | None]:
    """Wraps a lookup so that the functions it finds run within a span, a child of the request's traceparent."""
    known: dict[str, Registered] = {}

    def find_traced(type: str) -> Registered | None:
        found = known.get(type)
        if found is None and (registered := find(type)) is not None:
            found = known[type] = _wrapped(tracer, registered)
        return found

    return find_traced


def _wrapped(tracer: Tracer, registered: Registered) -> Registered:
    if registered.streams:
        around = registered.around
        return replace(registered, around=lambda call: _spanning(tracer, call if around is None else around(call)))
    return replace(registered, call=_spanning(tracer, registered.call))


def _spanning(tracer: Tracer, function: Call) -> Call:
    def call(request: Request) -> Any:
        span = _begin(tracer, request)
        with _current(span):
            response = function(request)
        if inspect.isawaitable(response):
            return _awaited(span, response)
        span.end()
        return response

    return call


async def _awaited(span: Span, response: Awaitable[Any]) -> Any:
    with _current(span):
        found = await response
    span.end()
    return found


def _begin(tracer: Tracer, request: Request) -> Span:
    about: dict[str, str | bool] = {
        "messaging.system": "bester",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": request.type,
        "messaging.message.id": request.id[:_MAX_ID],
    }
    if request.dry_run:
        about["bester.dry_run"] = True
    carrier = {"traceparent": request.traceparent} if request.traceparent else {}
    parent = _propagator.extract(carrier, Context())
    return tracer.start_span(f"process {request.type}", parent, SpanKind.CONSUMER, about)


@contextmanager
def _current(span: Span) -> Iterator[None]:
    """Makes a span the current one; an exception ends it."""
    try:
        with use_span(span):
            yield
    except BaseException as error:
        if isinstance(error, Exception):
            span.set_attribute("error.type", _FAILED)
        span.end()
        raise
