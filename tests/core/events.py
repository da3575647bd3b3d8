"""What can happen to an exchange in a play."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.core.playbook import Event, event
from tests.core.world import REPLY, Talk, World

from bester.core.endpoint import Endpoint, Peer
from bester.core.replay import Letter
from bester.core.routing import AttachedHandler
from bester.core.session import Session
from bester.core.trail import Trail
from bester.errors import BesterError
from bester.protocol.frames import encode_text


@event
def Sends(
    world: World,
    /,
    origin: Endpoint,
    type: str,
    data: Any = None,
    *,
    id: str = "",
    hops: int = 0,
    size: int = 100,
    once: bool = False,
    trail: Trail | None = None,
    parts: int = 0,
) -> None:
    world.take_in(origin, type, data, id, hops, size, once=once, trail=trail, parts=parts)


@event
def Grants(world: World, /, session: Session, id: str, parts: int) -> None:
    """A client takes more parts of an answer."""
    world.exchange.streams.grant(session, encode_text(id), parts)


@event
def Cancels(world: World, /, session: Session, *ids: str) -> None:
    for id in ids:
        world.exchange.parts.cancel(session, encode_text(id))


@event
def Answers(
    world: World, /, handler: AttachedHandler, *commands: dict[str, Any], id: Any = None, status: Any = "0", **more: Any
) -> None:
    """Answers the oldest request that the handler has, or the one with this id."""
    world.answer(handler, id or next(iter(handler.outstanding)), *commands, header={"status": status}, **more)


@event
def AnswersInPart(
    world: World, /, handler: AttachedHandler, *commands: dict[str, Any], id: Any = None, status: Any = "0", **more: Any
) -> None:
    """Sends a part of the answer to the oldest request that the handler has, or to the one with this id."""
    header = {"status": status, "more": True}
    world.answer(handler, id or next(iter(handler.outstanding)), *(commands or (REPLY,)), header=header, **more)


@event
def AnswersWrongly(world: World, /, handler: AttachedHandler, error: BesterError, id: Any = None) -> None:
    world.exchange.answer_failed(handler, id or next(iter(handler.outstanding)), error)


@event
def Pushes(world: World, /, handler: AttachedHandler, id: str, *commands: dict[str, Any], **more: Any) -> None:
    world.push(handler, id, *commands, **more)


@event
def ClassicAnswers(world: World, /, call: Any, *commands: dict[str, Any], **more: Any) -> None:
    world.answer_classic(call, *commands, **more)


@event
def ClassicFails(world: World, /, call: Any, error: BesterError) -> None:
    world.exchange.classic_failed(call.request, error)


@event
def Says(world: World, /, talk: Talk, data: Any, *names: str, **more: Any) -> None:
    """A message is sent, and its handler passes it on to accounts."""
    talk.say(data, *names, **more)
    world.take(talk.chat)


@event
def Acknowledges(world: World, /, session: Session, *ids: Any) -> None:
    world.exchange.deliveries.acknowledged(session, ids)


@event
def Comes(world: World, /, session: Session, *, has_mail: bool = False) -> None:
    world.exchange.deliveries.add_session(session, has_mail=has_mail)


@event
def Attaches(world: World, /, handler: AttachedHandler, *types: str, timeout_s: float = 30.0) -> None:
    world.exchange.dispatcher.attach(handler, list(types), timeout_s)


@event
def Leaves(world: World, /, endpoint: Endpoint) -> None:
    """A session ends, a link, or a handler's connection; what was not written to it is lost."""
    if isinstance(endpoint, Session):
        world.exchange.deliveries.remove_session(endpoint)
        world.exchange.parts.left(endpoint)
    elif isinstance(endpoint, Peer):
        endpoint.closed = True
        world.exchange.admission.forget_unproven(endpoint)
    else:
        assert isinstance(endpoint, AttachedHandler)
        world.exchange.dispatcher.remove(endpoint)
    world.take(endpoint)


@event
def SocketFills(world: World, /, endpoint: Endpoint) -> None:
    """From the next write on, an endpoint's socket does not take all."""
    world.full_sockets.append(endpoint)


@event
def SocketDrains(world: World, /, endpoint: Endpoint) -> None:
    if isinstance(endpoint, Session):
        world.exchange.deliveries.session_unblocked(endpoint)
    else:
        assert isinstance(endpoint, AttachedHandler)
        world.exchange.dispatcher.unblocked(endpoint)


@event
def Deposited(world: World, /, deposit: Any, status: str = "stored", error: BesterError | None = None) -> None:
    world.exchange.replay.deposited(deposit.delivery, status, error)


@event
def MailboxRead(world: World, /, session: Session, *found: Any) -> None:
    """A page of a mailbox comes: of letters, or of what was deposited, numbered from 1 on."""
    letters = [
        one if isinstance(one, Letter) else Letter(at, one.delivery.id, one.delivery.type, bytes(one.delivery.data))
        for at, one in enumerate(found, 1)
    ]
    world.exchange.replay.page(session, letters)


@event
def Settled(world: World, /, forward: Any, status: str = "sent", error: BesterError | None = None) -> None:
    world.exchange.reports.settled(forward.envelope, forward.slot, forward.to, status, error)


@event
def Passes(world: World, /, seconds: float) -> None:
    """Time passes, and then the deadlines are looked at."""
    world.wait(seconds)
    world.exchange.sweep()


@event
def Calls(world: World, /, function: Callable[..., object], *args: Any, **more: Any) -> None:
    """Anything else."""
    function(*args, **more)


@event
def Together(world: World, /, *events: Event) -> None:
    """Several events in one batch."""
    for one in events:
        one.happen(world)
