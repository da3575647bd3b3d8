"""Decides which messages are traced, and hands their spans to the exporter once a second (docs/tracing.md).

Without a configured ``tracing`` nothing of this is there. With it, the exchange asks the recorder of its ``traces``
about each message that comes in. What ended becomes spans in the thread of :mod:`bester.server.telemetry.spans`, which
alone knows OpenTelemetry.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from bester.clock import wall_time
from bester.config.parts import Tracing as Settings
from bester.core.spans import SpanRecorder
from bester.core.trail import Spans
from bester.errors import BadConfiguration
from bester.installation import how_to_add
from bester.server.runtime import Runtime

if TYPE_CHECKING:
    from bester.server.telemetry.spans import Exporter

EVERY_S = 1.0
MAX_SPANS = 2048
"""The most spans that wait to be sent, and so the most in a second, which is what the exporter's thread can do beside
the loop; beyond them, messages are not traced."""
FLUSH_S = 2.0
"""How long a stopping server waits for its last spans to be sent."""
_SAMPLED = 0x01


class Tracing:
    """The spans of one server, from the exchange to the exporter.

    It does nothing until :meth:`open`, which is called only where ``tracing`` is configured.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._sample = 0.0
        self._recorder = SpanRecorder(self._begin)
        self._due = 0.0
        self._exporter: Exporter | None = None

    @property
    def on(self) -> bool:
        """Whether tracing is configured."""
        return self._exporter is not None

    @property
    def sent(self) -> int:
        """Spans that the collector has taken since the start."""
        return self._exporter.sent if self._exporter is not None else 0

    @property
    def failed(self) -> int:
        """Spans that the collector did not take, or that did not reach it."""
        return self._exporter.failed if self._exporter is not None else 0

    @property
    def dropped(self) -> int:
        """Spans beyond :data:`MAX_SPANS`; a message that was not traced for that reason counts as one."""
        return self._recorder.dropped

    def open(self, settings: Settings) -> None:
        """Begins to trace.

        Raises:
            BadConfiguration: OpenTelemetry is not installed.
        """
        try:
            from bester.server.telemetry.spans import Exporter
        except ImportError as error:
            raise BadConfiguration(
                f"tracing is configured, and the packages for it are missing: {how_to_add('otel')}"
            ) from error
        self._sample = settings.sample
        name = self.runtime.config.server.name
        self._exporter = exporter = Exporter(settings.otlp, settings.headers, settings.service or name, name)
        self.runtime.exchange.traces.record(self._recorder)
        exporter.start()
        self._share(exporter)

    def _begin(self, trace: str, now: float) -> Spans | None:
        if trace:
            if not int(trace[53:], 16) & _SAMPLED:
                return None
            id, parent = trace[3:35], trace[36:52]
        elif self._sample == 1 or random.random() < self._sample:
            id, parent = f"{random.getrandbits(128) or 1:032x}", ""
        else:
            return None
        if self._recorder.room <= 0:
            self._recorder.dropped += 1
            return None
        return Spans(id, parent, random.getrandbits(63) or 1, now)

    def sweep(self, now: float) -> None:
        """Flushes once in :data:`EVERY_S`."""
        if now >= self._due:
            self._due = now + EVERY_S
            self.flush()

    def flush(self) -> None:
        """Gives the spans of finished messages to the exporter."""
        exporter = self._exporter
        if exporter is None:
            return
        ended, self._recorder.ended = self._recorder.ended, []
        if ended:
            count = sum(one.size for one in ended)
            exporter.put(ended, count, wall_time() - self.runtime.clock())
        self._share(exporter)

    def _share(self, exporter: Exporter) -> None:
        self._recorder.room = MAX_SPANS - exporter.waiting

    async def close(self) -> None:
        """Stops tracing, and sends the last spans within :data:`FLUSH_S`."""
        exporter = self._exporter
        if exporter is None:
            return
        self.runtime.exchange.traces.record(None)
        self.flush()
        self._recorder.room = 0
        await exporter.close(FLUSH_S)
