"""Receipts of finished messages are kept while the server takes them away (docs/protocol.md, section 7.4)."""

from __future__ import annotations

import json

import pytest
from tests.core.events import Answers, Sends
from tests.core.playbook import Asked, Playbook, Report
from tests.core.world import World, clients

from bester.core.receipts import MAX_NAMES, MAX_REPORT_BYTES, Entry, counts_of
from bester.errors import UnknownAccount
from bester.protocol import frames


def play(world: World) -> None:
    """Two messages that end well, and two that do not."""
    chat, t = world.handler("chat"), world.session("t")
    for id in ("1", "2"):
        assert Playbook(world) >> Sends(t, "chat", id=id) << Asked(chat) >> Answers(chat) << Report(t, "good")
        assert Playbook(world) >> Sends(t, "unknown", id=id) << Report(t, "noHandler")


@pytest.mark.parametrize(("good", "bad"), [(0, 0), (1, 0), (0, 1), (5, 5)])
def test_as_many_are_kept_as_the_server_lets(world: World, good: int, bad: int) -> None:
    receipts = world.exchange.reports.receipts
    receipts.good_left, receipts.bad_left = good, bad
    play(world)
    types = [entry.type for entry in receipts.entries]
    assert (types.count("chat"), types.count("unknown")) == (min(good, 2), min(bad, 2))
    assert (receipts.good_left, receipts.bad_left) == (max(good - 2, 0), max(bad - 2, 0))


def test_a_receipt_tells_what_became_of_a_message(world: World) -> None:
    receipts = world.exchange.reports.receipts
    receipts.good_left = receipts.bad_left = 9
    play(world)
    first, second, *_ = receipts.entries
    now, (t,) = world.exchange.batch.now, world.exchange.presence.sessions("t")
    assert first == Entry(now, now, t, "chat", b'"1"', "1", frames.good_report(b'"1"'), None)
    assert (second.type, second.id, second.large) == ("unknown", b'"1"', None)
    assert b'"noHandler"' in second.report
    assert len(world.exchange.traces.whole(second.trace)) == 55, "it has a trace although nobody was asked"
    assert len({entry.trace for entry in receipts.entries}) == 4


@pytest.mark.parametrize("known", [True, False])
def test_of_a_large_report_the_numbers_and_the_first_names_are_kept(world: World, known: bool) -> None:
    receipts = world.exchange.reports.receipts
    receipts.good_left = receipts.bad_left = 1
    chat, t = world.handler("chat"), world.session("t")
    names = [f"{'u' if known else 'a b'}{number:050}" for number in range(400)]
    for name in names if known else ():
        world.session(name)
    world.send(t, "chat")
    world.answer(chat, "1", clients("t", *names))
    message, report = world.got(t)
    assert message["payload"]["type"] == "chat"
    assert len(json.dumps(report)) > MAX_REPORT_BYTES
    (entry,) = receipts.entries
    assert entry.report == b""
    assert entry.large is not None
    assert len(entry.large.results) == MAX_NAMES
    if known:
        assert entry.large[:2] == (None, {"delivered": 401})
    else:
        assert entry.large[:2] == (("unknownAccount", UnknownAccount().explained), {"delivered": 1, "failed": 400})


def test_recipients_are_counted_whatever_they_are_called() -> None:
    results = [frames.result('x","status":"failed"', "delivered"), frames.result("g", "stored")]
    assert counts_of(frames.report(b'"1"', None, results)) == {"delivered": 1, "stored": 1}
