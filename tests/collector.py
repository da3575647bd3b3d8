"""A collector of OpenTelemetry: takes spans over OTLP, and keeps them for the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

CLIENT, SERVER, PRODUCER, CONSUMER = 3, 2, 4, 5


class Span(NamedTuple):
    service: str
    name: str
    kind: int
    trace: str
    id: str
    parent: str
    error: str
    """Its status's description; ``""`` where it has no error."""
    about: dict[str, Any]
    start: int
    end: int


class Collector:
    """What came, and where it is to be sent."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.raw = b""
        """All requests, to look for what must not be there."""
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/traces"

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.status == 200:
            self.raw += body
            self.headers.append(dict(request.headers))
            self.spans += _spans(ExportTraceServiceRequest.FromString(body))
        return web.Response(status=self.status)

    def named(self, name: str) -> Span:
        """Returns the span of this name, of which there must be one."""
        [found] = [span for span in self.spans if span.name == name]
        return found


def _spans(request: Any) -> list[Span]:
    found = []
    for resource in request.resource_spans:
        service = next(one.value.string_value for one in resource.resource.attributes if one.key == "service.name")
        for scope in resource.scope_spans:
            for span in scope.spans:
                about = {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}
                error = (span.status.message or "?") if span.status.code == 2 else ""
                ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                times = (span.start_time_unix_nano, span.end_time_unix_nano)
                found.append(Span(service, span.name, span.kind, *ids, error, about, *times))
    return found


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """Runs a collector on a port of loopback."""
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        collector.port = runner.addresses[0][1]
        yield collector
    finally:
        await runner.cleanup()
