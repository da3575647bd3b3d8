"""What operators see of the outbox, and do with it (docs/protocol.md, section 5.3)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from bester.core.metrics import Drop
from bester.errors import BadAddress, BadArguments, InvalidName
from bester.protocol.addresses import parse_address
from bester.protocol.names import username
from bester.server.admin import node_status as views
from bester.store.ports import Queued, account_of, account_queue

if TYPE_CHECKING:
    from bester.server.runtime import Runtime

MAX_SHOWN = 64 * 1024
"""How much of a message's data is shown, in bytes."""
MAX_LISTED = 1000
_PAGE = 1000
_MAX_POSITION = 2**63 - 1


async def listed(
    runtime: Runtime, server: str | None, dead: bool | None, after: int, limit: int
) -> list[dict[str, Any]]:
    """Returns messages behind an id, oldest first.

    Raises:
        BadArguments: a limit, an id or an address that is none.
    """
    if not 1 <= limit <= MAX_LISTED:
        raise BadArguments(f"limit must be from 1 to {MAX_LISTED}")
    key = None if server is None else server_key(server)
    return [views.queued(runtime, row) for row in await runtime.messages.list_queue(key, dead, _id(after), limit)]


async def shown(runtime: Runtime, id: int) -> dict[str, Any]:
    """Returns one message with its data, as text.

    Raises:
        BadArguments: there is none of this id.
    """
    row = await runtime.messages.find_queued(_id(id))
    if row is None:
        raise BadArguments(f"no message {id} in the outbox")
    data = row.message.data
    return views.queued(runtime, row) | {
        "hops": row.message.hops,
        "traceparent": row.message.trace or None,
        "data": data[:MAX_SHOWN].decode(errors="replace"),
        "cut": len(data) > MAX_SHOWN,
    }


async def retry(runtime: Runtime, ids: list[int] | None, server: str | None, every: bool) -> dict[str, Any]:
    """Lets messages be tried now, dead letters too; returns how many were dead or had stepped aside.

    Raises:
        BadArguments: not one of ids, server and all.
    """
    if (ids is not None) + (server is not None) + every != 1:
        raise BadArguments("one of ids, server and all is needed")
    count = 0
    keys: set[str] = set()
    known: set[int] = set()
    if server is not None:
        keys.add(server_key(server))
    async for page in _pages(runtime, ids, server, None):
        known.update(row.position for row in page if ids is not None)
        letters = [row for row in page if account_of(row.message.destination) is not None]
        if letters:
            count += await runtime.mailboxes.put_back(letters)
        outgoing = [row for row in page if account_of(row.message.destination) is None]
        keys.update(row.message.destination for row in outgoing)
        count += await runtime.messages.revive([row.position for row in outgoing], runtime.steady.now())
    await runtime.federation.changed(keys)
    return _told(count, ids, known)


async def drop(runtime: Runtime, ids: list[int] | None, server: str | None, dead: bool | None) -> dict[str, Any]:
    """Removes messages, and returns how many; one that is just being sent may arrive all the same.

    Raises:
        BadArguments: nothing says which.
    """
    if ids is not None and server is not None:
        raise BadArguments("one of ids and server, not both")
    if ids is None and server is None and dead is None:
        raise BadArguments("ids, server or dead is needed: which messages are to be removed?")
    count = 0
    keys: set[str] = set()
    known: set[int] = set()
    async for page in _pages(runtime, ids, server, dead):
        keys.update(row.message.destination for row in page)
        known.update(row.position for row in page if ids is not None)
        await runtime.messages.remove_sent([row.position for row in page])
        count += len(page)
    runtime.exchange.batch.counters.drops.count(Drop.OUTGOING_DROPPED, count)
    await runtime.federation.changed(keys)
    return _told(count, ids, known)


def _told(count: int, ids: list[int] | None, known: set[int]) -> dict[str, Any]:
    """Returns how many messages it was, and which of the ids that were asked for are no messages."""
    unknown = [id for id in dict.fromkeys(ids or ()) if id not in known]
    return {"messages": count, "unknown": unknown} if unknown else {"messages": count}


async def _pages(
    runtime: Runtime, ids: list[int] | None, server: str | None, dead: bool | None
) -> AsyncIterator[list[Queued]]:
    """Gives the messages that are meant, some at a time."""
    if ids is not None:
        if len(ids) > MAX_LISTED:
            raise BadArguments(f"at most {MAX_LISTED} ids")
        found = [await runtime.messages.find_queued(_id(id)) for id in dict.fromkeys(ids)]
        yield [row for row in found if row is not None and (dead is None or row.dead is dead)]
        return
    key = None if server is None else server_key(server)
    after = 0
    while page := await runtime.messages.list_queue(key, dead, after, _PAGE):
        after = page[-1].position
        yield page


def server_key(server: str) -> str:
    """Returns a server's name or address, or an account with its @, as queues are named.

    Raises:
        BadArguments: it is none of these.
    """
    account = account_of(server)
    try:
        if account is not None:
            return account_queue(username(account))
        return str(parse_address(server))
    except (BadAddress, InvalidName) as error:
        raise BadArguments(error.message) from error


def _id(id: int) -> int:
    if not 0 <= id <= _MAX_POSITION:
        raise BadArguments("an id is a number from 0")
    return id
