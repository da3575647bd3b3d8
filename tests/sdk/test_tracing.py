"""The SDK with an application's OpenTelemetry: spans around functions, and traceparents on what is sent in spans."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, use_span
from tests.collector import CONSUMER, collecting
from tests.waiting import PATIENCE_S

from bester import CallNext, Client, Done, Handler, Refuse, Request, Response, SendHandler
from bester.handler.registry import Registry
from bester.handler.router import Router
from bester.handler.runner import Runner
from bester.handler.traced import traced
from bester.testing import server
from bester.tracing import current_traceparent

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
HERE = NonRecordingSpan(
    SpanContext(int(PARENT[3:35], 16), int(PARENT[36:52], 16), is_remote=False, trace_flags=TraceFlags(1))
)


class Traced:
    """A runner whose functions are called within spans that the test can read."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = provider.get_tracer("test")
        self.router = Router()
        self.outcomes: list[str] = []
        self.runner: Runner | None = None

    def _fail(self, request: Request, why: Refuse | None) -> None:
        self.outcomes.append("bad")

    async def spans(self, type: str = "chat", traceparent: str = PARENT) -> list[ReadableSpan]:
        """Handles a message, and returns the spans that this made."""
        if self.runner is None:
            registry = Registry(self.router)
            self.runner = Runner(registry, lambda *_: self.outcomes.append("good"), self._fail, 1000)
            self.runner._find = traced(self.tracer, registry.get)
        self.runner.handle(Request(type, "i", traceparent=traceparent))
        await self.runner.finish(PATIENCE_S)
        found = self.exporter.get_finished_spans()
        self.exporter.clear()
        return list(found)


def own() -> str:
    """Returns the name of the span that is current."""
    return str(getattr(trace.get_current_span(), "name", ""))


async def test_every_kind_of_function_has_its_span() -> None:
    play = Traced()
    seen: list[str] = []

    def plain(message: Request) -> Done:
        seen.append(own())
        return Done()

    async def awaited(message: Request, more: int = 0) -> Done:
        await asyncio.sleep(0)
        seen.append(own())
        return Done()

    play.router.on("plain")(plain)
    play.router.on("thread", thread=True)(plain)
    play.router.on("async")(awaited)

    async def parts(message: Request) -> AsyncIterator[Done]:
        await asyncio.sleep(0)
        seen.append(own())
        yield Done()

    play.router.on("parts")(parts)
    play.router.on("partial")(lambda message: functools.partial(awaited, more=1)(message))
    for type in play.router.functions:
        [span] = await play.spans(type)
        assert (span.name, span.kind) == (f"process {type}", SpanKind.CONSUMER)
        assert span.context is not None
        assert span.parent is not None
        assert f"00-{span.context.trace_id:032x}-{span.parent.span_id:016x}-01" == PARENT
        assert span.attributes is not None
        assert span.attributes["messaging.destination.name"] == type
        assert span.status.is_unset
    assert seen == [f"process {type}" for type in play.router.functions]
    assert play.outcomes == ["good"] * 5
    assert own() == "", "nothing stays current"


async def test_middleware_is_within_the_span() -> None:
    play = Traced()
    seen: list[str] = []

    @play.router.middleware
    async def around(request: Request, call_next: CallNext) -> Response:
        seen.append(own())
        return await call_next(request)

    @play.router.on("chat")
    def chat(text: None) -> None:
        seen.append(own())

    @play.router.on("parts")
    async def parts() -> AsyncIterator[int]:
        seen.append(own())
        yield 1
        raise Refuse("no oven")

    for type in ("chat", "parts"):
        [span] = await play.spans(type)
        assert span.status.is_unset == (type == "chat")
    assert seen == ["process chat"] * 2 + ["process parts"] * 2
    assert play.outcomes == ["good", "bad"]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_what_fails(asynchronous: bool) -> None:
    play = Traced()

    def refuse(message: Request) -> Done:
        raise Refuse("no oven")

    async def refuse_later(message: Request) -> Done:
        raise Refuse("no oven")

    play.router.on("chat")(refuse_later if asynchronous else refuse)
    [span] = await play.spans()
    assert play.outcomes == ["bad"]
    assert span.status.description == "Refuse: no oven"
    assert span.attributes is not None
    assert span.attributes["error.type"] == "handlerError"


async def test_an_untraced_message_has_no_span_and_one_without_a_trace_its_own() -> None:
    play = Traced()
    play.router.on("chat")(lambda message: None)
    assert await play.spans(traceparent=PARENT[:-2] + "00") == []
    [span] = await play.spans(traceparent="")
    assert span.parent is None
    assert await play.spans("unknown") == []


async def test_what_is_sent_within_a_span_belongs_to_its_trace(tmp_path: Path) -> None:
    assert current_traceparent() == ""
    got: list[str] = []
    async with server() as running:
        handler = Handler(running.handlers_path)

        @handler.on("chat")
        def chat(message: Request) -> None:
            got.append(message.traceparent)

        async with handler, Client(running.url("t"), features=("route",)) as client:
            with use_span(HERE):
                assert current_traceparent() == PARENT
                (await client.send("chat")).raise_for_status()
                (await client.send("chat", once=True)).raise_for_status()
                (await client.send("chat", route=True)).raise_for_status()
                assert (await (await client.post("chat"))).good
                assert (await handler.push(SendHandler("chat"))).good
            (await client.send("chat")).raise_for_status()
    assert got[:5] == [PARENT] * 5
    assert got[5] != PARENT


PROGRAM = """
from bester import Handler, Done
handler = Handler(name="the oven")

@handler.on("chat")
def chat(message):
    return Done()

handler.run()
"""


async def run_program(*, program: str = PROGRAM, **environment: str) -> tuple[Any, asyncio.subprocess.Process]:
    async with server() as running:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program),
            env=os.environ | {"BESTER_HANDLERS": running.handlers_path} | environment,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        said: list[str] = []
        try:
            async with asyncio.timeout(PATIENCE_S), Client(running.url("t")) as client:
                while "attached" not in "".join(said):
                    said.append((await process.stderr.readline()).decode())
                (await client.send("chat")).raise_for_status()
                process.send_signal(signal.SIGTERM)
                said.append((await process.stderr.read()).decode())
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return "".join(said), process


async def test_a_program_sends_its_spans_where_the_environment_says() -> None:
    async with collecting() as collector:
        said, process = await run_program(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.port}")
        assert process.returncode == 0, said
        [span] = collector.spans
        assert (span.service, span.name, span.kind) == ("the oven", "process chat", CONSUMER)


async def test_a_program_without_the_packages_says_so_and_runs() -> None:
    missing = "import sys; sys.modules['opentelemetry'] = None\n" + PROGRAM
    said, process = await run_program(program=missing, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert process.returncode == 0, said
    assert "opentelemetry-sdk" in said


async def test_an_outage_is_one_line_of_a_program_and_no_long_end() -> None:
    said, process = await run_program(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert process.returncode == 0, said
    assert said.count("while exporting spans") == 1
    assert "Traceback" not in said


def test_a_program_with_its_own_provider_keeps_it() -> None:
    program = (
        "from opentelemetry import trace; from opentelemetry.sdk.trace import TracerProvider\n"
        "from bester.handler.export import exporting\n"
        "own = TracerProvider(); trace.set_tracer_provider(own)\n"
        "with exporting('x'): assert trace.get_tracer_provider() is own\n"
    )
    environment = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
