"""The accounts and sessions of one node, as operators see them."""

from __future__ import annotations

from typing import Any

from bester.errors import SessionEnded
from bester.protocol.names import username
from bester.server.admin.services import AdminServices
from bester.store.ports import MailboxSize


def server_info(services: AdminServices, clients: int) -> dict[str, Any]:
    """Returns what anyone who is logged in may know of the server (docs/protocol.md, sections 5 and 9)."""
    runtime = services.runtime
    return {
        "clientCount": clients,
        "adminInfo": runtime.config.admin.info,
        "listeners": {f"listener{index}": {"address": url} for index, url in enumerate(runtime.listener_urls)},
    }


def connected(services: AdminServices, after: str = "", limit: int | None = None) -> list[dict[str, Any]]:
    """Returns the connected accounts behind the name ``after``, sorted, with their sessions."""
    now = services.runtime.clock()
    presence = services.runtime.exchange.presence
    names = [name for name in presence.all_usernames() if name > after][:limit]
    return [
        {
            "username": name,
            "sessions": [
                {
                    "address": session.writer.remote.address,
                    "seconds": round(now - session.since, 1),
                    "inFlight": session.in_flight,
                    "features": session.features,
                    "mail": True if session.takes is None else bool(session.takes) and sorted(session.takes),
                }
                for session in presence.all_sessions(name)
            ],
        }
        for name in names
    ]


def session_counts(services: AdminServices, after: str, last: str) -> dict[str, int]:
    """Returns the number of sessions of each account behind the name ``after``, up to ``last``."""
    presence = services.runtime.exchange.presence
    return {name: len(presence.all_sessions(name)) for name in presence.all_usernames() if after < name <= last}


async def accounts(services: AdminServices, after: str, limit: int) -> list[dict[str, Any]]:
    """Returns a page of the accounts, with the number of their sessions here and the size of their mailboxes."""
    found = await services.accounts.list(after, limit)
    sizes: dict[str, MailboxSize] = {}
    while found and (page := await services.messages.mailbox_sizes(after, limit)):
        sizes.update((size.username, size) for size in page)
        after = page[-1].username
        if after >= found[-1].username or len(page) < limit:
            break
    rows: list[dict[str, Any]] = []
    for account in found:
        size = sizes.get(account.username)
        rows.append(
            {
                "username": account.username,
                "roles": account.roles,
                "created": account.created,
                "sessions": len(services.runtime.exchange.presence.all_sessions(account.username)),
                "mailbox": {"messages": size.messages if size else 0, "bytes": size.bytes if size else 0},
            }
        )
    return rows


def kick(services: AdminServices, name: str) -> int:
    """Ends an account's sessions at this node, and returns how many there were.

    Raises:
        InvalidName: no account can have this name.
    """
    sessions = services.runtime.exchange.presence.all_sessions(username(name))
    for session in sessions:
        session.writer.end_session(SessionEnded("the session was ended by an operator"))
    return len(sessions)
