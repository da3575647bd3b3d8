"""Where a message went: its route across servers, its plan in a dry run, its receipt (docs/protocol.md, section 7)."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec.json import encode
from tests.certificates import self_signed
from tests.server.linked import hello
from tests.server.peers import Wire, attaching, result, stage, to
from tests.server.test_identity import named, pin
from tests.waiting import until

from bester.protocol.link import decode_message
from bester.testing import PASSWORD

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
REPLY = {"type": "reply"}


def without_times(steps: list[Any]) -> list[Any]:
    """Returns a route whose times, which must be numbers, are left out."""
    shown = []
    for step in steps:
        assert step["ms"] >= 0
        one: list[Any] = [step["server"], step["step"], step["name"], step["status"]]
        shown.append([*one, without_times(step["route"])] if "route" in step else one)
    return shown


async def dry_handler(play: Any, *types: str, **data: Any) -> Wire:
    wire: Wire = await play.connect("handlers")
    message = attaching(*types, **data)
    message["header"]["features"] = ["dryRun"]
    wire.send(message)
    await wire.good("a")
    return wire


async def founding(closing: AsyncExitStack, folder: Path, tracing: Any = None) -> tuple[list[Any], Wire, Wire]:
    """The founding documents' three servers, each pinned by the others; returns them with U1 and U2."""
    names = ["s1.example", "s2.example", "s3.example"]
    papers = [self_signed(folder, name) for name in names]
    plays: list[Any] = []
    for number in (2, 1, 0):
        servers = {
            name: pin(one, address=f"127.0.0.1:{plays[2 - at].port_of('tls') if at > number else 1}")
            for at, (name, one) in enumerate(zip(names, papers, strict=True))
            if at != number
        }
        play = await closing.enter_async_context(
            named(names[number], papers[number], tracing, policy="verified", servers=servers)
        )
        plays.append(play)
    s3, s2, s1 = plays
    u1 = await s1.login("u1", features=["route"])
    return [s1, s2, s3], u1, await s3.login("u2")


ACT = [
    {"type": "sendHandler", "data": "M2"},
    {"type": "sendServers", "data": ["s2.example"], "payload": {"type": "M1"}},
    {"type": "sendServers", "data": ["s3.example"], "payload": {"type": "M1"}},
    {"type": "sendClients", "data": ["u2"]},
]


async def play_through(plays: list[Any], handlers: list[Wire], u1: Wire, **header: Any) -> Any:
    """U1 -> S1: M1 -> M2 -> S2: M1 -> S3: M1 -> U2; returns U1's report and the requests' headers."""
    u1.send({"header": header, "payload": {"type": "M1", "id": "r", "data": "x"}})
    requests = []
    for handler, command in zip([handlers[0], *handlers], ACT, strict=True):
        requests.append((await handler.get())["header"])
        handler.answer({"header": requests[-1]}, command, data="x")
    return await u1.report("r"), requests


def tree(clients: str, servers: str) -> list[Any]:
    third = [["s3.example", "handler", "M1", "good"], ["s3.example", "clients", "u2", clients]]
    second = [["s2.example", "handler", "M1", "good"], ["s2.example", "server", "s3.example", servers, third]]
    return [
        ["s1.example", "handler", "M1", "good"],
        ["s1.example", "handler", "M2", "good"],
        ["s1.example", "server", "s2.example", servers, second],
    ]


