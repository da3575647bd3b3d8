"""Snapshots of the running server for the console, one per second, as JSON (docs/web.md)."""

from __future__ import annotations

from typing import Any

from bester.clock import wall_time
from bester.server.admin import problems
from bester.server.admin.services import AdminServices
from bester.server.admin.status import look
from bester.server.telemetry.rates import HISTORY_COLUMNS, STEP_S
from bester.server.web import WebServices

MAX_ROWS = 500
"""The most handlers, and the most servers, in one snapshot."""


async def history(services: AdminServices) -> dict[str, Any]:
    """Returns the rates of the last ten minutes, oldest first."""
    return {"step": STEP_S, "columns": HISTORY_COLUMNS, "rows": await look(services).history()}


async def now(services: WebServices) -> dict[str, Any]:
    """Returns all data that the console shows.

    Raises:
        Internal: the store is unreachable.
    """
    admin = services.admin
    status = look(admin)
    found = await status.glance()
    rates = found["rates"]
    done = rates.get("good", 0.0) + rates.get("bad", 0.0)
    servers = await status.servers()
    totals = await admin.storage.totals()
    of_store = await problems.of_store(admin)
    return found | {
        "time": round(wall_time(), 3),
        "errorRate": round(rates.get("bad", 0.0) / done, 4) if done else 0.0,
        "counts": found["counts"]
        | {
            "accounts": totals.accounts,
            "links": sum(row["link"] == "up" for row in servers),
            "queue": sum(row["waiting"] for row in servers),
            "dead": sum(row["dead"] for row in servers),
            "mailboxes": totals.mailboxes,
            "mailboxMessages": totals.mailbox_messages,
            "mailboxBytes": totals.mailbox_bytes,
        },
        "handlers": found["handlers"][:MAX_ROWS],
        "servers": servers[:MAX_ROWS],
        "movements": services.movements.take(),
        "problems": [*found["problems"], *of_store][: problems.MAX_PROBLEMS],
    }
