"""OpenTelemetry spans: what a collector gets, and what happens where there is none (docs/tracing.md)."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.collector import CLIENT, CONSUMER, PRODUCER, SERVER, Collector, Span, collecting
from tests.server.peers import Stage, stage, to
from tests.server.test_routes import founding
from tests.waiting import until

from bester.errors import BadConfiguration
from bester.server.telemetry import tracing as server_tracing

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNTRACED = TRACE[:-2] + "00"
SECRET = "what is in a message"
"""What no span may tell."""


@asynccontextmanager
async def tracing(**more: Any) -> AsyncIterator[tuple[Stage, Collector]]:
    async with collecting() as collector, stage({"tracing": {"otlp": collector.url} | more}) as play:
        yield play, collector


async def sent(play: Stage) -> None:
    """Sends what there is now, and not only in a second."""
    play.server.tracing.flush()
    exporter = play.server.tracing._exporter
    assert exporter is not None
    await until(lambda: not exporter.waiting)


def tree(spans: list[Span], parent: str = "") -> list[Any]:
    """Returns the spans below one, in the order of their begin."""
    below = sorted((span for span in spans if span.parent == parent), key=lambda span: (span.start, span.name))
    return [(span.service, span.name, *tree(spans, span.id)) for span in below]


HANDLERS = """
import asyncio, sys
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from bester import Handler, SendClients, SendHandler, SendServers

provider = TracerProvider(resource=Resource.create({"service.name": "program"}), shutdown_on_exit=False)
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(sys.argv[1])))
trace.set_tracer_provider(provider)
s1, s2, s3 = (Handler(path) for path in sys.argv[2:])

@s1.on("M1")
def first(message):
    return SendHandler("M2", message.data)

@s1.on("M2")
async def second(message):
    with trace.get_tracer("program").start_as_current_span("own work"):
        await asyncio.sleep(0)
    return SendServers(["s2.example"], message.data, type="M1")

@s2.on("M1", thread=True)
def third(message):
    return SendServers(["s3.example"], message.data, type="M1")

@s3.on("M1")
def fourth(message):
    return SendClients(["u2"], message.data)

