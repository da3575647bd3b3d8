"""What is in mailboxes though somebody is there to take it, or though they are full."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from bester.server.server import Server
from lab.ledger import Copy
from lab.plan import account_name
from lab.sessions import SessionPlayer
from lab.stage import Stage

NOBODY = "nobody"
"""The name of an account that no server has."""


async def unread_mail(stage: Stage, server: Server, index: int, sessions: Sequence[SessionPlayer]) -> list[str]:
    """Returns the letters that nobody ever got, for accounts with a session that believes it is connected.

    What one session left unacknowledged stays there for the account's next one, though another session got it; so does
    what was settled when it was written, a reply and what an account sent to itself.
    """
    there = {one.account for one in sessions if one.server == index and one.session.mail and one.connected}
    found = []
    for username in sorted(there):
        for letter in await server.messages.read_mailbox(username, 0, 1000, 1 << 30, server.runtime.steady.now()):
            data = msgspec.json.decode(letter.data)
            copy = Copy(data["m"], data["w"], index, username)
            session = stage.plan.sessions[stage.plan.messages[copy.message].by]
            if "r" in data or account_name(session.account) == username or copy in stage.ledger.received:
                continue
            found.append(f"{username} of server {index} is there, and does not get message {copy.message}{copy.way}")
    return found


async def too_many_letters(server: Server) -> list[str]:
    """Returns the mailboxes that have more than the configuration allows."""
    most = server.config.limits.mailbox_messages
    return [
        f"the mailbox of {one.username} at {server.config.server.name} has {one.messages} letters, and may have {most}"
        for one in await server.messages.mailbox_sizes()
        if one.messages > most
    ]


def unknown_accounts(stage: Stage) -> Iterator[str]:
    """Yields violations: an account that does not exist gets nothing, and each report says so."""
    for number, attempts in stage.ledger.attempts.items():
        for attempt in attempts:
            for to, status, _, _ in attempt.results:
                if to == NOBODY and status != "failed":
                    yield f"message {number} was reported {status} for {NOBODY}, who has no account"
