"""Sends a handler program's spans where OpenTelemetry's standard environment variables say, if nobody else does."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bester.handler.registry import log
from bester.installation import how_to_add

FLUSH_S = 2.0
"""How long a program that ends waits until its last spans are sent."""
SILENT_S = 60.0
"""How long the exporter says nothing after it has said something, as long as the collector is away."""
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


@contextmanager
def exporting(service: str) -> Iterator[None]:
    """Within it, spans are sent, if the environment says where and the application has no tracer provider of its own.

    Args:
        service: the spans' ``service.name``, where ``OTEL_SERVICE_NAME`` does not say it.
    """
    wanted = any(os.environ.get(name) for name in _ENDPOINTS)
    if not wanted or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        yield
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http import trace_exporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("OTEL_EXPORTER_OTLP_ENDPOINT is set, but spans need more packages: %s", how_to_add("otel"))
        yield
        return
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        yield
        return
    own = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service}
    provider = TracerProvider(resource=Resource.create(own), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(trace_exporter.OTLPSpanExporter()))
    logging.getLogger(trace_exporter.__name__).addFilter(Seldom())
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        # In a thread that nobody waits for longer: a collector that is away takes its time.
        ending = threading.Thread(target=provider.shutdown, name="bester-spans", daemon=True)
        ending.start()
        ending.join(FLUSH_S)


class Seldom(logging.Filter):
    """Lets one line through, and then none for a while: an outage is not to fill the log."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + SILENT_S
        return True