async def test_the_founding_topology_as_a_route_and_as_a_plan(tmp_path: Path) -> None:
    async with AsyncExitStack() as closing:
        plays, u1, u2 = await founding(closing, tmp_path)
        handlers = [
            await dry_handler(plays[0], "M1", "M2"),
            await dry_handler(plays[1], "M1"),
            await dry_handler(plays[2], "M1"),
        ]
        report, requests = await play_through(plays, handlers, u1, dryRun=True)
        assert "error" not in report
        assert "results" not in report
        assert without_times(report["route"]) == tree("planned", "planned")
        assert all(request["dryRun"] is True for request in requests)
        assert [play.runtime.exchange.batch.counters.deliveries for play in plays] == [0, 0, 0]
        report, requests = await play_through(plays, handlers, u1, route=True, traceparent=TRACE)
        assert without_times(report["route"]) == tree("delivered", "sent")
        assert [request["traceparent"] for request in requests] == [TRACE] * 4
        assert not any("dryRun" in request for request in requests)
        assert (await u2.get())["payload"] == {"type": "M1", "data": "x"}  # the first thing that U2 gets
        for play, sender in zip(plays, ["u1", "s1.example", "s2.example"], strict=True):
            found = await result(await play.connect("control"), "trace", id=TRACE)
            [receipt] = found["receipts"]
            assert (receipt["from"], receipt["type"], receipt["outcome"]) == (sender, "M1", "good")
            assert receipt["route"][0]["server"] == play.running.daemon.config.server.name


async def test_handlers_that_take_no_part_in_a_dry_run_are_not_asked() -> None:
    async with stage() as play:
        await play.attach("plain")
        some = await dry_handler(play, "pay", "plan", dryRun=["plan"])
        wire = await play.login(features=["route"])
        for type in ("plain", "pay"):
            wire.send({"header": {"dryRun": True}, "payload": {"type": type, "id": "d"}})
            report = await wire.good("d")
            assert [step[1:] for step in without_times(report["route"])] == [["handler", type, "notAsked"]]
        wire.send({"header": {"dryRun": True}, "payload": {"type": "plan", "id": "d"}})
        elsewhere = {"type": "sendServers", "data": ["unix:x"]}
        some.answer(await some.get(), to("t", "away"), to("away", transient=True), to("\u202e"), elsewhere)
        report = await wire.report("d")
        assert report["error"]["code"] == "unknownAccount"
        assert [step[1:] for step in without_times(report["route"])] == [
            ["handler", "plan", "good"],
            ["clients", "t", "planned"],
            ["mailbox", "away", "planned"],
            ["clients", "away", "skipped"],
            ["clients", "\u202e", "unknownAccount"],
            ["outbox", "unix:x", "planned"],
        ]
        assert play.runtime.exchange.reports.under_way == 0


async def test_a_bad_report_has_its_route() -> None:
    async with stage() as play:
        handler = await play.attach("chat")
        wire = await play.login(features=["route"])
        wire.send({"header": {"route": True}, "payload": {"type": "chat", "id": "1"}})
        handler.send({"header": {"id": (await handler.get())["header"]["id"], "status": "1"}})
        report = await wire.report("1")
        assert report["error"]["code"] == "handlerError"
        assert [step[1:] for step in without_times(report["route"])] == [["handler", "chat", "handlerError"]]


async def test_receipts_say_what_failed_and_why() -> None:
    async with stage() as play:
        handler, wire = await play.attach("chat"), await play.login()
        control = await play.connect("control")
        for number in range(3):
            wire.ask("poker", f"p{number}")
            await wire.bad()
        wire.ask("chat", "secret id", "a secret payload")
        request = await handler.get()
        handler.answer(request, to("t", "nobody"), REPLY)
        assert (await wire.get())["header"]["messageType"] == "receivedMessage"
        assert (await wire.get())["header"]["messageType"] == "receivedMessage"
        await wire.bad("secret id")
        found = await result(control, "trace", account="t")
        assert [row["outcome"] for row in found["receipts"]] == ["unknownAccount", *["noHandler"] * 3]
        newest = found["receipts"][0]
        assert newest["recipients"]["counts"] == {"delivered": 1, "failed": 1}
        assert request["header"]["traceparent"].split("-")[1] == newest["trace"]
        assert "payload" not in str(found)
        assert [row["id"] for row in (await result(control, "trace", id="p1"))["receipts"]] == ["p1"]
        causes = (await result(control, "why"))["causes"]
        assert [(one["code"], one["type"], one["count"]) for one in causes] == [
            ("noHandler", "poker", 3),
            ("unknownAccount", "chat", 1),
        ]
        assert causes[0]["last"]["id"] == "p2"
        assert "start it" in causes[0]["advice"]


