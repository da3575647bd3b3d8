"""Exports a handler program's spans to where OpenTelemetry's environment variables say, unless the program does so."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bester.handler.runner import log
from bester.installation import how_to_add

FLUSH_S = 2.0
"""How long a program that ends waits for its last spans to be sent."""
SILENT_S = 60.0
"""The least time between two of the exporter's log lines while the collector is away."""
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


@contextmanager
def exporting(service: str) -> Iterator[None]:
    """Sends spans within the context, if the environment says where and the application has no tracer provider.

    Args:
        service: the spans' ``service.name``, unless ``OTEL_SERVICE_NAME`` is set.
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
    logging.getLogger(trace_exporter.__name__).addFilter(ThrottleFilter())
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        # In a thread, for which the program waits only this long: with the collector away a shutdown takes its time.
        ending = threading.Thread(target=provider.shutdown, name="bester-spans", daemon=True)
        ending.start()
        ending.join(FLUSH_S)


class ThrottleFilter(logging.Filter):
    """Lets one line through, and then none for :data:`SILENT_S`, so that an outage does not fill the log."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + SILENT_S
        return True
