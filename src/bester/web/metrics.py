"""``/metrics`` for Prometheus: the server's own counters, read on request."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Iterable, Sequence
from itertools import accumulate

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from bester import __version__
from bester.core.metrics import BOUNDS_S, TypeMetrics
from bester.errors import BesterError
from bester.server.admin import numbers
from bester.server.admin.handlers import count_waiting
from bester.server.telemetry.served import served, served_within
from bester.server.telemetry.storage import Totals
from bester.server.web import WebServices
from bester.store.database import COMMIT_BOUNDS_S, SqliteStore
from bester.store.ports import QueueSize, account_of

OTHERS = ""
"""The label of all types that are counted together; no type has this name."""
FRESH_S = 5.0
"""How long the sizes of the queues are reused."""


class Metrics(Collector):
    """Collects the server's metrics; those read from the store are cached for :data:`FRESH_S`."""

    def __init__(self, services: WebServices) -> None:
        self._services = services.admin
        self._runtime = services.runtime
        self._watch = services.watch
        self._loop = asyncio.get_running_loop()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        self._queues: list[QueueSize] = []
        self._totals: Totals | None = None
        self._looked = float("-inf")

    def knows(self, authorization: str, token: str | None) -> bool:
        """Returns whether a request's ``Authorization`` is the configured bearer token."""
        scheme, _, given = authorization.partition(" ")
        if token is None or scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(given.strip().encode(errors="surrogateescape"), token.encode())

    async def answer(self, request: web.Request) -> web.Response:
        """Responds with all metrics, in the format that the scraper prefers."""
        if self._loop.time() - self._looked >= FRESH_S:
            try:
                self._queues = await self._services.messages.queue_sizes()
                self._totals = await self._services.storage.totals()
            except BesterError:
                self._queues, self._totals = [], None  # the other metrics do not need the store
            self._looked = self._loop.time()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        headers = {"Content-Type": content_type, "Cache-Control": "no-store"}
        return web.Response(body=encode(self._registry), headers=headers)

    def collect(self) -> Iterable[Metric]:
        """Yields the metrics, for the registry."""
        yield InfoMetricFamily(
            "bester", "The server", {"version": __version__, "name": self._runtime.config.server.name}
        )
        yield from self._messages()
        yield from self._handlers()
        yield from self._clients()
        yield from self._servers()
        yield from self._storage()
        yield from self._nodes()
        tracing = self._services.tracing
        if tracing.on:
            spans = CounterMetricFamily("bester_spans", "OpenTelemetry spans", labels=["outcome"])
            for outcome, count in (("sent", tracing.sent), ("failed", tracing.failed), ("dropped", tracing.dropped)):
                spans.add_metric([outcome], count)
            yield spans
        rates = self._services.rates
        yield GaugeMetricFamily("bester_loop_lag_seconds", "How late the event loop was", rates.lag_s)
        worst = "How late the event loop was at most within 10 s"
        yield GaugeMetricFamily("bester_loop_lag_worst_seconds", worst, rates.worst_lag_s)
        problems = GaugeMetricFamily("bester_problems", "What is wrong or about to be", labels=["what"])
        for what, count in self._watch.counts().items():
            problems.add_metric([what], count)
        yield problems
        yield GaugeMetricFamily("bester_start_time_seconds", "When the server started", self._runtime.started_at)

    def _messages(self) -> Iterable[Metric]:
        exchange = self._runtime.exchange
        counters = exchange.batch.counters
        yield CounterMetricFamily("bester_messages_accepted", "Messages of clients and servers", counters.accepted)
        done = CounterMetricFamily("bester_messages", "Messages with their report", labels=["type", "outcome"])
        for name, metrics in self._by_type():
            done.add_metric([name, "good"], metrics.good)
            for code, count in sorted(metrics.bad.items()):
                done.add_metric([name, code], count)
        yield done
        yield CounterMetricFamily("bester_pushes", "Messages that handlers sent unasked", counters.pushes)
        yield CounterMetricFamily("bester_deliveries", "Recipients to whose sessions was written", counters.deliveries)
        yield CounterMetricFamily("bester_repeats", "Repeats of once messages", counters.repeats)
        yield CounterMetricFamily(
            "bester_given_again",
            "Messages given to a session again, unacknowledged",
            counters.given_again,
        )
        verdicts = CounterMetricFamily("bester_guard_verdicts", "Verdicts of guards", labels=["guard", "verdict"])
        for (guard, verdict), count in sorted(exchange.gates.verdicts.items()):
            verdicts.add_metric([guard, verdict], count)
        yield verdicts
        dropped = CounterMetricFamily("bester_dropped", "What was thrown away", labels=["what", "cause"])
        for what, causes in numbers.dropped(self._services).items():
            for cause, count in causes.items():
                dropped.add_metric([what, cause], count)
        yield dropped
        receipts = CounterMetricFamily("bester_receipts", "Finished messages, for bester trace", labels=["outcome"])
        receipts.add_metric(["recorded"], self._services.receipts.recorded)
        receipts.add_metric(["unrecorded"], self._services.receipts.unrecorded)
        yield receipts
        queues = GaugeMetricFamily("bester_queue_length", "What waits in memory", labels=["queue"])
        for queue, length in numbers.queues(self._services).items():
            queues.add_metric([queue], length)
        yield queues
        yield GaugeMetricFamily(
            "bester_messages_under_way", "Messages without their report", exchange.reports.under_way
        )

    def _handlers(self) -> Iterable[Metric]:
        answers = CounterMetricFamily("bester_handler_requests", "Requests to handlers", labels=["type", "outcome"])
        spent = HistogramMetricFamily("bester_handler_seconds", "From hand-over to answer", labels=["type"])
        outstanding = GaugeMetricFamily("bester_handler_outstanding", "Requests without an answer", labels=["type"])
        waiting = GaugeMetricFamily("bester_handler_waiting", "Messages that wait for a handler", labels=["type"])
        attached = GaugeMetricFamily("bester_handlers_attached", "Attached handlers", labels=["type"])
        exchange = self._runtime.exchange
        for name, metrics in self._by_type():
            answered, failed, seconds = served(self._services.cluster, metrics)
            answers.add_metric([name, "answered"], answered)
            answers.add_metric([name, "failed"], failed)
            spent.add_metric([name], _buckets(BOUNDS_S, served_within(self._services.cluster, metrics)), seconds)
        now: dict[str, list[int]] = {}
        named = exchange.batch.counters.by_type.named
        for handler in exchange.dispatcher.handlers:
            if handler.is_remote:
                continue  # the node with the request counts it
            for request in handler.outstanding.values():
                name = request.route.name
                now.setdefault(name if name in named else OTHERS, [0, 0, 0])[0] += 1
        for name, kind in exchange.dispatcher.types.items():
            counts = now.setdefault(name if name in named else OTHERS, [0, 0, 0])
            counts[0] += kind.active
            counts[1] += count_waiting(kind)
            counts[2] += len(kind.attached)
        for name, counts in sorted(now.items()):
            for family, count in zip((outstanding, waiting, attached), counts, strict=True):
                family.add_metric([name], count)
        return answers, spent, outstanding, waiting, attached

    def _by_type(self) -> list[tuple[str, TypeMetrics]]:
        """Returns the metrics of the types that are counted by name, then those of all other types."""
        by_type = self._runtime.exchange.batch.counters.by_type
        return [(OTHERS, by_type.others), *sorted(by_type.named.items())]

    def _clients(self) -> Iterable[Metric]:
        runtime = self._runtime
        presence = runtime.exchange.presence
        yield GaugeMetricFamily(
            "bester_connections", "Open connections of all kinds", len(self._services.connections.all)
        )
        yield GaugeMetricFamily(
            "bester_unauthenticated", "Connections that have not authenticated", len(self._services.limits)
        )
        yield GaugeMetricFamily("bester_sessions", "Sessions of clients", presence.session_count)
        yield GaugeMetricFamily(
            "bester_accounts_online", "Accounts with a session that takes their messages", len(presence.usernames())
        )
        yield CounterMetricFamily("bester_connections_accepted", "Connections to listeners", runtime.counts.connections)
        logins = CounterMetricFamily("bester_logins", "Logins", labels=["outcome"])
        logins.add_metric(["good"], runtime.counts.logins)
        logins.add_metric(["bad"], runtime.counts.logins_failed)
        yield logins
        refused = CounterMetricFamily("bester_refused", "Connections that were closed for an error", labels=["cause"])
        for code, count in sorted(runtime.counts.refused.items()):
            refused.add_metric([code], count)
        yield refused
        wire = CounterMetricFamily("bester_bytes", "Bytes of frames", labels=["direction", "peer"])
        for direction, peers in numbers.traffic(self._services).items():
            for peer, count in peers.items():
                wire.add_metric([direction, peer], count)
        yield wire
        discarded = CounterMetricFamily("bester_discarded_bytes", "Bytes on ended connections", labels=["direction"])
        discarded.add_metric(["received"], runtime.counts.discarded_in)
        discarded.add_metric(["sent"], runtime.counts.discarded_out)
        yield discarded
        slow = "Clients that were cut off because they did not read"
        yield CounterMetricFamily("bester_slow_consumers", slow, runtime.counts.slow_consumers)

    def _servers(self) -> Iterable[Metric]:
        federation = self._services.federation
        links = GaugeMetricFamily("bester_links", "Links that are up", labels=["direction"])
        up = sum(destination.link is not None for destination in federation.destinations.values())
        links.add_metric(["out"], up)
        links.add_metric(["in"], len(federation.incoming))
        yield links
        sent = CounterMetricFamily("bester_forwarded", "Messages for other servers", labels=["outcome"])
        for outcome in ("sent", "queued", "skipped", "failed"):
            sent.add_metric([outcome], getattr(federation, outcome))
        yield sent
        queue = GaugeMetricFamily("bester_outbox_messages", "Messages in the outbox", labels=["server", "state"])
        size = GaugeMetricFamily("bester_outbox_bytes", "Their data", labels=["server"])
        oldest = GaugeMetricFamily("bester_outbox_oldest_seconds", "The age of the oldest", labels=["server"])
        unacknowledged = 0
        for one in self._queues:
            if account_of(one.destination) is not None:
                unacknowledged += one.dead
                continue
            queue.add_metric([one.destination, "waiting"], one.waiting)
            queue.add_metric([one.destination, "dead"], one.dead)
            size.add_metric([one.destination], one.bytes)
            if one.oldest:
                oldest.add_metric([one.destination], self._runtime.steady.now() - one.oldest)
        yield from (queue, size, oldest)
        yield GaugeMetricFamily(
            "bester_mailbox_dead_letters", "Messages that no session acknowledged, given up", unacknowledged
        )

    def _nodes(self) -> Iterable[Metric]:
        cluster = self._services.cluster
        figures = cluster.figures
        if figures is None:
            return
        yield GaugeMetricFamily("bester_nodes", "Nodes that this one knows, with itself", figures.nodes)
        asked = "Requests that handlers of other nodes were asked"
        yield CounterMetricFamily("bester_nodes_asked", asked, figures.asked)
        brought = "Messages that sessions on other nodes have taken"
        yield CounterMetricFamily("bester_nodes_brought", brought, figures.brought)
        done = "Requests and messages of other nodes that came here"
        yield CounterMetricFamily("bester_nodes_done_for", done, self._runtime.exchange.batch.counters.for_nodes)
        yield GaugeMetricFamily("bester_bus_up", "Whether NATS can be reached", int(cluster.bus_up))
        yield CounterMetricFamily("bester_bus_losses", "How often the connection to NATS was lost", figures.bus_losses)

    def _storage(self) -> Iterable[Metric]:
        runtime = self._runtime
        totals = self._totals
        if totals is not None:
            yield GaugeMetricFamily("bester_accounts", "Accounts", totals.accounts)
            yield GaugeMetricFamily("bester_mailboxes", "Mailboxes that hold something", totals.mailboxes)
            yield GaugeMetricFamily("bester_mailbox_messages", "Messages in mailboxes", totals.mailbox_messages)
            yield GaugeMetricFamily("bester_mailbox_bytes", "Their data", totals.mailbox_bytes)
        yield CounterMetricFamily(
            "bester_mailbox_stored", "Messages put into mailboxes", self._services.mailboxes.stored
        )
        storage = self._services.storage
        space = storage.disk_space() if storage.on_disk else None
        if space is not None:
            yield GaugeMetricFamily("bester_disk_free_bytes", "Free room where the store is", space["free"])
            yield GaugeMetricFamily(
                "bester_disk_reserve_bytes", "What is left free of it", runtime.config.storage.reserve
            )
        if isinstance(self._services.messages, SqliteStore):
            database = self._services.messages.database
            counts, seconds = list(database.commits), database.commit_seconds
            buckets = _buckets(COMMIT_BOUNDS_S, counts)
            name = "bester_store_commit_seconds"
            yield HistogramMetricFamily(name, "Commits of the database", buckets=buckets, sum_value=seconds)


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Returns a histogram's buckets in Prometheus's cumulative form."""
    return list(zip((*map(str, bounds), "+Inf"), accumulate(counts), strict=True))
