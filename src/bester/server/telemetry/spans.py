"""Makes OpenTelemetry spans of traced messages, and sends them over OTLP in a thread of its own.

Only this module of the server knows OpenTelemetry; it is imported where ``tracing`` is configured. The spans are made
here, and not by OpenTelemetry's tracer, because their ids were decided when the message was on its way, and what they
tell is known only at its end.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from queue import SimpleQueue
from typing import NamedTuple

from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from bester import __version__
from bester.core.routing import AttachedHandler
from bester.core.spans import Ended
from bester.core.trail import Step
from bester.protocol.frames import decode_id
from bester.server.telemetry.receipts import sender_of

log = logging.getLogger("bester.tracing")

BATCH = 512
"""Spans in one request."""
TIMEOUT_S = 5.0
"""How long a request may take, repeated tries included."""
MAX_TEXT = 256

_STEPS = {
    "handler": ("ask", SpanKind.CLIENT),
    "clients": ("deliver", SpanKind.PRODUCER),
    "mailbox": ("store", SpanKind.PRODUCER),
    "server": ("forward", SpanKind.PRODUCER),
    "outbox": ("queue", SpanKind.PRODUCER),
}
"""The operation's name and the span's kind, by the kind of a trail's step."""
_GOOD = frozenset({"", "good", "delivered", "stored", "sent", "queued", "skipped", "planned", "notAsked"})
_FLAGS = TraceFlags(TraceFlags.SAMPLED)
_SCOPE = InstrumentationScope("bester", __version__)


class _Given(NamedTuple):
    """A job of the thread."""

    ended: Sequence[Ended]
    spans: int
    began: float
    """When the exchange's clock was 0, in seconds since 1970."""


