"""Whether messages for another server come there in the order in which they were handled here (section 4.5).

That is judged only where nothing else may change the order. At the source the disk did not fail; its handler answers
at once; nobody sent the messages more than once, and if the server was started again, they came from its clients, since
another server repeats what it has no report on. At the destination nothing befell the server and its handlers, because
one that has no handler for a moment refuses what comes then; and the handler has room for all, so that no message waits
for another sender's turn.
"""

from __future__ import annotations

from collections.abc import Iterator

from lab.ledger import Handled, way_on
from lab.plan import Errand, Plan
from lab.stage import Stage
from lab.trouble import HAND_KINDS, SESSION_KINDS

HARMLESS = frozenset(
    {"partition", "deafen", "reset", "slowLink", "reload", "slowDisk", "clock", "pause", *SESSION_KINDS}
)
"""The faults that change nothing of a server's own order."""
RESTARTS = frozenset({"kill", "powerCut", "stop", "dieAt"})
"""The faults after which a server goes on with what is on its disk."""
ENDING = frozenset({"die", "garbage"})
"""The lies that cost a handler its connection."""


def across(stage: Stage) -> Iterator[str]:
    """Yields violations."""
    plan, ledger = stage.plan, stage.ledger
    if len(plan.servers) < 2:
        return
    befallen, restarted = _befallen(plan, HARMLESS | RESTARTS), _befallen(plan, HARMLESS)
    sources = {at for at, hand in enumerate(plan.hands) if hand.server not in befallen and not hand.late_s}
    shaken = restarted | _without_handlers(plan)
    prompt = {
        at
        for at, hand in enumerate(plan.hands)
        if hand.server not in shaken and not hand.late_s and hand.concurrency >= 64
    }
    sent_on: dict[tuple[int, str], tuple[int, Handled]] = {}
    """By message and way: the request that it comes from, and the place of that among all."""
    newest: dict[tuple[int, str, int], tuple[int, int]] = {}
    """By source, type and handler: the place and the number of the newest message that came."""
    seen: set[tuple[int, str]] = set()
    for place, one in enumerate(ledger.handled):
        key = one.message, one.way
        if key in seen or len(ledger.sent[one.message]) != 1:
            continue
        seen.add(key)
        if key in sent_on and one.hand in prompt:
            before, source = sent_on[key]
            lane = source.hand, plan.messages[one.message].type, one.hand
            if before < newest.get(lane, (-1, 0))[0]:
                yield (
                    f"order: server {one.server} got message {one.message}{one.way} behind {newest[lane][1]}, which"
                    f" server {source.server} sent later"
                )
            newest[lane] = max(newest.get(lane, (-1, 0)), (before, one.message))
        errand = _errand(plan, one.message, one.way)
        first_hand = not one.way or one.server not in restarted
        if one.hand in sources and first_hand and errand is not None and not errand.wait_s and not errand.lie:
            for other in errand.servers:
                sent_on[one.message, way_on(one.way, other)] = place, one


def _befallen(plan: Plan, harmless: frozenset[str]) -> set[int]:
    """Returns the servers that something befell that may change their order, and clusters, whose nodes have none."""
    kinds = harmless.union(HAND_KINDS)
    clusters = {at for at, site in enumerate(plan.servers) if site.nodes}
    return clusters | {fault.who % len(plan.servers) for fault in plan.faults if fault.kind not in kinds}


def _without_handlers(plan: Plan) -> set[int]:
    """Returns the servers that may have been without a handler for a while."""
    found = {plan.hands[fault.who % len(plan.hands)].server for fault in plan.faults if fault.kind in HAND_KINDS}
    for message in plan.messages:
        home = plan.accounts[plan.sessions[message.by].account].server
        _add_ending(message.errand, home, found)
    return found


def _add_ending(errand: Errand, server: int, found: set[int]) -> None:
    if errand.lie in ENDING:
        found.add(server)
    if errand.then is not None:
        for other in errand.servers or (server,):
            _add_ending(errand.then, other, found)


def _errand(plan: Plan, message: int, way: str) -> Errand | None:
    """Returns what was to be done with a message at the end of a way; None if the way has other steps than servers."""
    errand: Errand | None = plan.messages[message].errand
    for _ in range(way.count("s")):
        if errand is None:
            return None
        errand = errand if errand.circle else errand.then
    return None if "h" in way else errand or Errand()
