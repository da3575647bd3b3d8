"""Whether messages for another server come there in the order in which they were handled here (section 4.5).

That is judged only where nothing else may change the order: both servers ran all the time, with all their handlers,
which answer at once, and nobody sent the messages more than once.
"""

from __future__ import annotations

from collections.abc import Iterator

from lab.ledger import way_on
from lab.plan import Errand, Plan
from lab.stage import Stage

HARMLESS = frozenset(
    {"partition", "deafen", "reset", "slowLink", "cutSession", "resetSession", "pauseSession", "reload"}
)
"""The faults that change nothing of a server's own order."""


def across(stage: Stage, happened: set[str]) -> Iterator[str]:
    """Yields violations.

    Args:
        stage: the play.
        happened: the kinds of faults that happened.
    """
    plan, ledger = stage.plan, stage.ledger
    if not happened <= HARMLESS or len(plan.servers) < 2:
        return
    prompt = {at for at, hand in enumerate(plan.hands) if not hand.late_s and hand.concurrency >= 64}
    if len(prompt) < len(plan.hands) or any("maxInFlight" in site.settings.get("limits", {}) for site in plan.servers):
        return
    sent_on: dict[tuple[int, str], int] = {}
    """By message and way: its place among those that were handled before they were sent on."""
    newest: dict[tuple[int, int, str, int], tuple[int, int]] = {}
    """By source, destination, type and handler: the place of the newest message that came."""
    sources: dict[tuple[int, str], tuple[int, int]] = {}
    seen: set[tuple[int, str]] = set()
    for place, one in enumerate(ledger.handled):
        key = one.message, one.way
        if key in seen:
            continue
        seen.add(key)
        if one.way.endswith("h"):
            continue
        errand = _errand(plan, one.message, one.way)
        if errand is None or errand.wait_s or errand.lie or len(ledger.sent[one.message]) != 1:
            continue
        for other in errand.servers:
            sent_on[one.message, way_on(one.way, other)] = place
            sources[one.message, way_on(one.way, other)] = one.server, one.hand
        if key in sent_on:
            server, hand = sources[key]
            lane = server, hand, plan.messages[one.message].type, one.hand
            before = newest.get(lane)
            if before is not None and sent_on[key] < before[0]:
                yield (
                    f"order: server {one.server} got message {one.message}{one.way} behind {before[1]}, which server"
                    f" {server} sent later"
                )
            newest[lane] = max(before or (-1, -1), (sent_on[key], one.message))


def _errand(plan: Plan, message: int, way: str) -> Errand | None:
    """Returns what was to be done with a message at the end of a way; None if the way has other steps than servers."""
    errand: Errand | None = plan.messages[message].errand
    for _ in range(way.count("s")):
        if errand is None:
            return None
        errand = errand if errand.circle else errand.then
    return None if "h" in way else errand or Errand()
