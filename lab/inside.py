"""Looks into a server when everything is over: what counts messages under way must have come back to nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bester.core.endpoint import Endpoint
from bester.core.session import Session
from bester.server.federation.destination import Destination
from bester.server.server import Server


def at_quiet(server: Server) -> Iterator[str]:
    """Yields what a server still holds, though nothing is under way any more and everybody has taken everything."""
    exchange = server.runtime.exchange
    batch, deliveries, dispatcher = exchange.batch, exchange.deliveries, exchange.dispatcher
    if exchange.reports.under_way:
        yield f"{exchange.reports.under_way} messages count as under way"
    yield from _full(
        "the batch", effects=batch.effects, dirty=batch.dirty, freed=batch.freed, written=deliveries.direct_writes
    )
    yield from _full(
        "the mailboxes",
        depositing=deliveries.replay.depositing,
        keeping=server.mailboxes._keeping,
        deposits=server.mailboxes._deposits,
    )
    yield from _full("the admission", backlogs=exchange.admission._backlogs)
    for handler in dispatcher.handlers:
        yield from _full(f"the handler {handler.name}", outstanding=handler.outstanding)
        yield from _busy(f"the handler {handler.name}", handler)
    for route in dispatcher.types.values():
        yield from _full(f"the type {route.name}", queues=route.queues, ready=route.ready)
    for name in exchange.presence.all_usernames():
        for session in exchange.presence.all_sessions(name):
            yield from _busy(f"a session of {name}", session)
            yield from _unread(f"a session of {name}", session)
    for link in server.federation.incoming:
        if link.endpoint is not None:
            yield from _busy("a link from another server", link.endpoint)
    for destination in server.federation.destinations.values():
        yield from _unsent(destination)


def _full(what: str, **parts: Iterable[object]) -> Iterator[str]:
    for name, part in parts.items():
        if held := list(part):
            yield f"{what}: {name} has {len(held)}"


def _busy(what: str, endpoint: Endpoint) -> Iterator[str]:
    for name in ("in_flight", "waiting", "backlog", "held_bytes"):
        if value := getattr(endpoint, name):
            yield f"{what}: {name} is {value}"
    if endpoint.paused:
        yield f"{what}: is not read"


def _unread(what: str, session: Session) -> Iterator[str]:
    yield from _full(what, unacked=session.unacked, queue=session.queue)
    for name in ("unacked_bytes", "queue_bytes"):
        if value := getattr(session, name):
            yield f"{what}: {name} is {value}"


def _unsent(destination: Destination) -> Iterator[str]:
    if not destination.pending.is_empty:
        yield f"the destination {destination.key}: {destination.fresh} fresh, {destination.in_flight} in flight"
    if destination.backlog.active or destination.backlog.writing:
        yield f"the destination {destination.key}: a backlog of {destination.backlog.stored}"
