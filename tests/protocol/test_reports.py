"""What this server reads of the reports that it wrote."""

from __future__ import annotations

from bester.errors import HandlerFailed, UnknownAccount
from bester.protocol import frames
from bester.protocol.framing import PREFIX
from bester.protocol.reports import NoReply, Report, Result, decode_result, decode_written


def test_a_written_report_is_read_as_it_was_meant() -> None:
    results = [frames.result("ann", "delivered"), frames.result("b\u00e9b", "failed", UnknownAccount())]
    report = frames.report(b'"1"', HandlerFailed("no"), results, b'{"a":[1]}', b',"route":[{"step":"handler"}]')
    payload = decode_written(memoryview(report)[PREFIX.size :])
    assert payload.error is not None
    assert (payload.error.code, payload.error.message) == ("handlerError", "no")
    assert [result.to for result in payload.results] == ["ann", "b\u00e9b"]
    assert bytes(payload.route) == b'[{"step":"handler"}]'


def test_a_report_may_have_nothing_but_its_id() -> None:
    payload = decode_written(frames.report(b'"1"')[PREFIX.size :])
    assert (payload.error, payload.results, bytes(payload.route)) == (None, [], b"")


def test_an_entry_of_the_results_is_read_alone() -> None:
    assert decode_result(frames.result("ann", "stored")) == Result("ann", "stored")
    failed = decode_result(frames.result("ann", "failed", UnknownAccount()))
    assert failed.error is not None
    assert failed.error.code == "unknownAccount"


def test_what_is_held_has_no_reply_and_says_so() -> None:
    report = Report(id="1", good=True, results=[Result("g", "held"), Result("t", "delivered")])
    assert str(NoReply(report)) == "the message is held until g consents, and has no reply"
    assert str(NoReply(Report(id="1", good=True))) == "the message was handled, and no handler replied to it"
