"""Says which messages are traced, and takes their spans away once in a second (docs/tracing.md).

Without a configured ``tracing`` nothing of this is there. With it, the exchange asks the recorder of its ``traces``
about each message that comes in. What ended becomes spans in the thread of :mod:`bester.server.telemetry.spans`, which
alone knows OpenTelemetry.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from bester.clock import wall_time
from bester.core.spans import SpanRecorder
from bester.core.trail import Spans
from bester.errors import BadConfiguration
from bester.installation import how_to_add

if TYPE_CHECKING:
    from bester.config.parts import Tracing as Settings
    from bester.server.runtime import Runtime

EVERY_S = 1.0
MAX_SPANS = 2048
"""Spans that wait to be sent, and so the most in a second, which is what the thread that sends them can do beside the
loop; when there are so many, further messages are not traced."""
FLUSH_S = 2.0
"""How long a server that stops waits until its last spans are sent."""
_SAMPLED = 0x01


class Tracing:
    """The spans of one server, until they are sent.

    Raises:
        BadConfiguration: OpenTelemetry is not installed.
    """

    def __init__(self, runtime: Runtime, settings: Settings) -> None:
        try:
            from bester.server.telemetry.spans import Exporter
        except ImportError as error:
            raise BadConfiguration(
                f"tracing is configured, and the packages for it are missing: {how_to_add('otel')}"
            ) from error
        self.runtime = runtime
        self._sample = settings.sample
        self._recorder = SpanRecorder(self._begin)
        self._due = 0.0
        name = runtime.config.server.name
        self._exporter = Exporter(settings.otlp, settings.headers, settings.service or name, name)

    @property
    def sent(self) -> int:
        """Spans that the collector has taken, since the start."""
        return self._exporter.sent

    @property
    def failed(self) -> int:
        """Spans that it could not be given, or did not take."""
        return self._exporter.failed

    @property
    def dropped(self) -> int:
        """Spans that were too many; of a message that was not traced for that reason, its own."""
        return self._recorder.dropped

    def open(self) -> None:
        """Begins to trace."""
        self.runtime.exchange.traces.record(self._recorder)
        self._exporter.start()
        self._share()

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
        """Takes away what there is; called a few times a second."""
        if now >= self._due:
            self._due = now + EVERY_S
            self.flush()

    def flush(self) -> None:
        """Gives what there is to the thread that sends it."""
        ended, self._recorder.ended = self._recorder.ended, []
        if ended:
            count = sum(one.size for one in ended)
            self._exporter.put(ended, count, wall_time() - self.runtime.clock())
        self._share()

    def _share(self) -> None:
        self._recorder.room = MAX_SPANS - self._exporter.waiting

    async def close(self) -> None:
        """Sends what there is, as far as that is soon done; nothing more is traced."""
        self.runtime.exchange.traces.record(None)
        self.flush()
        self._recorder.room = 0
        await self._exporter.close(FLUSH_S)
