"""What the judges of a play say about ledgers that show a broken promise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from lab.dials import Dials
from lab.ledger import Attempt, Handled, Ledger
from lab.leftover import unknown_accounts
from lab.order import across
from lab.plan import Account, Errand, Fault, Hand, Message, Plan, Session, Site
from lab.repeats import handled_again

STORED = Attempt(True, False, "", (("a1", "stored", "", False),))


def stage(*messages: Message, faults: tuple[Fault, ...] = ()) -> Any:
    plan = Plan(
        seed=1,
        servers=(Site(), Site()),
        hands=(Hand(0, ("t0",)), Hand(1, ("t0",))),
        accounts=(Account(0),),
        sessions=(Session(0),),
        messages=messages,
        faults=faults,
    )
    made = SimpleNamespace(plan=plan, ledger=Ledger(), now=0.0)
    for number in range(len(messages)):
        made.ledger.sends(number, 0, 1, 0.5)
    return made


def test_a_stored_message_that_is_handled_after_its_report() -> None:
    one = stage(Message(0.0, 0))
    one.ledger.asked(Handled(0, "", 0, 0, 1.0, 1))
    one.ledger.reported(0, 1, STORED, 2.0)
    assert list(handled_again(one, set())) == []
    one.ledger.asked(Handled(0, "", 0, 0, 3.0, 1))
    assert len(list(handled_again(one, set()))) == 1
    assert list(handled_again(one, {"diskFull"})) == []  # its report could perhaps not be remembered


def test_messages_that_change_places_on_their_way_to_another_server() -> None:
    on = Errand(servers=(1,), then=Errand())
    one = stage(Message(0.0, 0, errand=on), Message(0.1, 0, errand=on))
    for number in (0, 1):
        one.ledger.asked(Handled(number, "", 0, 0, 1.0, 1))
    for number in (1, 0):
        one.ledger.asked(Handled(number, "s1", 1, 1, 2.0, 2))
    assert len(list(across(one))) == 1
    killed = stage(*one.plan.messages, faults=(Fault(0.5, "kill", who=1),))
    killed.ledger = one.ledger
    assert list(across(killed)) == []
    restarted = stage(*one.plan.messages, faults=(Fault(0.5, "kill", who=0),))
    restarted.ledger = one.ledger
    assert len(list(across(restarted))) == 1  # the source goes on with its disk


def test_an_account_that_does_not_exist() -> None:
    one = stage(Message(0.0, 0))
    one.ledger.reported(0, 1, Attempt(True, False, "", (("nobody", "stored", "", False),)), 1.0)
    assert list(unknown_accounts(one)) == ["message 0 was reported stored for nobody, who has no account"]


def test_dials_without_a_pause() -> None:
    one = stage()
    process: Any = object()
    here = SimpleNamespace(index=0, lab=SimpleNamespace(process=process, machine=SimpleNamespace(address="10.0.0.1")))
    lab = SimpleNamespace(process=None, machine=SimpleNamespace(address="10.0.0.2"), running=False, name="s1")
    keepers: Any = [here, SimpleNamespace(index=1, lab=lab)]
    dials = Dials(one, keepers)
    for pause_s in (1.0, 2.0, 4.0, 5.0, 5.0, 5.0, 5.0, 5.0):
        one.now += pause_s
        dials.attempt(process, ("10.0.0.2", 2223))
    assert one.ledger.violations == []
    for _ in range(8):
        one.now += 1.0
        dials.attempt(process, ("10.0.0.2", 2223))
    assert len(one.ledger.violations) == 1
