"""Links between servers (docs/protocol.md, section 8.6)."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from typing import Any

import pytest
from tests.server.linked import (
    QUICK,
    Sender,
    bad,
    fatal,
    forwarded,
    good,
    grant,
    hello,
    linked,
    send_on,
    settled_on,
)
from tests.server.peers import Listening, Stage, Wire, result_of, stage, to
from tests.waiting import until

from bester.net.peers import Remote
from bester.server.federation.link import WINDOW

FAR = Remote("203.0.113.5", False)
DONE = {"type": "done"}


async def open_link(play: Stage, where: str = "unix", name: str = "k.example") -> Wire:
    """Returns a connection on which a server has been granted a link."""
    wire = await play.connect(where)
    wire.send(hello(name))
    await wire.good("h")
    return wire


async def one_sent(play: Stage) -> tuple[Listening, Sender, Wire, Any]:
    """Returns the other server, who sent it a message, the link on which that came, and the message."""
    other = await play.listen("other")
    sender = await Sender.on(play)
    await sender.send(1)
    there = await grant(other)
    return other, sender, there, await there.get()


# -- links that are opened here ----------------------------------------------------------------------------------------


async def test_many_messages_go_over_one_link_in_order() -> None:
    async with stage({"limits": {"maxInFlight": 4096}}) as play:
        other = await play.listen("other")
        sender = await Sender.on(play)
        count = WINDOW + 40
        await sender.send(*range(count))
        there = await grant(other)
        first = [await there.get() for _ in range(WINDOW)]
        assert [one["payload"]["data"] for one in first] == list(range(WINDOW))
        good(there, *reversed(first))
        rest = [await there.get() for _ in range(40)]
        assert [one["payload"]["data"] for one in rest] == list(range(WINDOW, count))
        good(there, *rest)
        outcomes = await sender.outcomes(count)
        assert [id for id, _ in outcomes[:WINDOW]] == [str(id) for id in reversed(range(WINDOW))]
        assert {status for _, status in outcomes} == {"sent"}
        assert len({one["payload"]["id"] for one in first + rest}) == count
        assert len(other.wires) == 1


async def test_what_a_message_on_a_link_says() -> None:
    async with stage() as play:
        other = await play.listen("other")
        sender = await Sender.on(play)
        await sender.send("x")
        there = await other.accept()
        asked = hello("test.example", id="link")
        asked["header"]["features"].append("route")
        assert await there.get() == asked
        there.send(
            {
                "header": {"messageType": "statusReport", "status": "good"},
                "payload": {"id": "link", "features": ["link"]},
            }
        )
        message = await there.get()
        trace = message["header"].pop("traceparent")
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", trace)
        assert message["header"] == {"once": True, "hops": 1}
        assert (message["payload"]["type"], message["payload"]["data"]) == ("chat", "x")
        assert message["payload"]["id"] not in ("", "x")
        good(there, message)
        assert await sender.outcomes(1) == [("x", "sent")]


async def test_the_other_server_says_how_many_it_takes() -> None:
    async with stage() as play:
        other = await play.listen("other")
        sender = await Sender.on(play)
        await sender.send(1, 2, 3)
        there = await grant(other, maxInFlight=2)
        first, second = await there.get(), await there.get()
        good(there, second)
        assert await sender.outcomes(1) == [("2", "sent")]
        third = await there.get()
        good(there, third, first)
        assert await sender.outcomes(2) == [("3", "sent"), ("1", "sent")]


async def test_two_servers_need_one_link() -> None:
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(stage({"server": {"name": "a.example"}}))
        b = await stack.enter_async_context(stage({"server": {"name": "b.example"}}))
        sender, receiver, g = await Sender.on(a), await b.attach("chat"), await b.login("g")
        before = b.runtime.counts.connections
        await sender.send(*range(50), to=f"127.0.0.1:{b.port}")
        for id in range(50):
            request = await receiver.get()
            assert request["payload"]["data"] == id
            assert request["header"]["hops"] == 1
            receiver.answer(request, to("g"), data=id)
        assert [(await g.get())["payload"]["data"] for _ in range(50)] == list(range(50))
        assert {status for _, status in await sender.outcomes(50)} == {"sent"}
        assert b.runtime.counts.connections == before + 1
        assert len(b.server.federation.incoming) == 1
    assert not a.runtime.exchange.reports.under_way


async def test_a_link_with_nothing_to_carry_is_closed_and_opened_again() -> None:
    async with stage({"federation": {"idleTimeout": 0.05, "retryMin": 0.01}}) as play:
        other = await play.listen("other")
        sender = await Sender.on(play)
        for id in range(2):
            await sender.send(id)
            there = await grant(other)
            good(there, await there.get())
            assert await sender.outcomes(1) == [(str(id), "sent")]
            await there.closed()


async def test_a_permanent_refusal_fails_that_message_alone() -> None:
    async with stage() as play:
        other = await play.listen("other")
        sender = await Sender.on(play)
        await sender.send(1, 2)
        there = await grant(other)
        first, second = await there.get(), await there.get()
        bad(there, first, "noHandler", False)
        good(there, second)
        payload = await sender.wire.report("1")
        assert result_of(payload) == [("unix:other", "failed", "serverRefused")]
        assert payload["error"]["message"] == "the other server reported noHandler: no"
        assert await sender.outcomes(1) == [("2", "sent")]
        assert await play.server.messages.queue_sizes() == []


@pytest.mark.parametrize("code", ["overloaded", "handlerUnavailable"])
async def test_a_temporary_refusal_is_tried_again_with_the_same_id(code: str) -> None:
    async with stage({"federation": QUICK}) as play:
        _, sender, there, message = await one_sent(play)
        bad(there, message, code, True)
        assert await sender.outcomes(1) == [("1", "queued")]
        again = await there.get()
        assert again == message
        good(there, again)
        await sender.send(2, transient=True)
        await until(lambda: not play.server.federation.destinations["unix:other"].backlog.stored)


async def test_transient_messages_are_tried_once() -> None:
    async with stage({"federation": QUICK}) as play:
        other = await play.listen("other")
        sender = await Sender.on(play)
        await sender.send(1, 2, transient=True)
        there = await grant(other)
        bad(there, await there.get(), "overloaded", True)
        assert await sender.outcomes(1) == [("1", "failed")]
        await there.get()
        there.reset()
        assert await sender.outcomes(1) == [("2", "skipped")]
        assert await play.server.messages.queue_sizes() == []


async def test_a_lost_link_leaves_what_it_carried_to_the_outbox() -> None:
    async with stage({"federation": QUICK}) as play:
        other = await play.listen("other")
        sender = await Sender.on(play)
        await sender.send(1, 2, 3)
        there = await grant(other)
        messages = [await there.get() for _ in range(3)]
        good(there, messages[1])
        assert await sender.outcomes(1) == [("2", "sent")]
        there.reset()
        assert await sender.outcomes(2) == [("1", "queued"), ("3", "queued")]
        there = await grant(other)
        again = [await there.get() for _ in range(2)]
        assert again == [messages[0], messages[2]]
        good(there, *again)
        await until(lambda: not play.server.federation.destinations["unix:other"].backlog.stored)


async def test_a_server_that_stops_answering() -> None:
    async with stage({"federation": {**QUICK, "reportTimeout": 0.1}}) as play:
        other, sender, there, message = await one_sent(play)
        assert await sender.outcomes(1) == [("1", "queued")]
        there = await grant(other)
        assert await there.get() == message
        good(there, message)
        await until(lambda: not play.server.federation.destinations["unix:other"].backlog.stored)


@pytest.mark.parametrize("lie", [b"garbage", b"[]", {"header": {"messageType": "statusReport", "status": 5}}])
async def test_a_link_that_says_nonsense_is_given_up(lie: Any) -> None:
    async with stage({"federation": QUICK}) as play:
        other, sender, there, message = await one_sent(play)
        there.send(lie)
        assert await sender.outcomes(1) == [("1", "queued")]
        there = await grant(other)
        assert await there.get() == message


async def test_reports_for_unknown_messages_are_passed_over() -> None:
    async with stage() as play:
        _, sender, there, message = await one_sent(play)
        good(there, {"payload": {"id": "unknown"}})
        there.send({"header": {"status": "0"}, "payload": {"type": "dummy", "data": None, "id": "x"}})
        good(there, message, message)
        assert await sender.outcomes(1) == [("1", "sent")]


@pytest.mark.parametrize("how", ["pong", "report", "close", "fatal", "garbage"])
async def test_a_server_that_grants_no_link_is_classic(how: str) -> None:
    answers: dict[str, Any] = {
        "pong": {"header": {"status": "0"}, "payload": {"type": "dummy", "data": None, "id": "link"}},
        "report": {"header": {"messageType": "statusReport", "status": "good"}, "payload": {"id": "link"}},
        "fatal": {"header": {"messageType": "fatal", "status": "bad"}, "payload": {"error": {"code": "badScope"}}},
        "garbage": b"garbage",
    }
    async with stage() as play:
        other = await play.listen("other")
        sender = await Sender.on(play)
        await sender.send("one", "two")
        there = await other.accept()
        await there.get()
        if how in answers:
            there.send(answers[how])
        else:
            await there.leave()
        for id in ("one", "two"):  # the second one without another question
            there = await other.accept()
            message = await there.get()
            assert message == {
                "header": {"scope": "server", "hops": 1},
                "payload": {"type": "chat", "id": id, "data": id},
            }
            await there.leave()
        assert sorted(await sender.outcomes(2)) == [("one", "sent"), ("two", "sent")]


async def test_a_server_that_takes_nothing_now_is_not_taken_for_classic() -> None:
    async with stage({"federation": QUICK}) as play:
        other = await play.listen("other")
        sender = await Sender.on(play)
        await sender.send(1)
        there = await other.accept()
        bad(there, await there.get(), "overloaded", True)
        assert await sender.outcomes(1) == [("1", "queued")]
        there = await grant(other)
        assert (await there.get())["payload"]["data"] == 1


@pytest.mark.parametrize("how", ["silence", "reset"])
async def test_a_server_that_does_not_answer_is_not_taken_for_classic(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bester.server.federation.dial.ANSWER_S", 0.05)
    async with stage({"federation": QUICK}) as play:
        other = await play.listen()
        sender = await Sender.on(play)
        await sender.send(1, to=f"127.0.0.1:{other.port}")
        there = await other.accept()
        await there.get()
        if how == "reset":
            there.reset()
        assert await sender.outcomes(1) == [("1", "queued")]
        there = await grant(other)
        assert (await there.get())["payload"]["data"] == 1


async def test_a_classic_server_that_dies_with_a_message() -> None:
    async with stage({"federation": QUICK}) as play:
        other = await play.listen()
        sender = await Sender.on(play)
        await sender.send(1, to=f"127.0.0.1:{other.port}")
        there = await other.accept()
        await there.get()
        await there.leave()
        there = await other.accept()
        await there.get()
        there.reset()
        payload = await sender.wire.report("1")
        assert result_of(payload) == [(f"127.0.0.1:{other.port}", "failed", "serverUnreachable")]
        assert len(other.wires) == 2


async def test_what_comes_while_classic_reports_are_awaited_goes_behind_what_was_not_written() -> None:
    async with stage({"federation": {"retryMin": 0.2, "retryMax": 0.2}}) as play:
        other = await play.listen("other")
        sender = await Sender.on(play)
        await sender.send(1)
        asked = await other.accept()
        await asked.get()
        await asked.leave()  # it grants no link
        first = await other.accept()
        await first.get()
        (play.folder / "other").unlink()
        await sender.send(2)
        destination = play.server.federation.destinations["unix:other"]
        await until(lambda: destination.sender.transport is None)
        await sender.send(3)
        await first.leave()
        assert sorted(await sender.outcomes(3)) == [("1", "sent"), ("2", "queued"), ("3", "queued")]
        other = await play.listen("other")
        for id in (2, 3):
            there = await other.accept()
            assert (await there.get())["payload"]["data"] == id
            await there.leave()


async def test_a_message_too_large_for_the_other_server_stays_here() -> None:
    async with stage({"federation": QUICK}) as play:
        other = await play.listen("other")
        sender = await Sender.on(play)
        await sender.send("first")
        there = await grant(other, maxMessage=1024)
        good(there, await there.get())
        assert await sender.outcomes(1) == [("first", "sent")]
        sender.wire.ask("chat", "big")
        sender.handler.answer(await sender.handler.get(), send_on("unix:other"), data="x" * 66_560)
        payload = await sender.wire.report("big")
        assert result_of(payload) == [("unix:other", "failed", "serverRefused")]
        assert re.fullmatch(
            r"the message takes 66\d\d\d bytes, and the other server takes 66560 at most", payload["error"]["message"]
        )
        await sender.send("next")
        good(there, await there.get())
        assert await sender.outcomes(1) == [("next", "sent")]
        assert len(other.wires) == 1


@pytest.mark.parametrize("code", ["malformed", "tooLarge", "badScope"])
async def test_a_message_that_ends_links_is_found_and_holds_up_nobody(code: str) -> None:
    async with stage({"federation": QUICK}) as play:
        other = await play.listen("other")
        sender = await Sender.on(play)
        await sender.send(0, 1, 2)
        there = await grant(other)
        messages = [await there.get() for _ in range(3)]
        fatal(there, code)
        assert await sender.outcomes(3) == [(str(id), "queued") for id in range(3)]
        destination = play.server.federation.destinations["unix:other"]
        there = await grant(other)
        assert await there.get() == messages[0]
        assert destination.in_flight == 1  # one at a time
        good(there, messages[0])
        assert await there.get() == messages[1]
        fatal(there, code)
        there = await grant(other)
        assert await there.get() == messages[2]
        good(there, messages[2])
        [dead] = await play.server.messages.list_queue(dead=True)
        assert dead.message.data == b"1"
        assert dead.last_error == f"serverRefused: the other server ended the link over it: {code}: no"
        await until(lambda: not destination.backlog.active)
        await sender.send(3, 4)
        good(there, *[await there.get() for _ in range(2)])  # side by side again
        assert await sender.outcomes(2) == [("3", "sent"), ("4", "sent")]
        assert await play.server.messages.list_queue(dead=False) == []


async def test_messages_of_one_id_have_one_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage({"federation": QUICK}) as play:
        other = await play.listen("other")
        settled = settled_on(play, monkeypatch)
        federation = play.server.federation
        for to, transient in (("a", False), ("b", True), ("c", False)):
            federation.send(forwarded("m", to=to, transient=transient))
        there = await grant(other)
        first = await there.get()
        federation.send(forwarded("m", to="d"))
        destination = federation.destinations["unix:other"]
        assert destination.in_flight == 1
        there.reset()
        await until(lambda: len(settled) == 4)
        assert sorted(settled) == [
            ("a", "queued", None),
            ("b", "skipped", None),
            ("c", "queued", None),
            ("d", "queued", None),
        ]
        settled.clear()
        there = await grant(other)
        assert await there.get() == first
        await until(lambda: not destination.backlog.active)
        federation.send(forwarded("m", to="e"))  # while what is on disk is under way
        good(there, first)
        await until(lambda: settled)
        assert settled == [("e", "sent", None)]
        assert destination.in_flight == 0
        federation.send(forwarded("n", to="f"))
        federation.send(forwarded("n", to="g"))
        bad(there, await there.get(), "noHandler", False)
        await until(lambda: len(settled) == 3)
        assert settled[1:] == [("f", "failed", "serverRefused"), ("g", "failed", "serverRefused")]
        await until(lambda: destination.in_flight == 0)
        await play.server.federation.outbox.written()
        assert await play.server.messages.queue_sizes() == []


# -- links that others open --------------------------------------------------------------------------------------------


async def test_a_link_from_another_server() -> None:
    async with stage() as play:
        handler, g = await play.attach("chat"), await play.login("g")
        wire = await play.connect("tcp4")
        # All in one write: what follows the first message is not lost.
        wire.send(hello(), linked("chat", "m1", "a", hops=3), linked("chat", "m2", "b"))
        payload = await wire.good("h")
        assert payload == {
            "id": "h",
            "server": "test.example",
            "features": ["link"],
            "limits": {"maxMessage": 1048576, "maxInFlight": 1024},
        }
        first, second = await handler.get(), await handler.get()
        assert (first["header"]["hops"], second["header"]["hops"]) == (3, 0)
        assert first["header"]["from"] == {"user": None, "server": None, "verified": False}
        handler.answer(second, to("g"), data="b")
        handler.answer(first, to("g"), data="a")
        assert [(await g.get())["payload"]["data"] for _ in range(2)] == ["b", "a"]
        await wire.good("m2")
        await wire.good("m1")
        wire.ask("dummy", "p")
        assert (await wire.get())["payload"] == {"type": "dummy", "data": None, "id": "p"}
        wire.end_input()
        await wire.closed()
        await until(lambda: not play.server.federation.incoming)


async def test_bad_messages_on_a_link_are_reported() -> None:
    async with stage() as play:
        wire = await open_link(play)
        for type, code in (("none", "noHandler"), ("builtin", "notAllowed")):
            wire.send(linked(type, type))
            assert await wire.bad(type) == code
        await play.attach("chat")
        wire.send(linked("chat", "m", hops=17))
        assert await wire.bad("m") == "tooManyHops"


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        (b"garbage", "malformed"),
        ({"header": {}}, "malformed"),
        (linked("chat", "m", hops=-1), "malformed"),
        ({"header": {"once": "yes"}, "payload": {"type": "chat"}}, "malformed"),
        (b'"' + b"x" * (1024 + 64 * 1024) + b'"', "tooLarge"),
    ],
)
async def test_lies_end_a_link(lie: Any, code: str) -> None:
    async with stage({"limits": {"maxMessage": 1024}}) as play:
        wire = await open_link(play)
        wire.send(lie)
        assert await wire.fatal() == code
        assert not play.server.federation.incoming


async def test_a_link_carries_a_little_more_than_a_client_may_send() -> None:
    async with stage({"limits": {"maxMessage": 1024}}) as play:
        handler = await play.attach("chat")
        wire = await open_link(play)
        wire.send(linked("chat", "m", "x" * 60_000))
        request = await handler.get()
        assert len(request["payload"]["data"]) == 60_000
        handler.answer(request, DONE)
        await wire.good("m")


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("trace", [TRACE, "x" * 60_000, TRACE.upper(), TRACE + "-more"])
async def test_a_trace_is_carried_on_where_it_is_one(trace: str) -> None:
    async with stage() as play:
        other, handler = await play.listen("other"), await play.attach("chat")
        wire = await open_link(play)
        wire.send(linked("chat", "m", traceparent=trace, hops=2))
        handler.answer(await handler.get(), send_on("unix:other"))
        there = await grant(other)
        message = await there.get()
        assert message["header"]["hops"] == 3
        assert (message["header"]["traceparent"] == TRACE) is (trace == TRACE)
        assert len(message["header"]["traceparent"]) == 55
        good(there, message)
        await wire.good("m")


async def test_unverified_servers_have_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bester.server.connections.connection.remote_of", lambda transport: FAR)
    async with stage({"federation": {"policy": "open", "rate": 0.01, "burst": 3}}) as play:
        wire = await open_link(play, "tcp4")
        wire.send(*(linked("none", str(id)) for id in range(4)))
        assert [await wire.bad() for _ in range(4)] == ["noHandler", "noHandler", "throttled", "throttled"]
        wire.ask("dummy", "p")
        assert (await wire.get())["payload"]["id"] == "p"


async def test_no_link_for_those_who_are_not_let_in() -> None:
    async with stage({"federation": {"policy": "verified"}}) as play:
        wire = await play.connect("tcp4")
        wire.send(hello())
        assert await wire.bad("") == "serverUnverified"
        await wire.closed()


async def test_a_stopping_server_reports_what_its_links_brought() -> None:
    async with stage() as play:
        handler = await play.attach("chat")
        wire = await open_link(play)
        wire.send(linked("chat", "m1"))
        request = await handler.get()
        stopping = asyncio.create_task(play.running.daemon.stop())
        await until(lambda: play.runtime.exchange.admission.draining)
        wire.send(linked("chat", "m2"))
        assert await wire.bad("m2") == "shuttingDown"
        handler.answer(request, DONE)
        await wire.good("m1")
        assert await wire.fatal() == "shuttingDown"
        await stopping
