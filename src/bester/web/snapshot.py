"""What the console shows of the running server, once a second, as JSON (docs/web.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bester.clock import wall_time
from bester.server.admin import problems
from bester.server.admin.status import ClusterStatus
from bester.server.telemetry.rates import HISTORY_COLUMNS, STEP_S

if TYPE_CHECKING:
    from bester.server.runtime import Runtime

MAX_ROWS = 500
"""The most handlers, and servers, in one snapshot."""


async def history(runtime: Runtime) -> dict[str, Any]:
    """The rates of the last ten minutes, the oldest first."""
    return {"step": STEP_S, "columns": HISTORY_COLUMNS, "rows": await ClusterStatus(runtime).history()}


async def now(runtime: Runtime) -> dict[str, Any]:
    """Everything that the console shows at once.

    Raises:
        Internal: the store cannot be reached.
    """
    whole = ClusterStatus(runtime)
    found = await whole.glance()
    rates = found["rates"]
    done = rates.get("good", 0.0) + rates.get("bad", 0.0)
    servers = await whole.servers()
    totals = await runtime.totals.get()
    kept = await problems.kept(runtime)
    own = found.get("problems")
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
        "movements": runtime.movements.take(),
        "problems": [*(problems.own(runtime) if own is None else own), *kept][: problems.MAX_PROBLEMS],
    }
