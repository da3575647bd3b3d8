from __future__ import annotations

import json
import re

from tests.core.events import Answers, Sends
from tests.core.playbook import Asked, Placeholder, Playbook, Report
from tests.core.world import World

from bester.core.spans import SpanRecorder
from bester.core.traces import SHARED_DIGITS, Traces
from bester.core.trail import Spans, Trail
from bester.protocol import frames
from bester.protocol.messages import checked_trace

W3C = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01")


def test_a_number_a_stand_in_and_a_whole_one() -> None:
    traces = Traces(("0123456789abcdef" * 3)[:SHARED_DIGITS])
    made = [traces.whole(trace) for trace in ("1", "10", traces.new(), traces.new())]
    assert len(set(made)) == 4
    for one in made:
        assert W3C.fullmatch(one)
        assert checked_trace(one) == one
        assert traces.whole(one) == one


def test_what_is_written_around_a_number_is_the_whole() -> None:
    traces = Traces(("0123456789abcdef" * 3)[:SHARED_DIGITS])
    for number in range(1, 1200):
        if number == traces.until:
            traces.widen(number)
        id = str(number)
        origin, type = frames.origin_part("client", "t", "j.example", True), frames.type_part("chat")
        traced = frames.traced_request(id, origin, 2, traces.head, traces.tail, type, b'"tag"', b"1")
        other = frames.request(id, origin, 2, type, b'"tag"', b"1", frames.request_part(traces.whole(id)))
        assert json.loads(traced[4:]) == json.loads(other[4:])


def test_what_is_no_traceparent_is_dropped() -> None:
    for wrong in ("", "00", "01-" + "1" * 32 + "-" + "1" * 16 + "-01", "00-" + "0" * 32 + "-" + "1" * 16 + "-01"):
        assert checked_trace(wrong) == ""


def test_tracing_is_switched_on_and_off(world: World) -> None:
    traces, chat, t = world.exchange.traces, world.handler("chat"), world.session("t")
    traced = Spans("4bf92f3577b34da6a3ce929d0e0e4736", "", 1, 1000.0)
    seen: list[tuple[str, float]] = []

    def choose(trace: str, now: float) -> Spans | None:
        seen.append((trace, now))
        return traced if len(seen) == 1 else None

    def traceparent() -> str:
        """What the handler is told of the next message."""
        request = Placeholder()
        assert Playbook(world) >> Sends(t, "chat") << Asked(chat, header=request) >> Answers(chat) << Report(t, "good")
        return str(request()["traceparent"])

    assert traceparent().endswith("-01")
    recorder = SpanRecorder(choose)
    recorder.room = 10
    traces.record(recorder)
    assert traces.on
    assert traceparent() == traced.traceparent(2)
    assert traceparent().endswith("-00"), "its receivers learn that it is not traced"
    assert seen == [("", world.exchange.batch.now)] * 2
    assert [one.spans for one in recorder.ended] == [traced]
    traces.record(None)
    assert not traces.on
    assert traceparent().endswith("-01")
    assert len(seen) == 2
    assert len(recorder.ended) == 1


def test_a_push_is_traced_while_tracing_is_on(world: World) -> None:
    chat, traced = world.handler("chat"), Spans("4bf92f3577b34da6a3ce929d0e0e4736", "", 1, 1000.0)
    came = f"00-{'a' * 32}-{'b' * 16}-01"
    recorder = SpanRecorder(lambda trace, now: traced if trace == came else None)
    recorder.room = 10
    world.exchange.traces.record(recorder)
    for trace in (came, "", "nonsense"):
        world.answer(chat, "p", header={"messageType": "push", "status": None, "traceparent": trace})
        assert world.code(chat) == ""
    assert [one.origin for one in recorder.ended] == [chat]


def test_numbers_that_grew_longer_are_as_long_after_a_switch(world: World) -> None:
    traces = world.exchange.traces
    traces.widen(1234)
    for recorder in (SpanRecorder(lambda trace, now: None), None):
        traces.record(recorder)
        assert traces.until == 10_000
        assert traces.whole("1234")[3:35].endswith("0000000001234")


def test_a_message_whose_route_is_told_may_be_traced_too(world: World) -> None:
    chat, t, route = world.handler("chat"), world.session("t"), Placeholder()
    recorder = SpanRecorder(lambda trace, now: Spans("4bf92f3577b34da6a3ce929d0e0e4736", "", 1, now))
    recorder.room = 10
    world.exchange.traces.record(recorder)
    trail = Trail()
    assert (
        Playbook(world)
        >> Sends(t, "chat", trail=trail)
        << Asked(chat)
        >> Answers(chat)
        << Report(t, "good", route=route)
    )
    assert [step["step"] for step in route()] == ["handler"]
    assert [one.trail for one in recorder.ended] == [trail]
