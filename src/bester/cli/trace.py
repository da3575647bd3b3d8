"""``bester trace``: shows where messages went, from the receipts of the running server."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from bester.cli.amounts import seconds
from bester.cli.output import BAD, quiet_pipe, say, say_json, say_table
from bester.cli.settings import ConfigOption, JsonOption, load_config, run_control
from bester.clock import wall_time

SinceOption = Annotated[
    str | None,
    typer.Option("--since", metavar="AGE", help="Not older than this, such as 90s, 10m, 2h, 3d.", show_default=False),
]


def trace(
    id: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID]",
            help="A message: the trace id, its last digits, or the sender's own id.",
        ),
    ] = None,
    account: Annotated[
        str | None, typer.Option("--account", "-a", metavar="NAME", help="Only messages from this account.")
    ] = None,
    type: Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Only messages of this type.")] = None,
    outcome: Annotated[
        str | None, typer.Option("--outcome", metavar="OUTCOME", help="Only good, bad, or an error code.")
    ] = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The most messages.")] = 20,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show the outcomes of messages, newest first. With ID, show everything that is known about one message."""
    found = run_control(
        load_config(config),
        "trace",
        id=id,
        account=account,
        type=type,
        outcome=outcome,
        since=begin(since),
        limit=limit,
    )
    rows = found["receipts"]
    with quiet_pipe():
        if json:
            for row in rows:
                say_json(row)
        elif id is not None:
            for row in rows:
                show(row)
        elif rows:
            _print(rows)
        if not rows and not json:
            say("no receipt" + (f" of {id}" if id is not None else ""))
        if not json:
            say_how_far(found)
        if found["unrecorded"] and not json:
            say(f"{found['unrecorded']} messages since the start were too many to record, and only counted")
    if id is not None and not rows:
        raise typer.Exit(BAD)


def say_how_far(found: dict[str, Any]) -> None:
    """Prints where the search through the receipts ended, if it did not cover all of them."""
    if "lookedSince" in found:
        say(f"there are too many receipts: only those since {moment(found['lookedSince'])} were searched")


def begin(age: str | None) -> float:
    """Returns the time that is ``age`` ago, in seconds since 1970; 0 without an age."""
    if age is None:
        return 0.0
    return wall_time() - seconds(age, "--since")


def show(row: dict[str, Any]) -> None:
    """Prints everything that is known about one message."""
    from bester.cli.routes import draw

    sender = row["from"] or "an unproven server"
    say(f"{moment(row['at'])}  {sender} -> {row['type']}  {outcome_of(row)}  {row['ms']} ms")
    where = f", node {row['node']}" if "node" in row else ""
    say(f"trace {row['trace']}, the sender's id {row['id']!r}{where}")
    for one in (row["recipients"] or {}).get("first", []):
        say(f"  {one['to']}  {one['status']}" + (f" ({one['code']})" if "code" in one else ""))
    told = len((row["recipients"] or {}).get("first", []))
    more = sum((row["recipients"] or {}).get("counts", {}).values()) - told
    if more > 0:
        say(f"  and {more} more")
    if "route" in row:
        draw("route", row["route"])


def outcome_of(row: dict[str, Any]) -> str:
    """Returns an outcome in words."""
    return f"{row['outcome']}: {row['message']}" if row["message"] else str(row["outcome"])


def moment(seconds: float) -> str:
    """Returns a time as local date and time of day."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _print(rows: list[dict[str, Any]]) -> None:
    with_nodes = any("node" in row for row in rows)
    columns = ["trace", "when", "from", "type", "id", "outcome", "ms", "recipients", *(["node"] if with_nodes else [])]
    length = _telling_length([row["trace"] for row in rows])
    say_table(columns, ([row["trace"][-length:], *_cells(row, with_nodes)] for row in rows), whole=("trace",))


def _cells(row: dict[str, Any], with_nodes: bool) -> list[object]:
    counts = (row["recipients"] or {}).get("counts", {})
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    cells = [moment(row["at"]), row["from"] or "", row["type"], row["id"], row["outcome"], row["ms"], told]
    return [*cells, row.get("node", "")] if with_nodes else cells


def _telling_length(traces: list[str]) -> int:
    """Returns how many last digits distinguish the traces; ``bester trace`` accepts them as an id."""
    different = set(traces)
    from bester.store.receipts import MIN_DIGITS

    length = MIN_DIGITS
    while len({one[-length:] for one in different}) < len(different):
        length += 1
    return length
