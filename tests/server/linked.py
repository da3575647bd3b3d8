"""Other servers that grant links, played by hand."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.server.peers import BAD, GOOD, Listening, Stage, Wire

from bester.core.effects import Forward
from bester.core.endpoint import Endpoint
from bester.core.model import Envelope
from bester.errors import BesterError
from bester.protocol.addresses import parse_address
from bester.protocol.frames import encode_text

QUICK = {"retryMin": 0.01, "retryMax": 0.05}
"""Pauses for tests that do not want to wait."""


def send_on(*addresses: str, **more: Any) -> Any:
    return {"type": "sendServers", "data": addresses, **more}


def hello(name: str = "k.example", **payload: Any) -> Any:
    """Returns the first message of a server that asks for a link."""
    header = {"scope": "server", "server": name, "features": ["link"]}
    return {"header": header, "payload": {"type": "dummy", "id": "h", **payload}}


def linked(type: str, id: str, data: Any = None, **header: Any) -> Any:
    """Returns a message on a link."""
    return {"header": {"once": True, **header}, "payload": {"type": type, "id": id, "data": data}}


async def grant(other: Listening, **limits: int) -> Wire:
    """Takes the next connection, and grants the link that it asks for."""
    there = await other.accept()
    asked = await there.get()
    assert asked["header"]["features"] == ["link", "route"]
    payload = {"id": asked["payload"]["id"], "server": "other.example", "features": ["link"], "limits": limits}
    there.send({"header": GOOD, "payload": payload})
    return there


def good(there: Wire, *messages: Any) -> None:
    """Reports messages good."""
    there.send(*({"header": GOOD, "payload": {"id": one["payload"]["id"]}} for one in messages))


def bad(there: Wire, message: Any, code: str, temporary: bool) -> None:
    """Reports a message bad."""
    error = {"code": code, "message": "no", "temporary": temporary}
    there.send({"header": BAD, "payload": {"id": message["payload"]["id"], "error": error}})


def fatal(there: Wire, code: str) -> None:
    """Says that the link ends, and why."""
    error = {"code": code, "message": "no"}
    there.send({"header": {"messageType": "fatal", "status": "bad"}, "payload": {"error": error}})


def forwarded(id: str, data: Any = None, to: str = "", *, transient: bool = False) -> Forward:
    """Returns what the exchange hands over for the server at ``unix:other``; ``to`` tells it from others."""
    envelope = Envelope(Endpoint(b""), encode_text(id))
    raw = msgspec.Raw(msgspec.json.encode(data))
    return Forward(envelope, 0, to, parse_address("unix:other"), "chat", raw, 1, transient, id)


def settled_on(play: Stage, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str | None]]:
    """Returns a list that the outcomes of such messages come to: ``to``, status and code."""
    found: list[tuple[str, str, str | None]] = []

    def settle(forward: Forward, status: str, error: BesterError | None = None, route: bytes = b"") -> None:
        found.append((forward.to, status, error.code if error is not None else None))

    monkeypatch.setattr(play.server.federation, "settle", settle)
    return found


class Sender:
    """A client whose messages a handler sends on to other servers, with the client's id as data."""

    def __init__(self, play: Stage, wire: Wire, handler: Wire) -> None:
        self.play = play
        self.wire = wire
        self.handler = handler

    @classmethod
    async def on(cls, play: Stage) -> Sender:
        return cls(play, await play.login(), await play.attach("chat", concurrency=4096))

    async def send(self, *ids: object, to: str = "unix:other", **more: Any) -> None:
        """Sends messages; their reports are still to come."""
        for id in ids:
            self.wire.ask("chat", str(id))
            self.handler.answer(await self.handler.get(), send_on(to, **more), data=id)

    async def outcomes(self, count: int) -> list[tuple[str, str]]:
        """Returns the next reports: ids, and what became of the message."""
        found = []
        for _ in range(count):
            payload = await self.wire.report()
            [one] = payload["results"]
            found.append((payload["id"], one["status"]))
        return found

    async def send_and_see(self, *ids: object, **more: Any) -> list[str]:
        """Sends messages and returns what became of them."""
        await self.send(*ids, **more)
        return [status for _, status in await self.outcomes(len(ids))]
