"""The outbox, as operators see and change it (docs/protocol.md, section 5.3)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from bester.core.metrics import Drop
from bester.errors import BadAddress, BadArguments, InvalidName
from bester.protocol.addresses import parse_address
from bester.protocol.names import username
from bester.server.admin.services import AdminServices
from bester.store.ports import Queued, account_of, account_queue

MAX_SHOWN = 64 * 1024
"""The most bytes of a message's data that are shown."""
MAX_LISTED = 1000
_PAGE = 1000
_MAX_POSITION = 2**63 - 1


async def listed(
    services: AdminServices, server: str | None, dead: bool | None, after: int, limit: int
) -> list[dict[str, Any]]:
    """Returns the messages behind an id, oldest first.

    Raises:
        BadArguments: the limit, the id or the address is not valid.
    """
    if not 1 <= limit <= MAX_LISTED:
        raise BadArguments(f"limit must be from 1 to {MAX_LISTED}")
    key = None if server is None else server_key(server)
    return [_row(services, row) for row in await services.messages.list_queue(key, dead, _id(after), limit)]


async def shown(services: AdminServices, id: int) -> dict[str, Any]:
    """Returns one message with its data, as text.

    Raises:
        BadArguments: no message has this id.
    """
    row = await services.messages.find_queued(_id(id))
    if row is None:
        raise BadArguments(f"no message {id} in the outbox")
    data = row.message.data
    return _row(services, row) | {
        "hops": row.message.hops,
        "traceparent": row.message.trace or None,
        "data": data[:MAX_SHOWN].decode(errors="replace"),
        "cut": len(data) > MAX_SHOWN,
    }


async def retry(services: AdminServices, ids: list[int] | None, server: str | None, every: bool) -> dict[str, Any]:
    """Tries messages now, dead letters too; returns how many were dead or had stepped aside.

    Raises:
        BadArguments: not exactly one of ids, server and all is given.
    """
    if (ids is not None) + (server is not None) + every != 1:
        raise BadArguments("one of ids, server and all is needed")
    count = 0
    keys: dict[str, None] = {}
    known: set[int] = set()
    if server is not None:
        keys[server_key(server)] = None
    async for page in _pages(services, ids, server, None):
        known.update(row.position for row in page if ids is not None)
        letters = [row for row in page if account_of(row.message.destination) is not None]
        if letters:
            count += await services.mailboxes.put_back(letters)
        outgoing = [row for row in page if account_of(row.message.destination) is None]
        keys.update(dict.fromkeys(row.message.destination for row in outgoing))
        count += await services.messages.revive([row.position for row in outgoing], services.runtime.steady.now())
    await services.federation.changed(keys)
    return _result(count, ids, known)


async def drop(services: AdminServices, ids: list[int] | None, server: str | None, dead: bool | None) -> dict[str, Any]:
    """Removes messages, and returns how many; a message that is being sent may still arrive.

    Raises:
        BadArguments: nothing says which messages.
    """
    if ids is not None and server is not None:
        raise BadArguments("one of ids and server, not both")
    if ids is None and server is None and dead is None:
        raise BadArguments("ids, server or dead is needed: which messages are to be removed?")
    count = 0
    keys: dict[str, None] = {}
    known: set[int] = set()
    async for page in _pages(services, ids, server, dead):
        keys.update(dict.fromkeys(row.message.destination for row in page))
        known.update(row.position for row in page if ids is not None)
        await services.messages.remove_sent([row.position for row in page])
        count += len(page)
    services.runtime.exchange.batch.counters.drops.count(Drop.OUTGOING_DROPPED, count)
    await services.federation.changed(keys)
    return _result(count, ids, known)


def _row(services: AdminServices, row: Queued) -> dict[str, Any]:
    """Returns one message of the outbox, without its data; failures of its whole server count as its own tries."""
    message, steady = row.message, services.runtime.steady
    destination = services.federation.destinations.get(message.destination) if not row.dead else None
    tries, last_error = row.tries, row.last_error
    next_try = steady.shown(row.next_try) if row.next_try else 0.0
    if destination is not None:
        tries += destination.failures
        last_error = last_error or (destination.last_error if tries else "")
        retry_in_s = destination.retry_in_s()
        if not next_try and retry_in_s is not None:
            next_try = steady.shown(steady.now()) + retry_in_s
    return {
        "id": row.position,
        "server": message.destination,
        "type": message.type,
        "messageId": message.message_id,
        "bytes": len(message.data),
        "created": round(steady.shown(row.created), 3),
        "tries": tries,
        "nextTry": round(next_try, 3) or None,
        "dead": row.dead,
        "lastError": last_error or None,
    }


def _result(count: int, ids: list[int] | None, known: set[int]) -> dict[str, Any]:
    """Returns how many messages were changed, and which of the given ids are not those of messages."""
    unknown = [id for id in dict.fromkeys(ids or ()) if id not in known]
    return {"messages": count, "unknown": unknown} if unknown else {"messages": count}


async def _pages(
    services: AdminServices, ids: list[int] | None, server: str | None, dead: bool | None
) -> AsyncIterator[list[Queued]]:
    """Gives the chosen messages, a page at a time."""
    if ids is not None:
        if len(ids) > MAX_LISTED:
            raise BadArguments(f"at most {MAX_LISTED} ids")
        found = [await services.messages.find_queued(_id(id)) for id in dict.fromkeys(ids)]
        yield [row for row in found if row is not None and (dead is None or row.dead is dead)]
        return
    key = None if server is None else server_key(server)
    after = 0
    while page := await services.messages.list_queue(key, dead, after, _PAGE):
        after = page[-1].position
        yield page


def server_key(server: str) -> str:
    """Returns the name of the queue of a server, by its name or address, or of an account with its @.

    Raises:
        BadArguments: the text is neither.
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