async def test_beyond_their_share_receipts_are_only_counted() -> None:
    async with stage() as play:
        wire = await play.login()
        play.runtime.exchange.reports.receipts.bad_left = 2
        play.server.receipts._due = play.runtime.clock() + 3600
        for number in range(5):
            wire.ask("poker", str(number))
            await wire.bad()
        assert len(play.runtime.exchange.reports.receipts.entries) == 2
        found = await result(await play.connect("control"), "trace")
        assert [row["id"] for row in found["receipts"]] == ["1", "0"]
        assert found["unrecorded"] == 3
        play.later(7200)
        await until(lambda: play.runtime.exchange.reports.receipts.bad_left > 2)


async def test_a_large_report_is_counted_and_not_kept() -> None:
    names = [f"nobody{number:05}" for number in range(1000)]
    async with stage() as play:
        handler, wire = await play.attach("chat"), await play.login()
        wire.ask("chat", "1")
        handler.answer(await handler.get(), to(*names))
        await wire.bad("1")
        [receipt] = (await result(await play.connect("control"), "trace"))["receipts"]
        assert receipt["recipients"]["counts"] == {"failed": 1000}
        assert len(receipt["recipients"]["first"]) == 20


VALID = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HEADERS = [
    {"dryRun": True} | once | route | trace
    for once in ({}, {"once": True})
    for route in ({}, {"route": True}, {"route": False})
    for trace in ({}, {"traceparent": "x"}, {"traceparent": VALID}, {"traceparent": VALID.upper()})
]
"""All that a header can say beside that it asks for a dry run."""


async def test_nothing_is_done_where_a_header_asks_for_a_dry_run(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage() as play:
        # No part in dry runs: a request is one that is done.
        await play.attach("chat")
        monkeypatch.setattr(play.server.federation.trust, "name_of", lambda remote, name: "k.example")
        wire = await play.login(features=["route", "ack"])
        server = await play.connect()
        server.send(hello())
        await server.good("h")
        for header in HEADERS:
            for more in ({}, {"x": "ack"}):
                wire.send({"header": header | more, "payload": {"type": "chat", "id": "c", "data": 1}})
                assert [step["status"] for step in (await wire.good("c"))["route"]] == ["notAsked"]
            wire.send(
                {"header": header, "payload": {"type": "builtin", "id": "c", "data": {"command": {"type": "who"}}}}
            )
            assert await wire.bad("c") == "notAllowed"
            server.send({"header": header, "payload": {"type": "chat", "id": "s", "data": 1}})
            assert [step["status"] for step in (await server.good("s"))["route"]] == ["notAsked"]
            first = await play.connect()
            asking = hello(type="chat", id="f")
            asking["header"] |= header
            first.send(asking)
            assert (await first.good("f"))["features"] == ["link"]
            assert [step["status"] for step in (await first.good("f"))["route"]] == ["notAsked"]
            classic = await play.connect()
            classic.send({"header": {"scope": "server", **header}, "payload": {"type": "chat", "id": "o", "data": 1}})
            assert await classic.bad("o") == "notAllowed"
        control = await play.connect("control")
        command = {"type": "addAccount", "args": {"username": "new", "password": PASSWORD}}
        control.send(
            {"header": {"dryRun": True}, "payload": {"type": "builtin", "id": "b", "data": {"command": command}}}
        )
        assert await control.bad("b") == "notAllowed"
        opening = await play.connect()
        command = {"type": "register", "args": {"username": "new", "password": PASSWORD}}
        payload = {"type": "builtin", "id": "b", "data": {"command": command}}
        opening.send({"header": {"scope": "client", "dryRun": True}, "payload": payload})
        assert await opening.bad("auth_special") == "notAllowed"


def test_a_link_message_keeps_its_flags_whatever_its_trace_is() -> None:
    for header in HEADERS:
        found = decode_message(encode({"header": header, "payload": {"type": "t"}})).header
        assert found.dry_run
        assert (found.once, found.route) == ("once" in header, header.get("route", False))
        assert found.traceparent in ("", VALID)
