"""Finds OpenTelemetry if the application uses it; this module never imports it itself."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

_API = "opentelemetry.trace"


def tracer() -> Tracer | None:
    """Returns the tracer, or None if the application has no tracer provider."""
    api = sys.modules.get(_API)
    if api is None or isinstance(api.get_tracer_provider(), api.ProxyTracerProvider):
        return None
    found: Tracer = api.get_tracer("bester")
    return found


def current_traceparent() -> str:
    """Returns the W3C traceparent of the current span, or ``""`` if there is none."""
    api = sys.modules.get(_API)
    if api is None:
        return ""
    context = api.get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
