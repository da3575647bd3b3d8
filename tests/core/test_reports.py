"""What became of each recipient is reported, and the first error (docs/protocol.md, section 2)."""

from __future__ import annotations

import gc

from tests.core.events import Answers, Deposited, Sends
from tests.core.playbook import Asked, Effect, Placeholder, Playbook, Report
from tests.core.world import DONE, World, clients

from bester.core.effects import Deposit, Finished
from bester.core.limits import Limits
from bester.errors import BesterError, MailboxFull, UnknownAccount


def test_commands_without_recipients_make_no_results(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    for commands in ([], [DONE], [DONE, DONE]):
        assert (
            Playbook(world)
            >> Sends(t, "chat", id="1")
            << Asked(chat)
            >> Answers(chat, *commands, data=5)
            << Report(t, "good", id="1")
        )


def test_the_first_error_is_reported(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    one, two = Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> Sends(t, "chat")
        << Asked(chat)
        >> Answers(chat, clients("one", "two"))
        << Effect(Deposit, one)
        << Effect(Deposit, two)
        >> Deposited(two, "failed", UnknownAccount())
        >> Deposited(one, "failed", MailboxFull())
        << Report(t, "unknownAccount", "one failed mailboxFull", "two failed unknownAccount")
    )


def test_the_end_of_a_backlog_is_told_once(world: World) -> None:
    world.configure(Limits(max_in_flight=1))
    chat, t = world.handler("chat"), world.session("t")
    play = Playbook(world) >> Sends(t, "chat") << Asked(chat)
    for _ in range(3):
        play >>= Sends(t, "unknown")
    assert play
    t.closing = True
    play = play >> Answers(chat) << Report(t, "good") << Effect(Finished, endpoint=t)
    for _ in range(3):
        play <<= Report(t, "noHandler")
    assert play


def kept_errors() -> int:
    gc.collect()
    return sum(issubclass(type(one), BesterError) for one in gc.get_objects())


def test_nothing_is_left_of_what_failed(world: World) -> None:
    """An error that is raised refers to the functions it came through, whose envelope refers to the error."""
    chat, t, before = world.handler("chat"), world.session("t"), kept_errors()
    for number in range(3):
        world.send(t, "chat", id=str(number))
        (asked,) = world.got(chat)
        world.answer(chat, asked["header"]["id"], header={"status": "1"})
        world.push(chat, str(number), {"type": "reply", "payload": {"type": "builtin"}})
        assert [report["header"]["status"] for report in world.got(t) + world.got(chat)] == ["bad", "bad"]
    assert kept_errors() <= before
