"""What becomes of messages, and room for those behind them."""

from __future__ import annotations

from tests.core.world import DONE, World, clients

from bester.core.effects import Deposit, Finished
from bester.core.limits import Limits
from bester.errors import MailboxFull, UnknownAccount


def test_done(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    for number, commands in enumerate(([], [DONE], [DONE, DONE]), start=1):
        world.send(t, "chat", id="1")
        world.answer(chat, str(number), *commands, data=5)
        assert world.report(t) == {"id": "1"}


def test_the_first_error_is_reported(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    world.send(t, "chat")
    world.answer(chat, "1", clients("one", "two"))
    one, two = world.all(Deposit)
    world.exchange.replay.deposited(two.delivery, "failed", UnknownAccount())
    world.exchange.replay.deposited(one.delivery, "failed", MailboxFull())
    report = world.report(t)
    assert report["error"]["code"] == "unknownAccount"
    assert [result["error"]["code"] for result in report["results"]] == ["mailboxFull", "unknownAccount"]


def test_the_end_of_a_backlog_is_told_once(world: World, limits: Limits) -> None:
    world.configure(Limits(max_in_flight=1))
    chat, t = world.handler("chat"), world.session("t")
    world.send(t, "chat")
    for _ in range(3):
        world.send(t, "unknown")
    t.closing = True
    world.answer(chat, "1")
    assert world.all(Finished) == [Finished(t)]
