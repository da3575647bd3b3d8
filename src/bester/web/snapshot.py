"""What the console shows of the running server, once a second, as JSON (docs/web.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bester.clock import wall_time
from bester.server import problems
from bester.server.sampling import HISTORY_COLUMNS, STEP_S
from bester.server.whole import Whole

if TYPE_CHECKING:
    from bester.server.hall import Hall

MAX_ROWS = 500
"""The most handlers, and servers, in one snapshot."""


async def history(hall: Hall) -> dict[str, Any]:
    """The rates of the last ten minutes, the oldest first."""
    return {"step": STEP_S, "columns": HISTORY_COLUMNS, "rows": await Whole(hall).history()}


async def now(hall: Hall) -> dict[str, Any]:
    """Everything that the console shows at once.

    Raises:
        Internal: the store cannot be reached.
    """
    whole = Whole(hall)
    found = await whole.glance()
    rates = found["rates"]
    done = rates.get("good", 0.0) + rates.get("bad", 0.0)
    servers = await whole.servers()
    totals = await hall.sampler.totals()
    kept = await problems.kept(hall)
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
        "movements": hall.sampler.take_movements(),
        "problems": [*(problems.own(hall) if own is None else own), *kept][: problems.MAX_PROBLEMS],
    }
