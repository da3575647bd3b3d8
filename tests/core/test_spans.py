"""Traced messages leave spans, with ids of their own (docs/tracing.md)."""

from __future__ import annotations

from tests.core.world import World

from bester.core.effects import Forward
from bester.core.model import Envelope
from bester.core.spans import SpanRecorder
from bester.core.traces import Traces
from bester.core.trail import Spans, Trail

SPANS = Spans("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", 2**63 - 1, 1000.0)


def test_a_traceparent_for_each_place() -> None:
    assert SPANS.traceparent() == f"00-{SPANS.trace}-7fffffffffffffff-01"
    assert SPANS.traceparent(1) == f"00-{SPANS.trace}-8000000000000000-01"


def test_untraced_messages_are_told_as_such() -> None:
    digits = ("0123456789abcdef" * 3)[:35]
    traces = Traces(digits)
    traces.record(SpanRecorder(lambda trace, now: None))
    assert traces.whole("1") == Traces(digits).whole("1")[:-2] + "00"


def test_only_so_many_spans_are_kept(world: World) -> None:
    traced = SpanRecorder(lambda trace, now: SPANS)
    envelope = Envelope(world.session(), b'"i"', "chat")
    traced.end(envelope, 1.0)
    envelope.trail = Trail()
    traced.end(envelope, 1.0)
    assert (traced.ended, traced.dropped) == ([], 0), "it is not traced"
    envelope.trail.spans = SPANS
    envelope.trail.add("handler", "chat", 0.0)
    traced.end(envelope, 1.0)
    assert (traced.ended, traced.dropped) == ([], 2)
    traced.room = 3
    traced.end(envelope, 1.0)
    traced.end(envelope, 1.0)
    assert ([one.size for one in traced.ended], traced.room, traced.dropped) == ([2], 1, 4)


def test_what_goes_out_carries_the_span_of_its_step(world: World) -> None:
    traced = SpanRecorder(lambda trace, now: SPANS)
    traced.room = 100
    world.exchange.traces.record(traced)
    handler = world.handler("chat")
    commands = ({"type": "sendHandler", "data": "chat"}, {"type": "sendServers", "data": ["k.example", "l.example"]})
    world.push(handler, "p", *commands)
    [request] = world.requests(handler)
    forwards = world.all(Forward)
    world.answer(handler, request["header"]["id"], {"type": "done"})
    for forward in forwards:
        world.exchange.reports.settled(forward.envelope, forward.slot, forward.to, "sent")
    assert set(world.report(handler)) == {"id", "results"}
    [ended] = traced.ended
    went_out = [request["header"]["traceparent"], *(forward.trace for forward in forwards)]
    assert went_out == [SPANS.traceparent(step.place) for step in ended.trail.steps]
    told = [ended.trail.resolved(step, ended.results) for step in ended.trail.steps]
    assert told == [("handler", "chat", "good"), ("server", "k.example", "sent"), ("server", "l.example", "sent")]
