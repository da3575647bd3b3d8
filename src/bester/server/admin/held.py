"""What guards hold for consent, as accounts and operators see and decide it (docs/protocol.md, section 3.8)."""

from __future__ import annotations

from typing import Any

from bester.errors import BadArguments, InvalidName
from bester.protocol.names import username
from bester.server.admin.services import AdminServices
from bester.store.held import OPERATORS, Held

MAX_LISTED = 100
MAX_IDS = 1000
MAX_SERVER = 253
MAX_SHOWN = 2048
"""The most bytes of a message's data that are shown."""
_MAX_POSITION = 2**63 - 1


async def listed(services: AdminServices, holder: str, after: int, limit: int) -> dict[str, Any]:
    """Returns what is held for a holder behind an id, oldest first, and whom the holder trusts.

    Operators are also told how many messages are held, for them and for all accounts.

    Raises:
        BadArguments: the limit or the id is not valid.
    """
    if not 1 <= limit <= MAX_LISTED:
        raise BadArguments(f"limit must be from 1 to {MAX_LISTED}")
    held = await services.held.store.list_held(holder, _id(after), limit)
    trusted = await services.held.store.trusted(holder)
    found: dict[str, Any] = {
        "held": [_row(services, one) for one in held],
        "trusted": [_sender(one) for one in trusted],
    }
    if holder == OPERATORS:
        operators, accounts = await services.held.store.count_held()
        found["counts"] = {"operators": operators, "accounts": accounts}
    return found


async def release(
    services: AdminServices, holder: str, ids: list[int] | None, user: str | None, server: str | None, *, always: bool
) -> dict[str, int]:
    """Lets messages go to their handlers: by their ids, or all of a sender, which may be trusted from then on.

    Raises:
        BadArguments: not exactly one of ids, user and server is given, or always with ids; or too many are trusted.
    """
    sender = _chosen(ids, user, server)
    if sender is not None:
        return {"messages": await services.held.release_sender(holder, sender, always=always)}
    if always:
        raise BadArguments("always is for a user or a server, not for ids")
    return {"messages": await services.held.release(holder, _ids(ids))}


async def refuse(
    services: AdminServices, holder: str, ids: list[int] | None, user: str | None, server: str | None
) -> dict[str, int]:
    """Removes messages: by their ids, or all of a sender, which is trusted no longer.

    Raises:
        BadArguments: not exactly one of ids, user and server is given.
    """
    sender = _chosen(ids, user, server)
    if sender is not None:
        return {"messages": await services.held.refuse_sender(holder, sender)}
    return {"messages": await services.held.refuse(holder, _ids(ids))}


def _chosen(ids: list[int] | None, user: str | None, server: str | None) -> str | None:
    """Returns the sender that is given; None if ids are."""
    if (ids is not None) + (user is not None) + (server is not None) != 1:
        raise BadArguments("one of ids, user and server is needed")
    if user is not None:
        try:
            return f"user:{username(user)}"
        except InvalidName as error:
            raise BadArguments(f"user: {error.message}") from error
    if server is None:
        return None
    if not 0 < len(server) <= MAX_SERVER or not server.isprintable():
        raise BadArguments(f"server: a name of 1 to {MAX_SERVER} printable characters is needed")
    return f"server:{server.lower().rstrip('.')}"


def _row(services: AdminServices, one: Held) -> dict[str, Any]:
    head, data = one.message.head, one.message.data
    return {
        "id": one.position,
        "type": head.type,
        "from": {"user": head.user, "server": head.server, "verified": head.verified},
        "messageId": head.message_id,
        "guard": head.guard,
        "hops": head.hops,
        "created": round(services.runtime.steady.shown(one.created), 3),
        "bytes": len(data),
        "data": data[:MAX_SHOWN].decode(errors="replace"),
        "cut": len(data) > MAX_SHOWN,
    }


def _sender(text: str) -> dict[str, str]:
    kind, _, name = text.partition(":")
    return {kind: name}


def _ids(ids: list[int] | None) -> list[int]:
    if ids is None or len(ids) > MAX_IDS:
        raise BadArguments(f"at most {MAX_IDS} ids")
    return sorted({_id(id) for id in ids})


def _id(id: int) -> int:
    if not 0 <= id <= _MAX_POSITION:
        raise BadArguments("an id is a number from 0")
    return id
