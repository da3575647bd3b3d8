"""An exchange with endpoints whose frames the tests read."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from msgspec import Raw

from bester.core.effects import Bury, CallClassic, Deposit, Effect, PresenceChanged, ReadMailbox, RemoveLetter
from bester.core.endpoint import Endpoint, Peer
from bester.core.exchange import Exchange
from bester.core.limits import Limits
from bester.core.model import Delivery
from bester.core.replay import Letter
from bester.core.routing import AttachedHandler, RemoteHandler
from bester.core.rules import TypeRules
from bester.core.session import Session
from bester.core.trail import Trail
from bester.protocol.frames import encode_text
from bester.protocol.messages import HandlerMessage, decode_classic
from bester.protocol.plain import read_handler_message

T = TypeVar("T", bound=Effect)

DONE = {"type": "done"}
REPLY = {"type": "reply"}


class World:
    """What the server around an exchange does, by hand."""

    def __init__(self) -> None:
        self.exchange = Exchange("j.example")
        self.exchange.batch.now = 1000.0
        self._named: dict[Endpoint, str] = {}
        self.full_sockets: list[Endpoint] = []
        """Endpoints whose sockets do not take what is written next."""

    # -- who is there --

    def configure(
        self, limits: Limits | None = None, attached: dict[str, TypeRules] | None = None, **types: Any
    ) -> None:
        self.exchange.dispatcher.configure(types, limits or self.exchange.batch.limits, attached)

    def session(self, username: str = "t", **more: Any) -> Session:
        has_mail = more.pop("has_mail", False)
        session = Session(username, "j.example", **more)
        self.exchange.deliveries.add_session(session, has_mail=has_mail)
        if self.exchange.batch.effects and isinstance(self.exchange.batch.effects[-1], PresenceChanged):
            self.exchange.batch.effects.pop()
        return session

    def peer(self, name: str | None = None) -> Peer:
        return Peer(name)

    def handler(
        self, *types: str, concurrency: int = 64, timeout_s: float = 30.0, blocked: bool = False, features: str = ""
    ) -> AttachedHandler:
        handler = AttachedHandler(types[0], "j.example", concurrency)
        handler.blocked = blocked
        handler.parts, handler.cancels = "parts" in features, "cancel" in features
        self.exchange.dispatcher.attach(handler, list(types), timeout_s)
        return handler

    def remote_handler(self, node: str, type: str, concurrency: int = 64) -> RemoteHandler:
        """Another node of this server, which serves a type."""
        handler = RemoteHandler(node, "j.example", concurrency)
        self.exchange.dispatcher.attach_remote(handler, type, 30.0)
        return handler

    def name_of(self, endpoint: Endpoint) -> str:
        """Returns what tells an endpoint from the others: of two sessions of g, one is g and the other g'."""
        name = self._named.get(endpoint)
        if name is None:
            name = next(filter(None, (getattr(endpoint, at, "") for at in ("username", "name", "scope"))))
            while name in self._named.values():
                name += "'"
            self._named[endpoint] = name
        return name

    # -- what they send --

    def take_in(
        self,
        origin: Endpoint,
        type: str,
        data: Any = None,
        id: str = "",
        hops: int = 0,
        size: int = 100,
        *,
        once: bool = False,
        trail: Trail | None = None,
        parts: int = 0,
    ) -> None:
        """A message comes, and goes the shortest way if it can, as the server lets it."""
        admission = self.exchange.admission
        encoded, text = encode_text(id), json.dumps(data).encode()
        if parts:
            self.exchange.streams.begin(origin, encoded, parts)
        if isinstance(origin, Session) and not (hops or once or trail or parts):
            admission.untracked_message(origin, type, encoded, text, size)
        else:
            admission.message(origin, type, encoded, Raw(text), size, hops, once, trail=trail, parts=parts > 0)

    def send(self, origin: Endpoint, type: str, data: Any = None, id: str = "", **more: Any) -> None:
        self.take_in(origin, type, data, id, **more)
        self.exchange.settle()

    def answer(self, handler: AttachedHandler, id: str, *commands: dict[str, Any], **more: Any) -> None:
        """An attached handler answers; one command is sent in the way that makes the answer plain if it can be."""
        said: dict[str, Any] = {"command": commands[0]} if len(commands) == 1 else {"commands": list(commands)}
        header = {"id": id, "status": "0", **said, **more.pop("header", {})}
        answered(self.exchange, handler, {"header": header, **more})
        self.exchange.settle()

    def push(self, handler: AttachedHandler, id: str, *commands: dict[str, Any], **more: Any) -> None:
        self.answer(handler, id, *commands, header={"messageType": "push", "status": None}, **more)

    def answer_classic(self, call: CallClassic, *commands: dict[str, Any], **more: Any) -> None:
        body = json.dumps({"header": {"status": "0", "commands": list(commands)}, **more}).encode()
        self.exchange.classic_answered(call.request, decode_classic(body))
        self.exchange.settle()

    def settle(self) -> None:
        """Ends the batch, as if all sockets took all at once."""
        self.exchange.settle()
        self.exchange.written()
        self.exchange.settle()

    def wait(self, seconds: float) -> None:
        self.exchange.batch.now += seconds

    # -- what they get --

    def got(self, endpoint: Endpoint) -> list[dict[str, Any]]:
        """Everything that was written to an endpoint since the last call, the batch being over."""
        self.settle()
        return self.take(endpoint)

    def take(self, endpoint: Endpoint) -> list[dict[str, Any]]:
        """Writes what is there for an endpoint."""
        assert endpoint.listed == (endpoint in self.exchange.batch.dirty) == bool(endpoint.out)
        assert self.exchange.batch.dirty.count(endpoint) <= 1
        if endpoint.listed:
            self.exchange.batch.dirty.remove(endpoint)
            endpoint.listed = False
        frames, endpoint.out = endpoint.out, []
        for frame in frames:
            assert int.from_bytes(frame[:4], "little") == len(frame) - 4
        return [json.loads(frame[4:]) for frame in frames]

    def written_to(self, endpoint: Endpoint) -> None:
        """Says so if an endpoint's socket did not take what was written just now."""
        if endpoint in self.full_sockets:
            self.full_sockets.remove(endpoint)
            if isinstance(endpoint, Session):
                self.exchange.deliveries.session_blocked(endpoint)
            else:
                assert isinstance(endpoint, AttachedHandler)
                self.exchange.dispatcher.blocked(endpoint)

    def received(self, session: Session) -> list[tuple[str, Any]]:
        """The types and data of the messages that a session was sent; there must be nothing else."""
        frames = self.got(session)
        assert all(frame["header"] == {"messageType": "receivedMessage"} for frame in frames)
        return [(frame["payload"]["type"], frame["payload"]["data"]) for frame in frames]

    def report(self, endpoint: Endpoint) -> dict[str, Any]:
        """The payload of the one frame that was written to an endpoint, a report."""
        (frame,) = self.got(endpoint)
        assert frame["header"]["messageType"] == "statusReport"
        assert frame["header"]["status"] == ("bad" if "error" in frame["payload"] else "good")
        payload: dict[str, Any] = frame["payload"]
        return payload

    def code(self, endpoint: Endpoint) -> str:
        """The error code of the one report that was written to an endpoint; "" of a good one."""
        code: str = self.report(endpoint).get("error", {}).get("code", "")
        return code

    def codes(self, endpoint: Endpoint) -> list[str]:
        return [frame["payload"].get("error", {}).get("code", "") for frame in self.got(endpoint)]

    def requests(self, handler: AttachedHandler) -> list[dict[str, Any]]:
        frames = self.got(handler)
        assert all(frame["header"]["messageType"] == "request" for frame in frames)
        return frames

    def asked(self, handler: AttachedHandler) -> list[tuple[str, Any]]:
        """The ids and data of the requests that were written to a handler."""
        return [(frame["header"]["id"], frame["payload"]["data"]) for frame in self.requests(handler)]

    def effects(self) -> list[Effect]:
        self.exchange.settle()
        effects, self.exchange.batch.effects = self.exchange.batch.effects, []
        return effects

    def only(self, kind: type[T]) -> T:
        """The one effect that there is."""
        (effect,) = self.effects()
        assert isinstance(effect, kind)
        return effect

    def all(self, kind: type[T]) -> list[T]:
        """The effects, which must be of one kind."""
        effects = self.effects()
        found: list[T] = [effect for effect in effects if isinstance(effect, kind)]
        assert len(found) == len(effects)
        return found

    def at_rest(self, *endpoints: Endpoint) -> bool:
        """Whether nothing is under way, and nothing is left behind."""
        types = self.exchange.dispatcher.types.values()
        return (
            self.exchange.reports.under_way == 0
            and all(not endpoint.in_flight and not endpoint.held_bytes for endpoint in endpoints)
            and all(not route.queues and not route.ready and not route.active for route in types)
            and all(not handler.outstanding for handler in self.exchange.dispatcher.handlers)
        )


