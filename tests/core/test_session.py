"""A session's phases: events lead through all of the table, and nothing leads out of it."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from tests.core.events import Answers, Comes, Deposited, MailboxRead, Passes, Says, Sends, SocketDrains, SocketFills
from tests.core.playbook import Asked, Effect, Placeholder, Playbook, Received, Report
from tests.core.world import REPLY, Talk, World
from tests.pure import needs_pure

from bester.core.effects import CutOff, Deposit, PresenceChanged, ReadMailbox
from bester.core.redelivery import ACK_S
from bester.core.session import TRANSITIONS, Change, Phase, Session

PAIRS = list(product(Phase, Change))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "-".join(one.value for one in pair))
def test_a_change_leads_where_the_table_says_or_is_a_fault(pair: tuple[Phase, Change]) -> None:
    session = Session("g", "j.example")
    session.phase, session.position = pair[0], 7
    if pair in TRANSITIONS:
        session.change(pair[1])
        assert session.phase is TRANSITIONS[pair]
    else:
        with pytest.raises(KeyError):
            session.change(pair[1])
        assert session.phase is pair[0]
    begins_anew = session.phase is Phase.CATCHING_UP and pair in TRANSITIONS
    assert session.position == (0 if begins_anew else 7), "a mailbox is read from its beginning"


def test_every_phase_can_be_left_and_come_back_to() -> None:
    for phase in Phase:
        assert phase in TRANSITIONS.values()
        assert any(before is phase and to is not phase for (before, _), to in TRANSITIONS.items())


class Watched(Session):
    """Notes which pairs of the table it goes through."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.seen: list[tuple[Phase, Change]] = []

    def change(self, change: Change) -> None:
        self.seen.append((self.phase, change))
        super().change(change)


@needs_pure("it watches the phases in a subclass")
def test_events_lead_through_the_whole_table(world: World, talk: Talk) -> None:
    g, t, echo = Watched("g", "j.example", features=("ack",)), talk.t, world.handler("echo")
    one, deposit = Placeholder(), Placeholder()
    mailbox_is_read = Effect(ReadMailbox, session=g)
    assert (
        Playbook(world)
        # There is mail for it, and it reads all of that.
        >> Comes(g, has_mail=True)
        << Effect(PresenceChanged)
        << mailbox_is_read
        >> MailboxRead(g)
        # It does not read its socket, and then does.
        >> SocketFills(g)
        >> Says(talk, 1, "g")
        << Received(g, "chat", 1, id=one)
        >> Passes(ACK_S)
        << Effect(Deposit, deposit)
        >> Deposited(deposit)
        << Report(t, "good", "g stored")
        >> SocketDrains(g)
        << mailbox_is_read
        # It does not read the mail that it is given, nor the reply to what it asks meanwhile.
        >> SocketFills(g)
        >> MailboxRead(g, deposit)
        << Received(g, "chat", 1, id=one)
        << mailbox_is_read
        >> Passes(ACK_S)
        >> Sends(g, "echo")
        << Asked(echo)
        >> Answers(echo, REPLY, data=2)
        << Received(g, "echo", 2, id=Placeholder())
        << Report(g, "good")
        >> Passes(ACK_S)
        << Effect(Deposit, data=2)
        << Effect(CutOff, session=g)
        # It reads again at last, from the beginning.
        >> SocketDrains(g)
        >> MailboxRead(g, deposit)  # which was read before
        << Effect(ReadMailbox, session=g, after=0)
    )
    assert set(g.seen) == set(TRANSITIONS)


def test_the_diagram_in_the_documentation_is_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()
    diagram = page.partition("```mermaid\nstateDiagram-v2\n")[2].partition("```")[0]
    drawn = [f"{before.value} --> {after.value}: {change.value}" for (before, change), after in TRANSITIONS.items()]
    assert [line.strip() for line in diagram.splitlines()] == ["[*] --> live", *drawn]
