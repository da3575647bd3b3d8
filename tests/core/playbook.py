"""Plays: what happens to an exchange, and what comes of it.

A play is written as a conversation. ``>>`` is an event, ``<<`` one outcome of the event before it; and there must be no
others. It is played, and compared, when it is asserted; it may go on after that::

    def test_a_message_is_reported_when_its_recipient_acknowledges_it(world: World) -> None:
        chat, t, g = world.handler("chat"), world.session("t"), acking(world, "g")
        id = Placeholder()
        assert (
            Playbook(world)
            >> Sends(t, "chat", 1)
            << Asked(chat, 1)
            >> Answers(chat, clients("g"), data=1)
            << Received(g, "chat", 1, id=id)
            >> Acknowledges(g, id)
            << Report(t, "good", "g delivered")
        )

Each event is a batch of its own, and all that it leads to is carried out and written before the next one. Outcomes for
one endpoint must come in the order that is written down, and so must effects; between endpoints there is no order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import wraps
from itertools import zip_longest
from typing import Any, ClassVar, Concatenate, NamedTuple, ParamSpec
from unittest.mock import ANY

from tests.core.world import Store, World

from bester.core import effects
from bester.core.endpoint import Endpoint

P = ParamSpec("P")
_UNSET: Any = object()
_SIMPLE = (str, int, float, list, dict)


class Placeholder:
    """Stands for what a play does not know before: the first outcome that has it says what it is."""

    def __init__(self) -> None:
        self.value = _UNSET

    def __call__(self) -> Any:
        assert self.value is not _UNSET, "nothing has said yet what this is"
        return self.value


def resolve(value: Any) -> Any:
    return value() if isinstance(value, Placeholder) else value


def _known(value: Any) -> Any:
    return "?" if isinstance(value, Placeholder) and value.value is _UNSET else resolve(value)


# -- events -------------------------------------------------------------------------------------------------------


class Event(NamedTuple):
    """Something that happens to the exchange."""

    function: Callable[..., object]
    args: tuple[Any, ...]
    more: dict[str, Any]

    def happen(self, world: World) -> None:
        self.function(world, *map(resolve, self.args), **{name: resolve(value) for name, value in self.more.items()})


def event(function: Callable[Concatenate[World, P], object]) -> Callable[P, Event]:
    """Makes a function on a world into an event of plays."""

    @wraps(function)
    def make(*args: P.args, **more: P.kwargs) -> Event:
        return Event(function, args, more)

    return make


# -- outcomes -----------------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What comes of events: a frame for an endpoint, or an effect, which is for the server."""

    kind: str
    party: Endpoint | None
    fields: dict[str, Any]

    def matches(self, actual: Outcome) -> bool:
        if self.kind != actual.kind:
            return False
        for name, expected in self.fields.items():
            found = actual.fields.get(name, _UNSET)
            if isinstance(expected, Placeholder) and expected.value is _UNSET:
                expected.value = found
            if resolve(expected) != found:
                return False
        return True


def Asked(handler: Endpoint, data: Any = ANY, **more: Any) -> Outcome:
    """A handler gets a request; of ``id``, ``type``, ``tag`` (the sender's own id), ``hops`` and ``header`` as well."""
    return Outcome("Asked", handler, {"data": data} | more)


def Received(session: Endpoint, type: str, data: Any = None, *, id: Any = None, reply_to: Any = None) -> Outcome:
    """A session is written a message; ``id`` is its ``deliveryId``."""
    return Outcome("Received", session, {"type": type, "data": data, "id": id, "reply_to": reply_to})


def Part(session: Endpoint, of: str, data: Any = None, *, type: Any = ANY) -> Outcome:
    """A session is written a part of the answer to its message with the id ``of``."""
    return Outcome("Part", session, {"of": of, "data": data, "type": type})


def Granted(handler: Endpoint, id: Any, parts: int) -> Outcome:
    """A handler is told that it may send more parts."""
    return Outcome("Granted", handler, {"id": id, "parts": parts})


def Cancelled(handler: Endpoint, id: Any) -> Outcome:
    """A handler is told that a request is cancelled."""
    return Outcome("Cancelled", handler, {"id": id})


def Report(origin: Endpoint, status: str, *results: str, data: Any = None, route: Any = None, **more: Any) -> Outcome:
    """A sender has its report: ``good`` or the error's code, then the recipients in words; also ``id``, ``error``."""
    fields = {"status": status, "results": list(results), "data": data, "route": route}
    return Outcome("Report", origin, fields | more)


def Effect(kind: type[effects.Effect], it: Any = ANY, /, **more: Any) -> Outcome:
    """The server has something to do; ``more`` are fields of the effect, or of its request or delivery."""
    return Outcome(kind.__name__, None, {"it": it} | more)


