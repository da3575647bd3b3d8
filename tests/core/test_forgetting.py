"""What has ended is forgotten: nothing in the exchange keeps a session or a handler, and no circle keeps itself.

Envelopes, requests and deliveries are not looked at by Python's garbage collector, which would cost too much, so a
circle through one of them is never freed unless the exchange breaks it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from tests.core.world import REPLY, Store, World, acking, clients, send_handler, servers

from bester.core.delivery import CUT_OFF_S, UNREAD_S
from bester.core.effects import Recall
from bester.core.endpoint import Endpoint
from bester.core.redelivery import ACK_S
from bester.core.routing import AttachedHandler
from bester.core.session import Session
from bester.core.trail import Trail

Story = Callable[[World, Store, AttachedHandler], None]


def endpoints() -> int:
    """How many sessions and handlers there are in memory."""
    gc.collect()
    return sum(isinstance(one, Endpoint) for one in gc.get_objects())


def to_itself(world: World, handler: AttachedHandler) -> Session:
    """A session sends itself a message, and does not acknowledge it."""
    g = acking(world)
    say(world, handler, g, clients("g"))
    world.got(g)
    return g


def say(world: World, handler: AttachedHandler, origin: Endpoint, *commands: dict[str, Any], **more: Any) -> None:
    world.send(origin, "chat", 1, id="1", **more)
    (request,) = world.requests(handler)
    world.answer(handler, request["header"]["id"], *commands, payload={"data": 1})


def leaves(world: World, store: Store, *sessions: Session) -> None:
    for session in sessions:
        world.exchange.deliveries.remove_session(session)
        world.got(session)
        session.out.clear()
    store.work()
    world.settle()


def left_unacknowledged(world: World, store: Store, handler: AttachedHandler) -> None:
    g = to_itself(world, handler)
    leaves(world, store, g)


def left_late(world: World, store: Store, handler: AttachedHandler) -> None:
    g = to_itself(world, handler)
    store.wait(ACK_S)
    leaves(world, store, g)


def left_to_each_other(world: World, store: Store, handler: AttachedHandler) -> None:
    g, h = acking(world), acking(world, "h")
    for one in (g, h):
        say(world, handler, one, clients("g", "h"))
    leaves(world, store, g, h)


def left_stalled(world: World, store: Store, handler: AttachedHandler) -> None:
    g, h = world.session("g"), world.session("h")
    world.exchange.deliveries.session_blocked(g)
    for one in (g, h):
        say(world, handler, one, clients("g", "h"))
    store.wait(UNREAD_S)
    store.wait(CUT_OFF_S)
    leaves(world, store, g, h)


def left_queued(world: World, store: Store, handler: AttachedHandler) -> None:
    g = world.session("g")
    world.exchange.deliveries.session_blocked(g)
    say(world, handler, g, clients("g"))
    leaves(world, store, g)


def left_before_the_report(world: World, store: Store, handler: AttachedHandler) -> None:
    g, h = world.session("g"), world.session("h")
    world.send(g, "chat", 1, id="1")
    leaves(world, store, g)
    (request,) = world.requests(handler)
    world.answer(handler, request["header"]["id"], clients("h"), payload={"data": 1})
    leaves(world, store, h)


def left_a_once_message(world: World, store: Store, handler: AttachedHandler) -> None:
    g = acking(world)
    say(world, handler, g, clients("g"), REPLY, once=True, trail=Trail())
    leaves(world, store, g)
    world.exchange.once.forget_sender(g.sender)


def refused(world: World, store: Store, handler: AttachedHandler) -> None:
    g = world.session("g")
    world.send(g, "chat", 1, id="1")
    (request,) = world.requests(handler)
    world.answer(handler, request["header"]["id"], header={"status": "1", "error": {"message": "no"}})
    leaves(world, store, g)


def answered_wrongly(world: World, store: Store, handler: AttachedHandler) -> None:
    g = world.session("g")
    say(world, handler, g, {"type": "sendClients", "data": "g"})
    say(world, handler, g, clients("g"), {"type": "sendHandler", "data": "builtin"})
    say(world, handler, g, clients("no name"), servers("no address", "x:y:z"))
    leaves(world, store, g)


def pushed_wrongly(world: World, store: Store, handler: AttachedHandler) -> None:
    other = world.handler("other")
    world.push(other, "p", {"type": "sendClients", "data": "g"})
    world.push(other, "p", send_handler("builtin"))
    world.exchange.dispatcher.remove(other)
    world.got(other)


def left_a_once_message_that_was_looked_up(world: World, store: Store, handler: AttachedHandler) -> None:
    admission, g = world.exchange.admission, world.session("g", created=float(world.exchange.batch.new_number()))
    admission.may_recall = lambda key: True
    world.send(g, "chat", 1, id="1", once=True)
    admission.not_recalled(world.only(Recall).record)
    world.settle()
    (request,) = world.requests(handler)
    world.answer(handler, request["header"]["id"], REPLY)
    leaves(world, store, g)  # the record stays


def handler_went(world: World, store: Store, handler: AttachedHandler) -> None:
    g, other = world.session("g"), world.handler("other")
    world.send(g, "other", 1, id="1")
    world.push(other, "p", send_handler("other"))
    world.exchange.dispatcher.remove(other)
    world.got(other)
    leaves(world, store, g)


STORIES: list[Story] = [
    left_unacknowledged,
    left_late,
    left_to_each_other,
    left_stalled,
    left_queued,
    left_before_the_report,
    left_a_once_message,
    left_a_once_message_that_was_looked_up,
    refused,
    answered_wrongly,
    pushed_wrongly,
    handler_went,
]


@pytest.mark.parametrize("story", STORIES, ids=[story.__name__ for story in STORIES])
def test_sessions_and_handlers_that_are_gone_are_freed(world: World, story: Story) -> None:
    store, handler = Store(world), world.handler("chat")
    before = endpoints()
    for _ in range(3):
        story(world, store, handler)
    world.exchange.sweep()
    store.work()
    world.settle()
    world._named.clear()
    assert endpoints() == before
