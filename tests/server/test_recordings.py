"""The operator's command ``record`` (docs/protocol.md, section 5.3)."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from tests.server.peers import Stage, Wire, classic, refused, result, stage
from tests.waiting import until

from bester.server.admin import recordings

DONE = {"type": "done"}


async def recording(play: Stage, type: str = "order", **args: Any) -> Wire:
    """Returns an operator's connection that records, with the command's id r."""
    wire = await play.connect("control")
    wire.command("record", "r", type=type, **args)
    await until(lambda: type in play.runtime.exchange.dispatcher.taps)
    return wire


def cancel(wire: Wire, id: str = "r") -> None:
    wire.send({"header": {"messageType": "cancel"}, "payload": {"id": id}})


async def asked(client: Wire, handler: Wire, data: Any = None) -> None:
    """A client's message is handled."""
    client.ask("order", "1", data)
    handler.answer(await handler.get(), DONE)
    await client.good("1")


async def part(wire: Wire) -> Any:
    message = await wire.get()
    assert message["header"] == {"messageType": "receivedMessage", "partOf": "r", "more": True}
    assert message["payload"]["type"] == "builtin"
    return message["payload"]["data"]


async def test_it_ends_with_its_time(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="bester.recording"):
        async with stage() as play:
            wire = await recording(play, seconds=0.3, sample=0.999999)
            (row,) = (await result(await play.connect("control"), "status"))["recordings"]
            assert row | {"seconds": 0, "left": 0} == {
                "type": "order",
                "by": row["by"],
                "seconds": 0,
                "left": 0,
                "sample": 0.999999,
                "recorded": 0,
                "lost": 0,
            }
            report = await wire.good("r")
            assert report["data"]["recorded"] == report["data"]["lost"] == 0
            assert report["data"]["seconds"] >= 0.3
            assert (await result(wire, "status"))["recordings"] == []
    begun, ended = [record.getMessage() for record in caplog.records]
    assert begun.startswith("unix:uid ")
    assert "records what handlers of 'order' are asked and answer: for 0.3 s" in begun
    assert "no longer records 'order': 0 recorded, 0 lost" in ended


async def test_it_ends_when_the_operator_cancels_it() -> None:
    async with stage() as play:
        wire = await recording(play)
        handler, client = await play.attach("order"), await play.login()
        await asked(client, handler, {"dish": "pizza"})
        assert (await part(wire))["request"]["data"] == {"dish": "pizza"}
        cancel(wire, "another")
        await asked(client, handler)
        await part(wire)
        cancel(wire)
        assert (await wire.good("r"))["data"]["recorded"] == 2
        await asked(client, handler)
        assert await result(wire, "listServers") == []


async def test_it_may_be_cancelled_before_it_begins() -> None:
    async with stage() as play:
        wire = await play.connect("control")
        wire.command("record", "r", type="order", seconds=3600)
        cancel(wire)
        assert (await wire.good("r"))["data"]["recorded"] == 0


async def test_it_ends_with_the_operators_end_of_the_connection() -> None:
    async with stage() as play:
        wire = await recording(play)
        wire.end_input()
        assert (await wire.good("r"))["data"]["lost"] == 0
        await wire.closed()
        wire = await recording(play)
        wire.reset()
        await until(lambda: not play.server.admin.recordings.rows())
        assert not play.runtime.exchange.dispatcher.taps


async def test_it_does_not_keep_a_server_from_stopping() -> None:
    async with stage() as play:
        await recording(play)
        await play.server.stop()
    assert not play.runtime.exchange.dispatcher.taps


async def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage() as play:
        wire = await play.connect("control")
        for args in (
            {"seconds": 0},
            {"seconds": 1e9},
            {"sample": 0},
            {"sample": 1.1},
            {"type": "builtin"},
            {"type": 5},
        ):
            assert await refused(wire, "record", **{"type": "order", **args}) == "badArguments", args
        assert await refused(wire, "record", type="\0") == "invalidName"
        assert await refused(await play.login(), "record", type="order") == "notAllowed"
        assert await refused(await play.admin(), "record", type="order") == "notAllowed"
        monkeypatch.setattr(recordings, "MAX_RECORDINGS", 2)
        await recording(play)
        assert await refused(wire, "record", type="order") == "overloaded"
        await recording(play, "other")
        assert await refused(wire, "record", type="third") == "overloaded"
        wire.send({"header": {"messageType": "cancel"}, "payload": {"id": 5}})
        assert await wire.fatal() == "malformed"


async def test_what_the_operator_does_not_read_is_lost() -> None:
    async with stage() as play:
        wire = await recording(play)
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        handler, client = await play.attach("order"), await play.login()
        rows = play.server.admin.recordings.rows
        for _ in range(100):
            await asked(client, handler, "x" * 100_000)
            if rows()[0]["lost"]:
                break
        (row,) = rows()
        assert row["lost"] == 1
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(row["recorded"]):
            assert len((await part(wire))["request"]["data"]) == 100_000
        await asked(client, handler)
        assert (await part(wire))["request"]["data"] is None
        cancel(wire)
        assert (await wire.good("r"))["data"]["lost"] == 1


async def test_a_classic_handler() -> None:
    async with stage(classic("order")) as play:
        listening = await play.listen("order")
        wire = await recording(play, twice=True)
        client = await play.login()
        client.ask("order", "1", 5)
        there = await listening.accept()
        assert await there.get() == 5
        there.send({"header": {"status": "1", "error": {"message": "sold out"}}})
        assert await client.bad("1") == "handlerError"
        record = await part(wire)
        assert record["outcome"] == {"refused": {"message": "sold out"}}
        assert record["request"]["from"]["user"] == "t"
        cancel(wire)
        await wire.good("r")
