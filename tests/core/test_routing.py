"""Senders take turns; the order of one sender is the order of arrival."""

from __future__ import annotations

from msgspec import Raw

from bester.core.endpoint import Endpoint, Peer
from bester.core.metrics import TypeMetrics
from bester.core.model import Envelope
from bester.core.routing import AttachedHandler, RemoteHandler, Request, TypeRoute
from bester.core.rules import TypeRules
from bester.core.session import Session


def request(route: TypeRoute, origin: Endpoint, since: float = 0.0) -> Request:
    return Request(Envelope(origin, b'""'), route, Raw(b"null"), 0, since)


def test_a_type_is_available_when_somebody_may_be_asked() -> None:
    assert not TypeRoute("c", TypeRules(), TypeMetrics(), configured=True).available
    route = TypeRoute("c", TypeRules(classic_socket="/s"), TypeMetrics(), configured=True)
    assert route.available
    assert route.free_handler() is None


def test_the_least_busy_handler_with_room_is_chosen() -> None:
    route = TypeRoute("c", TypeRules(), TypeMetrics(), configured=False)
    busy, idle, full, blocked = (AttachedHandler("h", "j.example", concurrency) for concurrency in (3, 3, 1, 9))
    for handler, outstanding in ((busy, 2), (idle, 1), (full, 1)):
        for id in range(outstanding):
            handler.outstanding[str(id)] = request(route, busy)
    blocked.blocked = True
    route.attached = [full]
    assert route.free_handler() is None
    route.attached = [blocked]
    assert route.free_handler() is None
    route.attached = [blocked, full, busy, idle]
    assert route.free_handler() is idle
    idle.outstanding.update({str(id): request(route, busy) for id in range(3)})
    assert route.free_handler() is busy
    route.attached = [full, blocked]
    assert route.free_handler() is None
    assert [handler.free for handler in (busy, idle, full, blocked)] == [True, False, False, False]


def test_another_node_is_not_asked_while_a_handler_here_is_only_full_until_the_batch_is_written() -> None:
    route = TypeRoute("c", TypeRules(), TypeMetrics(), configured=False)
    here, elsewhere = AttachedHandler("h", "j.example", 9), RemoteHandler("b", "j.example", 9)
    route.attached, route.remote = [here], [elsewhere]
    here.blocked = here.full = True
    assert route.free_handler() is None
    here.full = False
    assert route.free_handler() is elsewhere
    here.blocked = False
    assert route.free_handler() is here


def test_a_sender_with_a_message_at_the_classic_handler_gets_no_turn() -> None:
    route = TypeRoute("c", TypeRules(classic_socket="/s"), TypeMetrics(), configured=True)
    t, g = Session("t", "j.example"), Session("g", "j.example")
    requests = [request(route, origin) for origin in (t, t, g)]
    for each in requests:
        route.put(each)
    assert [route.take(), route.take()] == [requests[0], requests[2]]
    assert not route.ready
    queue = requests[0].queue
    assert queue is not None
    route.done(queue)
    assert route.take() is requests[1]
    for each in requests[1:]:
        assert each.queue is not None
        route.done(each.queue)
    assert not route.queues


def test_the_links_of_one_server_are_one_sender() -> None:
    route = TypeRoute("c", TypeRules(), TypeMetrics(), configured=True)
    old, new, other = Peer("k.example"), Peer("k.example"), Peer("m.example")
    unproven = [Peer(), Peer()]
    requests = [request(route, origin) for origin in (old, old, *unproven, new, other, new)]
    for each in requests:
        route.put(each)
    order = [0, 2, 3, 5, 1, 4, 6]
    assert [route.take() for _ in requests] == [requests[at] for at in order]
    assert not route.queues


def test_what_waits_since_before_a_time_is_taken_out() -> None:
    route = TypeRoute("c", TypeRules(classic_socket="/s"), TypeMetrics(), configured=True)
    t, g = Session("t", "j.example"), Session("g", "j.example")
    old, middle, new, busy, later = (
        request(route, origin, since) for origin, since in ((t, 1), (t, 2), (t, 3), (g, 1), (g, 2))
    )
    for each in (busy, later, old, middle, new):
        route.put(each)
    assert route.take() is busy
    assert route.waiting_since(1) == []
    assert route.waiting_since(3) == [later, old, middle]
    assert route.queues.keys() == {t, g}  # g has one under way
    assert route.waiting_since(4) == [new]
    assert route.queues.keys() == {g}
    assert not route.ready
