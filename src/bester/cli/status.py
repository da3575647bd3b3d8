"""``bester status``: shows a running server at a glance."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bester.cli.output import BAD, GOOD, NO_CONNECTION, USAGE, at_node, fail, quiet_pipe, say, say_json
from bester.cli.settings import (
    ConfigOption,
    JsonOption,
    load_config,
    open_control,
    run_control,
    warn_of_missing,
)
from bester.clock import wall_time

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from bester.cli.control import Control
    from bester.cli.screen import Screen

FIRST_LOOK_S = 0.25
"""How long rates are measured if the status is shown once."""


def status(
    config: ConfigOption = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep updating it, until ^C.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Print only the problems, one per line; exit status 1 if there are any.")
    ] = False,
    interval: Annotated[
        float, typer.Option(min=0.1, max=3600.0, metavar="SECONDS", help="The time between updates.")
    ] = 1.0,
    json: JsonOption = False,
) -> None:
    """Show how the running server is doing.

    It shows the listeners, clients, handlers, servers, rates and problems.
    """
    loaded = load_config(config)
    if check:
        if watch:
            fail("--check and --watch exclude each other", USAGE)
        raise typer.Exit(_check(run_control(loaded, "problems"), json))
    with open_control(loaded) as control, quiet_pipe():
        try:
            _show(control, watch, interval if watch else FIRST_LOOK_S, json)
        except KeyboardInterrupt:
            raise typer.Exit(GOOD) from None


def _check(problems: list[dict[str, Any]], json: bool) -> int:
    for row in problems:
        if json:
            say_json(row)
        else:
            say(" ".join(f"{row['what']}: {row['name']}{at_node(row)}: {row['detail']}".split()))
    return BAD if problems else GOOD


def _show(control: Control, watch: bool, interval_s: float, json: bool) -> None:
    from rich.live import Live

    before, since = _ask(control), time.monotonic()
    live = None if json or not watch else Live(console=_console(), auto_refresh=False)
    try:
        while True:
            time.sleep(interval_s)
            found, now = _ask(control), time.monotonic()
            found["rates"] = rates(before, found, now - since)
            if json:
                say_json(found)
            elif live is None:
                _console().print(tables(found))
            else:
                live.start()
                live.update(tables(found), refresh=True)
            if not watch:
                return
            before, since = found, now
    finally:
        if live is not None:
            live.stop()


def _console() -> Screen:
    from bester.cli.screen import Screen

    return Screen()


def _ask(control: Control) -> dict[str, Any]:
    from bester.cli.control import ControlError

    try:
        found: dict[str, Any] = control.run("status")
        found["clients"] = control.run("listClients")
        warn_of_missing(control.missing)
    except ControlError as error:
        fail(str(error), NO_CONNECTION)
    return found


def rates(before: dict[str, Any], after: dict[str, Any], seconds: float) -> dict[str, float]:
    """Returns the rates per second between two snapshots."""
    old, new = totals(before), totals(after)
    return {name: round((new[name] - old[name]) / seconds, 1) for name in new}


def totals(found: dict[str, Any]) -> dict[str, int]:
    """Returns the message counts since the start, with the bad messages of all codes in one number."""
    messages = found["messages"]
    return {
        "accepted": messages["accepted"],
        "good": messages["good"],
        "bad": sum(messages["bad"].values()),
        "deliveries": messages["deliveries"],
    }


def tables(found: dict[str, Any]) -> Group:
    """Returns the tables for people."""
    from rich.console import Group

    from bester.cli.screen import new_grid

    head = new_grid()
    messages, per_s = totals(found), found["rates"]
    head.add_row("server", str(found["server"]))
    if own := found["identity"]:
        head.add_row("identity", f"key {own['key']}, certificate until {_day(own['expires'])}")
    where = f", node {found['node']}" if "node" in found else ""
    # A server that was started before an upgrade does not say how it is built.
    head.add_row("release", ", ".join(found[name] for name in ("version", "build") if name in found))
    head.add_row("running", f"{_duration(found['uptime'])}, pid {found['pid']}{where}")
    handlers = [f"{url} (handlers)" for url in found.get("handlerListeners", [])]
    head.add_row("listening", ", ".join([*found["listeners"], *handlers]) or "nowhere yet")
    head.add_row(
        "connections",
        f"{found['connections']}: {found['sessions']} sessions of {found['accounts']} accounts, "
        f"{found['unauthenticated']} not authenticated",
    )
    head.add_row("messages", ", ".join(f"{messages[name]} {name} ({per_s[name]:g}/s)" for name in per_s))
    if messages["bad"]:
        head.add_row("bad", ", ".join(f"{count} {code}" for code, count in sorted(found["messages"]["bad"].items())))
    streams = f", {found['streams']} of them answered in parts" if found.get("streams") else ""
    head.add_row("under way", f"{found['underWay']}{streams}")
    lost = [
        f"{number} {what} ({cause})" for what, causes in found["dropped"].items() for cause, number in causes.items()
    ]
    if lost:
        head.add_row("dropped", ", ".join(lost))
    for row in found.get("recordings", ()):
        head.add_row("recorded", f"{row['type']} by {row['by']}{at_node(row)}, for {_duration(row['left'])} more")
    outcomes = ("sent", "queued", "skipped", "failed")
    head.add_row("to servers", ", ".join(f"{found['toServers'][name]} {name}" for name in outcomes))
    kinds = {"handlers": _handlers, "clients": _clients, "servers": _servers}
    shown = [table(found[name]) if found[name] else f"no {name}" for name, table in kinds.items()]
    nodes = [_nodes(found["nodes"])] if "nodes" in found else []
    warned = [_problems(found["problems"])] if found.get("problems") else []
    return Group(head, *nodes, *warned, *shown)


def _nodes(rows: list[dict[str, Any]]) -> Table:
    table = _table("nodes", "node", "release", "running", "sessions", "connections", "good", "bad", "problems")
    table.columns[0].no_wrap = True  # a name that is cut off is useless
    for row in rows:
        if row.get("missing"):
            cells: tuple[Any, ...] = (row["node"], row["version"] or "", "does not answer")
        else:
            bad = sum(row["messages"]["bad"].values())
            running = f"{_duration(row['uptime'])}, pid {row['pid']}"
            numbers = (row["sessions"], row["connections"], row["messages"]["good"], bad, row["problems"])
            cells = (row["node"], row["version"], running, *numbers)
        table.add_row(*map(str, cells))
    return table


def _problems(rows: list[dict[str, Any]]) -> Table:
    with_nodes = any("node" in row for row in rows)
    table = _table("problems", "what", "which", "since", "detail", *(["node"] if with_nodes else []))
    for row in rows:
        since = row.get("since")
        when = f"{_duration(max(0, int(wall_time() - since)))} ago" if since else ""
        node = [row.get("node", "")] if with_nodes else []
        table.add_row(*map(str, (row["what"], row["name"], when, row["detail"], *node)))
    return table


def _handlers(rows: list[dict[str, Any]]) -> Table:
    table = _table("handlers", "type", "served by", "answered", "failed", "active", "waiting", "mean ms", "last error")
    for row in rows:
        by = [
            f"{one['name'] or 'attached'}{at_node(one)} ({one['outstanding']}/{one['concurrency']})"
            for one in row["attached"]
        ]
        if not by and row["classic"]:
            process = row["process"] or {}
            by = ["classic" + (f" (pid {process['pid']}{at_node(process)})" if process.get("pid") else "")]
        cells = [row["type"], ", ".join(by) or "nobody", row["answered"], row["failed"], row["active"], row["waiting"]]
        table.add_row(*map(str, (*cells, row["meanMs"] or "", row["lastError"] or "")))
    return table


def _clients(rows: list[dict[str, Any]]) -> Table:
    table = _table("clients", "account", "from", "connected", "in flight")
    for row in rows[:100]:
        for session in row["sessions"]:
            where = session["address"] + at_node(session)
            cells = (row["username"], where, _duration(session["seconds"]), session["inFlight"])
            table.add_row(*map(str, cells))
    if len(rows) > 100:
        table.add_row(f"and {len(rows) - 100} more")
    return table


def _servers(rows: list[dict[str, Any]]) -> Table:
    names = ("name", "address", "link", "verified", "links from it", "in flight", "waiting", "given up", "next try")
    table = _table("servers", *names, "last error")
    for row in rows[:100]:
        link = row["link"] + at_node(row) + (f" for {_duration(row['seconds'])}" if "seconds" in row else "")
        next_try = f"in {_duration(row['retryIn'])}" if row["retryIn"] is not None else ""
        where = (row["name"], row["address"], link, row["verified"] or "no")
        numbers = (row["incoming"], row["inFlight"], row["waiting"], row["dead"])
        table.add_row(*map(str, (*where, *numbers, next_try, row["lastError"] or "")))
    if len(rows) > 100:
        table.add_row(f"and {len(rows) - 100} more")
    return table


def _table(title: str, *columns: str) -> Table:
    from bester.cli.screen import new_table

    return new_table(*columns, title=title)


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:g} s"