async def main():
    async with s1, s2, s3:
        print("attached", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
provider.shutdown()
"""


async def test_the_founding_topology_is_one_trace(tmp_path: Path) -> None:
    async with AsyncExitStack() as closing:
        collector = await closing.enter_async_context(collecting())
        plays, u1, u2 = await founding(closing, tmp_path, {"otlp": collector.url})
        paths = [play.running.handlers_path for play in plays]
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", HANDLERS, collector.url, *paths),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert program.stdin is not None
        assert program.stdout is not None
        try:
            assert await program.stdout.readline() == b"attached\n"
            u1.ask("M1", "r", SECRET)
            assert "route" not in await u1.good("r"), "nobody asked for it"
            assert (await u2.get())["payload"]["data"] == SECRET
            program.stdin.close()
            assert await program.wait() == 0
        finally:
            if program.returncode is None:
                program.kill()
                await program.wait()
        for play in plays:
            await sent(play)
        assert len({span.trace for span in collector.spans}) == 1
        third: Any = (
            "s3.example",
            "route M1",
            ("s3.example", "ask M1", ("program", "process M1")),
            ("s3.example", "deliver"),
        )
        second: Any = (
            "s2.example",
            "route M1",
            ("s2.example", "ask M1", ("program", "process M1")),
            ("s2.example", "forward s3.example", third),
        )
        assert tree(collector.spans) == [
            (
                "s1.example",
                "route M1",
                ("s1.example", "ask M1", ("program", "process M1")),
                ("s1.example", "ask M2", ("program", "process M2", ("program", "own work"))),
                ("s1.example", "forward s2.example", second),
            )
        ]
        for span in collector.spans:
            assert not span.error
            outer = next((one for one in collector.spans if one.id == span.parent), None)
            # Another process's clock reads are not those of the batch.
            assert span.start <= span.end <= time.time_ns()
            assert outer is None or span.start >= outer.start - 5_000_000
        assert SECRET.encode() not in collector.raw


async def test_what_spans_tell() -> None:
    async with tracing(headers={"Authorization": "Bearer x"}, service="the kitchen") as (play, collector):
        handler, wire = await play.attach("chat"), await play.login()
        await play.server.accounts.add("away", "secret")
        wire.send({"header": {"traceparent": TRACE}, "payload": {"type": "chat", "id": "r", "data": SECRET}})
        request = await handler.get()
        handler.answer(request, to("t", "away", "nobody"), {"type": "reply"}, data=SECRET)
        await wire.get()
        await wire.get()
        assert await wire.bad("r") == "unknownAccount"
        await sent(play)
        route, ask = collector.named("route chat"), collector.named("ask chat")
        assert (route.trace, route.parent) == (TRACE[3:35], TRACE[36:52])
        assert request["header"]["traceparent"] == f"00-{route.trace}-{ask.id}-01"
        assert (route.service, route.kind, ask.kind) == ("the kitchen", SERVER, CLIENT)
        assert route.error == "unknownAccount: no account of this name"
        assert route.about == {
            "messaging.system": "bester",
            "messaging.message.id": "r",
            "messaging.operation.name": "route",
            "messaging.operation.type": "process",
            "messaging.destination.name": "chat",
            "messaging.client.id": "t",
            "error.type": "unknownAccount",
        }
        recipients = [span for span in collector.spans if span.parent == route.id and span.kind == PRODUCER]
        told = [(one.name, one.about["messaging.destination.name"], one.about["bester.outcome"]) for one in recipients]
        assert told == [
            ("deliver", "t", "delivered"),
            ("store", "away", "stored"),
            ("deliver", "nobody", "unknownAccount"),
            ("deliver", "t", "delivered"),
        ]
        assert [span.error for span in recipients] == ["", "", "unknownAccount", ""]
        assert SECRET.encode() not in collector.raw
        assert collector.headers[0]["Authorization"] == "Bearer x"


async def test_a_handler_that_fails_and_one_that_is_not_there() -> None:
    async with tracing() as (play, collector):
        handler, wire = await play.attach("chat"), await play.login()
        wire.ask("chat", "1")
        handler.send({"header": {"id": (await handler.get())["header"]["id"], "status": "1"}})
        assert await wire.bad("1") == "handlerError"
        wire.ask("other", "2")
        assert await wire.bad("2") == "noHandler"
        wire.send({"header": {"once": True}, "payload": {"type": "chat", "id": "3", "data": None}})
        handler.answer(await handler.get(), {"type": "done"})
        await wire.good("3")
        await sent(play)
        failed = [(span.name, span.about["error.type"]) for span in collector.spans if span.error]
        assert failed == [("route chat", "handlerError"), ("ask chat", "handlerError"), ("route other", "noHandler")]
        assert len(collector.spans) == 5
        assert len({span.trace for span in collector.spans}) == 3


async def test_pushes() -> None:
    async with tracing() as (play, collector):
        handler, wire = await play.attach("chat"), await play.login()
        header = {"messageType": "push", "id": "p", "commands": [to("t"), {"type": "sendHandler", "data": "chat"}]}
        for trace in (TRACE, UNTRACED, 5):
            handler.send({"header": header | {"traceparent": trace}, "payload": {"data": 1}})
            request = await handler.get()
            handler.answer(request, {"type": "done"})
            await wire.get()
            await handler.good("p")
            if trace == UNTRACED:
                assert request["header"]["traceparent"] == UNTRACED
        await sent(play)
        first, second = (span for span in collector.spans if span.name == "route chat")
        assert (first.kind, first.trace, first.parent) == (CONSUMER, TRACE[3:35], TRACE[36:52])
        assert second.trace != first.trace
        assert sorted(span.name for span in collector.spans if span.parent == first.id) == ["ask chat", "deliver"]


async def test_what_is_not_sampled_costs_no_span() -> None:
    async with tracing(sample=0) as (play, collector):
        handler, wire = await play.attach("chat"), await play.login()
        wire.ask("chat", "1")
        request = await handler.get()
        assert request["header"]["traceparent"].endswith("-00"), "who gets it must not trace it either"
        handler.answer(request, {"type": "done"})
        await wire.good("1")
        for trace in (UNTRACED, TRACE):
            wire.send({"header": {"traceparent": trace}, "payload": {"type": "chat", "id": "2", "data": None}})
            request = await handler.get()
            assert (request["header"]["traceparent"] == trace) is (trace == UNTRACED)
            handler.answer(request, {"type": "done"})
            await wire.good("2")
        await sent(play)
        assert {span.trace for span in collector.spans} == {TRACE[3:35]}
        assert len(collector.spans) == 2


async def test_a_message_to_many_has_not_as_many_spans() -> None:
    async with tracing() as (play, collector):
        handler, wire = await play.attach("chat"), await play.login()
        for _ in range(7):
            wire.ask("chat", "1")
            handler.answer(await handler.get(), to(*(f"nobody{number}" for number in range(150))))
            await wire.bad("1")
        await sent(play)
        assert len(collector.spans) == 7 * 101
        assert len(collector.headers) == 2, "so many are sent with two requests"


async def test_a_collector_that_is_away_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with tracing() as (play, collector):
        handler, wire = await play.attach("chat"), await play.login()

        async def ask() -> None:
            wire.ask("chat", "1")
            handler.answer(await handler.get(), {"type": "done"})
            await wire.good("1")
            await sent(play)

        with caplog.at_level(logging.INFO):
            for collector.status in (400, 404, 200):
                await ask()
        found = play.server.tracing
        assert (found.sent, found.failed, found.dropped) == (2, 4, 0)
        lines = [record.getMessage() for record in caplog.records if "spans" in record.getMessage()]
        assert [line.split(" to http")[0] for line in lines] == ["spans cannot be sent", "spans are sent"]
        assert "400" in lines[0]
        # Beyond what waits already nothing is kept.
        play.runtime.exchange.traces.recorder.room = 1  # type: ignore[union-attr]
        await ask()
        assert (found.sent, found.dropped) == (2, 2)


async def test_what_would_be_too_much_is_not_traced() -> None:
    async with tracing() as (play, collector):
        handler, wire = await play.attach("chat"), await play.login()
        traced = play.runtime.exchange.traces.recorder
        assert traced is not None
        traced.room = 0
        wire.ask("chat", "1")
        request = await handler.get()
        assert request["header"]["traceparent"].endswith("-00")
        handler.answer(request, {"type": "done"})
        await wire.good("1")
        await sent(play)
        assert (collector.spans, traced.dropped) == ([], 1)
        assert traced.room > 0, "with the next second there is room"


async def test_a_stop_sends_the_last_spans_and_waits_for_no_collector_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with collecting() as collector:
        async with stage({"tracing": {"otlp": collector.url}}) as play:
            wire = await play.login()
            wire.ask("chat", "1")
            await wire.bad("1")
        assert [span.name for span in collector.spans] == ["route chat"]
    monkeypatch.setattr(server_tracing, "FLUSH_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"
        async with stage({"tracing": {"otlp": url}, "limits": {"drainTimeout": 0.1}}) as play:
            wire = await play.login()
            wire.ask("chat", "1")
            await wire.bad("1")
            begun = time.monotonic()
        assert time.monotonic() - begun < 3.0, "and the request may take 5 s"


async def test_without_the_packages_a_configured_server_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "bester.server.telemetry.spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    with pytest.raises(BadConfiguration, match=r"-m pip install .*opentelemetry-sdk"):
        async with tracing():
            raise AssertionError


def test_without_tracing_nothing_is_imported() -> None:
    modules = "bester.server.server, bester.web.site, bester.client.client, bester.handler.handler"
    program = f"import sys, {modules}; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
