"""The command ``describe``: what handlers say of their types (docs/protocol.md, sections 5.2 and 6.9)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from bester.clock import wall_time
from bester.core.admission import may_send
from bester.core.session import Session
from bester.errors import BadArguments, NotAllowed
from bester.protocol.descriptions import Description
from bester.server.admin.services import AdminServices

Row = dict[str, Any]

MAX_ROWS = 100
_FOR_OPERATORS = ("handler", "since", "versions")
_UNSAID: Row = msgspec.structs.asdict(Description()) | {"validates": None}


def types(services: AdminServices, sender: Session | None, type: str | None, after: str, limit: int) -> list[str]:
    """Returns the types that are to be described, sorted.

    Args:
        services: what serves them.
        sender: sees only what it may send; None sees all.
        type: the only type, if not None.
        after: the types up to this one are left out.
        limit: how many at most.

    Raises:
        BadArguments: nobody serves the type, or the limit is wrong.
        NotAllowed: the sender may not send the type.
    """
    if not 1 <= limit <= MAX_ROWS:
        raise BadArguments(f"limit must be from 1 to {MAX_ROWS}")
    routes = services.runtime.exchange.dispatcher.types
    allowed = [
        name
        for name, route in routes.items()
        if route.available and (sender is None or route.rules.allow is None or may_send(route.rules.allow, sender))
    ]
    if type is None:
        return sorted(name for name in allowed if name > after)[:limit]
    if type in allowed:
        return [type]
    if type in routes and routes[type].available:
        raise NotAllowed("this account may not send this type")
    raise BadArguments("nobody serves this type: `listTypes` has those that are served")


def at_node(services: AdminServices, names: Iterable[str]) -> list[Row]:
    """Returns what is known of types at this node; a type without a handler here has no row."""
    ahead_s = wall_time() - services.runtime.clock()
    descriptions = services.descriptions
    routes = services.runtime.exchange.dispatcher.types
    rows: list[Row] = []
    for name in names:
        route = routes.get(name)
        if route is None or not (route.attached or route.classic):
            continue
        row: Row = {"type": name, "validates": descriptions.validates(name), "since": None}
        known = descriptions.of(name)
        if known:
            newest = known[-1]
            row |= msgspec.structs.asdict(newest.description)
            row |= {"handler": newest.handler.name, "since": round(newest.handler.since + ahead_s, 3)}
            row["versions"] = sorted({one.description.version for one in known} - {None}, key=str)
        rows.append(row)
    return rows


def merged(names: Iterable[str], rows: Iterable[Row], *, operator: bool) -> list[Row]:
    """Returns the rows of the command, from those of the nodes; the newest description counts."""
    by_type: dict[str, list[Row]] = {}
    for row in rows:
        by_type.setdefault(row["type"], []).append(row)
    return [_merged(name, by_type.get(name, []), operator) for name in names]


def _merged(name: str, rows: list[Row], operator: bool) -> Row:
    described = [row for row in rows if row["since"] is not None]
    newest = max(described, key=lambda row: float(row["since"]), default={})
    asked = [row["validates"] for row in rows if row["validates"] is not None]
    found = {"type": name} | {key: newest.get(key, unsaid) for key, unsaid in _UNSAID.items()}
    found["validates"] = all(asked) if asked else None
    if operator:
        found |= {key: newest.get(key) for key in _FOR_OPERATORS}
        found["versions"] = sorted({version for row in described for version in row["versions"]})
    return found