class Exporter:
    """Sends spans, and counts them.

    Args:
        url: where they go.
        headers: of the requests.
        service: the name of this server as a service.
        name: of the server.
    """

    def __init__(self, url: str, headers: Mapping[str, str], service: str, name: str) -> None:
        self.sent = 0
        self.failed = 0
        self._url = url
        self._exporter = trace_exporter.OTLPSpanExporter(url, headers=dict(headers) or None, timeout=TIMEOUT_S)
        attributes = {"service.name": service, "service.instance.id": name, "service.version": __version__}
        self._resource = Resource.create(attributes)
        self._queue: SimpleQueue[_Given | None] = SimpleQueue()
        self._given = 0
        self._done = 0
        """Spans that were given and are sent or lost; each of the two numbers has one thread that changes it."""
        self._away = False
        """Whether the last request failed."""
        self._closed = False
        """Whether nobody waits for the thread any more: then it no longer logs."""
        self._ended = threading.Event()
        # A daemon, so that a collector that hangs does not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="bester-tracing", daemon=True)

    @property
    def waiting(self) -> int:
        """Spans that were given and neither sent nor lost."""
        return self._given - self._done

    def start(self) -> None:
        self._thread.start()

    def put(self, ended: Sequence[Ended], count: int, began: float) -> None:
        """Hands messages to the thread; ``count`` is the number of their spans."""
        self._given += count
        self._queue.put(_Given(ended, count, began))

    async def close(self, timeout_s: float) -> None:
        """Returns when all spans are sent, or after the time; at once if the last request failed."""
        if not self._thread.is_alive():
            return
        self._queue.put(None)
        if not self._away:
            await asyncio.to_thread(self._ended.wait, timeout_s)
        if not self._ended.is_set() and self.waiting:
            log.warning("stopping: up to %d spans were not sent to %s", self.waiting, self._url)
        self._closed = True
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    # -- in the thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        quiet = _Quiet(threading.get_ident())
        logger = logging.getLogger(trace_exporter.__name__)
        logger.addFilter(quiet)
        try:
            while (given := self._queue.get()) is not None:
                counted = self.sent + self.failed
                try:
                    self._send(given, quiet)
                except Exception:
                    log.exception("spans are lost")
                    self.failed += given.spans - (self.sent + self.failed - counted)
                self._done += given.spans
        finally:
            logger.removeFilter(quiet)
            self._ended.set()

    def _send(self, given: _Given, quiet: _Quiet) -> None:
        batch: list[ReadableSpan] = []
        for ended in given.ended:
            batch += self._spans(ended, given.began)
            if len(batch) >= BATCH:
                self._export(batch, quiet)
                batch = []
        if batch:
            self._export(batch, quiet)

    def _export(self, spans: Sequence[ReadableSpan], quiet: _Quiet) -> None:
        quiet.said = ""
        good = self._exporter.export(spans) is SpanExportResult.SUCCESS
        if good:
            self.sent += len(spans)
        else:
            self.failed += len(spans)
        if self._closed:
            return
        if good and self._away:
            log.info("spans are sent to %s again", self._url)
        elif not good and not self._away:
            log.warning("spans cannot be sent to %s, and are lost until they can: %s", self._url, quiet.said)
        self._away = not good

    def _spans(self, ended: Ended, began: float) -> Iterator[ReadableSpan]:
        """Makes a message's spans, its own first."""
        spans, trail = ended.spans, ended.trail
        trace_id = int(spans.trace, 16)
        own = SpanContext(trace_id, spans.first, is_remote=False, trace_flags=_FLAGS)
        parent = SpanContext(trace_id, int(spans.parent, 16), True, _FLAGS) if spans.parent else None
        pushed = isinstance(ended.origin, AttachedHandler)
        shared = {"messaging.system": "bester", "messaging.message.id": decode_id(ended.id)[:MAX_TEXT]}
        if trail.dry:
            shared["bester.dry_run"] = "true"
        about = shared | {
            "messaging.operation.name": "route",
            "messaging.operation.type": "process",
            "messaging.destination.name": ended.type,
            "messaging.client.id": sender_of(ended.origin),
        }
        error = ended.error
        code, text = (error.code, error.explained) if error is not None else ("", "")
        kind = SpanKind.CONSUMER if pushed else SpanKind.SERVER
        yield self._span(f"route {ended.type}", own, parent, kind, about, (spans.began, ended.at), began, code, text)
        for step in trail.steps:
            yield self._step(ended, step, own, shared, began)

    def _step(
        self, ended: Ended, step: Step, own: SpanContext, shared: Mapping[str, str], began: float
    ) -> ReadableSpan:
        kind, name, status = ended.trail.resolved(step, ended.results)
        operation, span_kind = _STEPS[kind]
        context = SpanContext(own.trace_id, ended.spans.first + step.place, is_remote=False, trace_flags=_FLAGS)
        about = {
            **shared,
            "messaging.operation.name": operation,
            "messaging.operation.type": "send",
            "messaging.destination.name": name[:MAX_TEXT],
            "bester.outcome": status or "good",
        }
        # There must not be too many names of spans: accounts stand in the attributes alone.
        title = operation if kind in ("clients", "mailbox") else f"{operation} {name[:MAX_TEXT]}"
        code = "" if status in _GOOD else status
        return self._span(title, context, own, span_kind, about, (step.began, step.ended), began, code)

    def _span(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: dict[str, str],
        times: tuple[float, float],
        began: float,
        code: str,
        text: str = "",
    ) -> ReadableSpan:
        status = Status()
        if code:
            attributes["error.type"] = code
            status = Status(StatusCode.ERROR, f"{code}: {text}"[:MAX_TEXT] if text else code)
        start, end = (int((began + at) * 1e9) for at in times)
        return ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            attributes,
            kind=kind,
            status=status,
            start_time=start,
            end_time=end,
            instrumentation_scope=_SCOPE,
        )


class _Quiet(logging.Filter):
    """Keeps the exporter's lines of this thread from the log, where an outage is one line and not many."""

    def __init__(self, thread: int) -> None:
        super().__init__()
        self._thread = thread
        self.said = ""
        """The first line since this was emptied; the later ones only say that more tries failed."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self._thread:
            return True
        self.said = self.said or record.getMessage()[:300]
        return False