def of_frame(endpoint: Endpoint, frame: dict[str, Any]) -> Outcome:
    header, payload = frame["header"], frame.get("payload", {})
    fields = {"header": header, "id": payload.get("id"), "type": payload.get("type"), "data": payload.get("data")}
    match header["messageType"]:
        case "request":
            fields |= {"id": header["id"], "tag": payload.get("id"), "hops": header.get("hops", 0)}
            return Outcome("Asked", endpoint, fields)
        case "receivedMessage" if "partOf" in header:
            assert header == {"messageType": "receivedMessage", "partOf": header["partOf"], "more": True}
            assert payload.keys() == {"type", "data"}
            return Outcome("Part", endpoint, fields | {"of": header["partOf"]})
        case "more":
            assert header.keys() == {"messageType", "id", "parts"}
            return Outcome("Granted", endpoint, header)
        case "cancel":
            assert header.keys() == {"messageType", "id"}
            return Outcome("Cancelled", endpoint, header)
        case "receivedMessage":
            assert header == {"messageType": "receivedMessage"}
            assert payload.keys() <= {"type", "data", "deliveryId", "replyTo"}
            fields |= {"id": payload.get("deliveryId"), "reply_to": payload.get("replyTo")}
            return Outcome("Received", endpoint, fields)
        case _:
            assert header == {"messageType": "statusReport", "status": "bad" if "error" in payload else "good"}
            assert payload.keys() <= {"id", "results", "error", "data", "route"}
            results = [" ".join((one["to"], one["status"], *_code(one))) for one in payload.get("results", ())]
            fields |= {"status": "".join(_code(payload)) or "good", "results": results, "route": payload.get("route")}
            return Outcome("Report", endpoint, fields | {"error": payload.get("error")})


def _code(told: dict[str, Any]) -> list[str]:
    return [told["error"]["code"]] if "error" in told else []


def of_effect(effect: effects.Effect) -> Outcome:
    fields: dict[str, Any] = {}
    for part in (getattr(effect, "request", None), getattr(effect, "delivery", None), effect):
        # Not by the fields of a Struct, which are attributes of another class where the core is compiled.
        fields |= {name: getattr(part, name) for name in dir(part) if part is not None and not name.startswith("_")}
    if "data" in fields:
        fields["data"] = json.loads(bytes(fields["data"]))
    return Outcome(type(effect).__name__, None, fields | {"it": effect})


# -- the play -----------------------------------------------------------------------------------------------------


class Playbook:
    """Events and their outcomes, in order; ``assert`` plays what was not played yet."""

    unasserted: ClassVar[dict[Playbook, None]] = {}
    """Plays that nobody asserted since they were written."""

    def __init__(self, world: World, store: Store | None = None) -> None:
        self.world = world
        self.store = store
        """Does at once what it is for; then the play does not tell of that."""
        self._script: list[tuple[Event, list[Outcome]]] = []
        self._played: list[str] = []

    def __rshift__(self, event: Event) -> Playbook:
        self.unasserted[self] = None
        self._script.append((event, []))
        return self

    def __lshift__(self, outcome: Outcome) -> Playbook:
        assert self._script, "an outcome stands behind its event, before the play is asserted"
        self._script[-1][1].append(outcome)
        return self

    def __bool__(self) -> bool:
        self.unasserted.pop(self, None)
        script, self._script = self._script, []
        for event, expected in script:
            self._played.append(f"  >> {self._call(event.function.__name__, event.args, event.more)}")
            try:
                event.happen(self.world)
                actual = list(self._outcomes())
            except Exception as error:
                error.add_note("\n".join(("the play so far:", *self._played)))
                raise
            lines = list(self._compare(expected, actual))
            self._played += lines
            if any(line[0] != " " for line in lines):
                raise AssertionError("\n".join(("the play goes otherwise (- expected, + came):", *self._played)))
        return True

    def _outcomes(self) -> Iterator[Outcome]:
        """Does what a server does at the end of a batch."""
        world = self.world
        exchange = world.exchange
        while exchange.settle():
            todo, exchange.batch.effects = exchange.batch.effects, []
            yield from (of_effect(effect) for effect in todo if self.store is None or not self.store.does(effect))
            for endpoint in list(exchange.batch.dirty):
                yield from (of_frame(endpoint, frame) for frame in world.take(endpoint))
                world.written_to(endpoint)
            exchange.written()

    # -- what is told where it goes otherwise --

    def _compare(self, expected: list[Outcome], actual: list[Outcome]) -> Iterator[str]:
        """Compares outcomes for each endpoint, and tells how they differ."""
        for party in dict.fromkeys(one.party for one in (*expected, *actual)):
            of_party = ([one for one in outcomes if one.party is party] for outcomes in (expected, actual))
            for one, other in zip_longest(*of_party):
                if one is not None and other is not None and one.matches(other):
                    yield f"  << {self._show(one)}"
                    continue
                if one is not None:
                    yield f"- << {self._show(one)}"
                if other is not None:
                    yield f"+ << {self._show(other, one)}"

    def _show(self, outcome: Outcome, like: Outcome | None = None) -> str:
        """Writes an outcome as in a play, with the fields that another one has; only what is simple and not empty."""
        names = like.fields if like is not None and like.kind == outcome.kind else outcome.fields
        fields = {name: _known(outcome.fields.get(name)) for name in names if name not in ("it", "header")}
        shown = {name: value for name, value in fields.items() if isinstance(value, _SIMPLE) and value not in ("", [])}
        return self._call(outcome.kind, (outcome.party,) if outcome.party is not None else (), shown)

    def _call(self, name: str, args: tuple[Any, ...], more: dict[str, Any]) -> str:
        shown = [self._value(one) for one in args] + [f"{key}={self._value(value)}" for key, value in more.items()]
        return f"{name}({', '.join(shown)})"

    def _value(self, value: Any) -> str:
        value = _known(value)
        if isinstance(value, Endpoint):
            return self.world.name_of(value)
        if isinstance(value, Event):
            return self._call(value.function.__name__, value.args, value.more)
        text = repr(value) if isinstance(value, _SIMPLE) else getattr(value, "__name__", type(value).__name__)
        return text if len(text) <= 80 else f"{text[:77]}..."
