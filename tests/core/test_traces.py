from __future__ import annotations

import json
import re

from bester.core.traces import SHARED_DIGITS, Traces
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
        traced = frames.traced_request(id, origin, 2, traces.head, traces.tail, type, "tag", b"1")
        other = frames.request(id, origin, 2, type, "tag", b"1", frames.request_part(traces.whole(id)))
        assert json.loads(traced[4:]) == json.loads(other[4:])


def test_what_is_no_traceparent_is_dropped() -> None:
    for wrong in ("", "00", "01-" + "1" * 32 + "-" + "1" * 16 + "-01", "00-" + "0" * 32 + "-" + "1" * 16 + "-01"):
        assert checked_trace(wrong) == ""