def answered(exchange: Exchange, handler: AttachedHandler, message: dict[str, Any]) -> None:
    """Lets an exchange have an attached handler's message, as the handler's connection does."""
    read = read_handler_message(json.dumps(message).encode())
    if isinstance(read, tuple):
        exchange.plain_answer(handler, read)
    else:
        assert isinstance(read, HandlerMessage)
        exchange.answer(handler, read)


class Store:
    """A mailbox that answers at once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.letters: dict[str, Letter] = {}
        self.buried: list[Bury] = []
        self.taken: list[str] = []

    def work(self) -> None:
        """Does what the exchange asks for, until there is nothing more."""
        while todo := self.world.effects():
            for effect in todo:
                self.does(effect)

    def does(self, effect: Effect) -> bool:
        """Does what a mailbox is asked for; False if it is something else."""
        match effect:
            case Deposit(one):
                self.letters.setdefault(one.id, Letter(len(self.letters) + 1, one.id, one.type, bytes(one.data)))
                self.world.exchange.replay.deposited(one, "stored")
            case RemoveLetter(_, id):
                self.letters.pop(id, None)
                self.taken.append(id)
            case Bury(delivery):
                self.letters.pop(delivery.id, None)
                self.buried.append(effect)
            case ReadMailbox(session):
                found = [one for one in self.letters.values() if one.position > effect.after]
                self.world.exchange.replay.page(session, found[: effect.limit])
            case _:
                return False
        return True

    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)
        self.world.exchange.sweep()
        self.work()


class Talk:
    """t sends messages, and their handler passes them on to accounts."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chat: AttachedHandler = world.handler("chat", concurrency=65_536)
        self.t = world.session("t")
        self.asked = 0

    def say(self, data: Any, *names: str, id: str = "", payload: dict[str, Any] | None = None, **more: Any) -> None:
        self.world.send(self.t, "chat", data, id=id)
        self.world.exchange.dispatcher.written()
        self.asked += 1
        command = {"type": "sendClients", "data": list(names), **more}
        self.world.answer(self.chat, str(self.asked), command, payload={"data": data, **(payload or {})})

    def statuses(self) -> list[list[str]]:
        """What t's reports say of their recipients, since the last call."""
        return [
            [result["status"] for result in frame["payload"].get("results", [])] for frame in self.world.got(self.t)
        ]


def given(world: World, session: Session) -> list[tuple[str | None, Any]]:
    """The delivery ids and data that a session was sent."""
    return [(frame["payload"].get("deliveryId"), frame["payload"]["data"]) for frame in world.got(session)]


def stored(world: World, *effects: Deposit) -> list[Delivery]:
    """Says of deposits that they are on disk."""
    for effect in effects:
        world.exchange.replay.deposited(effect.delivery, "stored")
    return [effect.delivery for effect in effects]


def letters(*deliveries: Delivery) -> list[Letter]:
    return [Letter(at, one.id, one.type, bytes(one.data)) for at, one in enumerate(deliveries, 1)]


def acking(world: World, username: str = "g", **more: Any) -> Session:
    return world.session(username, features=("ack",), **more)


def clients(*names: str, **more: Any) -> dict[str, Any]:
    return {"type": "sendClients", "data": list(names), **more}


def servers(*addresses: str, **more: Any) -> dict[str, Any]:
    return {"type": "sendServers", "data": list(addresses), **more}


def send_handler(type: str, **more: Any) -> dict[str, Any]:
    return {"type": "sendHandler", "data": type, **more}
