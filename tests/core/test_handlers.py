"""Lanes take turns; a lane's order is the order of arrival."""

from __future__ import annotations

from msgspec import Raw

from bester.core.endpoint import Endpoint
from bester.core.metrics import TypeMetrics
from bester.core.model import Envelope
from bester.core.routing import AttachedHandler, Request, TypeRoute
from bester.core.rules import TypeRules
from bester.core.session import Session


def request(handlers: TypeRoute, origin: Endpoint, since: float = 0.0) -> Request:
    return Request(Envelope(origin, ""), handlers, Raw(b"null"), 0, since)


def test_available() -> None:
    assert not TypeRoute("c", TypeRules(), TypeMetrics(), configured=True).available
    handlers = TypeRoute("c", TypeRules(classic_socket="/s"), TypeMetrics(), configured=True)
    assert handlers.available
    assert handlers.free_handler() is None


def test_the_freest_handler() -> None:
    handlers = TypeRoute("c", TypeRules(), TypeMetrics(), configured=False)
    busy, idle, full, blocked = (AttachedHandler("h", "j.example", concurrency) for concurrency in (3, 3, 1, 9))
    for handler, outstanding in ((busy, 2), (idle, 1), (full, 1)):
        for id in range(outstanding):
            handler.outstanding[str(id)] = request(handlers, busy)
    blocked.blocked = True
    handlers.attached = [full]
    assert handlers.free_handler() is None
    handlers.attached = [blocked]
    assert handlers.free_handler() is None
    handlers.attached = [blocked, full, busy, idle]
    assert handlers.free_handler() is idle
    idle.outstanding.update({str(id): request(handlers, busy) for id in range(3)})
    assert handlers.free_handler() is busy
    handlers.attached = [full, blocked]
    assert handlers.free_handler() is None
    assert [handler.free for handler in (busy, idle, full, blocked)] == [True, False, False, False]


def test_a_busy_lane_gets_no_turn_from_a_classic_handler() -> None:
    handlers = TypeRoute("c", TypeRules(classic_socket="/s"), TypeMetrics(), configured=True)
    t, g = Session("t", "j.example"), Session("g", "j.example")
    requests = [request(handlers, origin) for origin in (t, t, g)]
    for each in requests:
        handlers.put(each)
    assert [handlers.take(), handlers.take()] == [requests[0], requests[2]]
    assert not handlers.ready
    queue = requests[0].queue
    assert queue is not None
    handlers.done(queue)
    assert handlers.take() is requests[1]
    for each in requests[1:]:
        assert each.queue is not None
        handlers.done(each.queue)
    assert not handlers.queues


def test_waiting_since() -> None:
    handlers = TypeRoute("c", TypeRules(classic_socket="/s"), TypeMetrics(), configured=True)
    t, g = Session("t", "j.example"), Session("g", "j.example")
    old, middle, new, busy, later = (
        request(handlers, origin, since) for origin, since in ((t, 1), (t, 2), (t, 3), (g, 1), (g, 2))
    )
    for each in (busy, later, old, middle, new):
        handlers.put(each)
    assert handlers.take() is busy
    assert handlers.waiting_since(1) == []
    assert handlers.waiting_since(3) == [later, old, middle]
    assert handlers.queues.keys() == {t, g}  # g has one under way
    assert handlers.waiting_since(4) == [new]
    assert handlers.queues.keys() == {g}
    assert not handlers.ready
