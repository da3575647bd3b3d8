"""Whether messages within a cluster come in the order in which they were sent (docs/scale.md).

What was under way at a fault, or while the mailboxes had no leader, may come out of order, and so may what several
handlers answered. All else must not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lab.ledger import Copy, Handled
from lab.plan import Plan
from lab.sessions import SessionPlayer
from lab.stage import Stage

SETTLED_S = 4.0
"""How long after a fault new messages may still come out of order."""
ELECTED_S = 0.5
"""How long after its election new letters may still not find a leader."""

Window = tuple[float, float]


def in_clusters(
    stage: Stage, sessions: Sequence[SessionPlayer], faults: Sequence[Window], leaderless: dict[int, list[Window]]
) -> Iterator[str]:
    """Yields violations.

    Args:
        stage: the play.
        sessions: its sessions.
        faults: from when until when something was wrong.
        leaderless: by server: from when until when its mailboxes had no leader.
    """
    plan, ledger = stage.plan, stage.ledger
    handled = _handled_once(ledger.handled)
    places = {number: at for at, number in enumerate(ledger.sent)}
    always = [(begin, end + SETTLED_S) for begin, end in faults]
    for session in sessions:
        alone = sum(1 for one in plan.sessions if one.account == session.session.account) == 1
        if not (plan.servers[session.server].nodes and alone and session.session.ack and session.session.mail):
            continue
        troubled = always + [(begin, end + ELECTED_S) for begin, end in leaderless.get(session.server, ())]
        first: list[tuple[float, Copy]] = sorted(
            (min(receipt.at for receipt in receipts), copy)
            for copy, receipts in ledger.received.items()
            if copy.account == session.account and copy.server == session.server
        )
        yield from _late(stage, plan, [copy for _, copy in first], handled, places, troubled)


def _late(
    stage: Stage,
    plan: Plan,
    copies: Sequence[Copy],
    handled: dict[int, Handled],
    places: dict[int, int],
    troubled: Sequence[Window],
) -> Iterator[str]:
    """Yields violations among what one account got, in this order."""
    newest: dict[tuple[int, int, str], int] = {}
    ledger = stage.ledger
    for copy in copies:
        number = copy.message
        if copy.way or number not in handled or not _judged(stage, plan, handled[number]):
            continue
        lane = ledger.sent[number][0][1], handled[number].connection, plan.messages[number].type
        before = newest.get(lane, number)
        if places[number] < places[before]:
            began, told = ledger.sent_at[number], ledger.settled_at.get(number, float("inf"))
            if not any(began < end and told > begin for begin, end in troubled):
                yield f"order: {copy.account} of server {copy.server} got message {number} behind {before}"
        else:
            newest[lane] = number


def _handled_once(handled: Sequence[Handled]) -> dict[int, Handled]:
    """Returns the requests that a handler saw once, by message."""
    times: dict[int, list[Handled]] = {}
    for one in handled:
        if not one.way:
            times.setdefault(one.message, []).append(one)
    return {number: found[0] for number, found in times.items() if len(found) == 1}


def _judged(stage: Stage, plan: Plan, handled: Handled) -> bool:
    message = plan.messages[handled.message]
    errand = message.errand
    prompt = not (plan.hands[handled.hand].late_s or errand.wait_s or errand.lie or errand.transient)
    once = len(stage.ledger.sent[handled.message]) == 1
    return prompt and once and not plan.sessions[message.by].library and not message.dry
