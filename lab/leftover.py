"""What the databases still have at the end, though everybody was there to take it, and what they never should have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from lab.invariants import Left
from lab.ledger import Copy
from lab.sessions import SessionPlayer
from lab.stage import Stage

NOBODY = "nobody"
"""The name of an account that no server has."""
MAILBOX_MESSAGES = 10_000
"""``limits.mailboxMessages``, where the plan says nothing."""


def leftover(stage: Stage, sessions: Sequence[SessionPlayer], left: Sequence[Left]) -> Iterator[str]:
    """Yields violations.

    Args:
        stage: the play.
        sessions: its sessions, as they were when it ended.
        left: by server, what its database has.
    """
    there = {(one.server, one.account) for one in sessions if one.session.mail and one.connected}
    for server, one in enumerate(left):
        limits = stage.plan.servers[server].settings.get("limits", {})
        most = limits.get("mailboxMessages", MAILBOX_MESSAGES)
        for username, count in Counter(letter[0] for letter in one.letters).items():
            if count > most:
                yield f"bound: the mailbox of {username} at server {server} has {count} letters, and may have {most}"
        for username, _, raw in one.letters:
            data = msgspec.json.decode(raw)
            copy = Copy(data["m"], data["w"], server, username)
            if copy not in stage.ledger.received and (server, username) in there:
                yield f"kept: {username} of server {server} is there, and never got message {copy.message}{copy.way}"


def unknown_accounts(stage: Stage) -> Iterator[str]:
    """Yields violations: an account that does not exist gets nothing, and each report says so."""
    for number, attempts in stage.ledger.attempts.items():
        for attempt in attempts:
            for to, status, _, _ in attempt.results:
                if to == NOBODY and status != "failed":
                    yield f"message {number} was reported {status} for {NOBODY}, who has no account"
