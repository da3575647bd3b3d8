"""Whether ``once`` messages that were sent again after their report were handled again (docs/protocol.md, section 4.4).

A repeat is recognised as long as its server runs, and after a restart wherever the first touched the disk.
"""

from __future__ import annotations

from collections.abc import Iterator

from lab.stage import Stage

DISK_TROUBLE = frozenset({"writeFails", "diskFull"})
"""Faults after which a report may be given that could not be remembered."""


def handled_again(stage: Stage, happened: set[str]) -> Iterator[str]:
    """Yields violations.

    Args:
        stage: the play.
        happened: the kinds of faults that happened.
    """
    if happened & DISK_TROUBLE or "pauseHand" in happened:
        return  # a paused handler takes, when it goes on, what a server asked it that has died since
    plan, ledger = stage.plan, stage.ledger
    durable = {
        number: at
        for number, at in ledger.settled_at.items()
        if plan.messages[number].once and _touched_disk(stage, number)
    }
    for one in ledger.handled:
        at = durable.get(one.message)
        if at is not None and not one.way and one.at > at:
            yield f"once: message {one.message} was reported at {at:.3f}, and handled again at {one.at:.3f}"


def _touched_disk(stage: Stage, number: int) -> bool:
    first = next(one for one in stage.ledger.attempts[number] if one.good or not one.temporary)
    return first.good and any(status in ("stored", "queued") for _, status, _, _ in first.results)
