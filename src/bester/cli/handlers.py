"""``bester handler list``, ``log``, ``start``, ``stop``, ``drain``: manages the handlers of the running server."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from bester.cli.output import BAD, GOOD, NO_CONNECTION, at_node, fail, quiet_pipe, say, say_json, say_table
from bester.cli.settings import ConfigOption, JsonOption, load_config, open_control, run_control

TypeArgument = Annotated[str, typer.Argument(metavar="TYPE", help="The handler's type.", show_default=False)]
NodeOption = Annotated[
    str | None, typer.Option("--node", metavar="NODE", help="Only at this node of a cluster.", show_default=False)
]
LOOK_S = 0.5
"""The time between two requests for new lines."""
MOST_LINES = 500


def add_to(group: typer.Typer) -> None:
    """Adds the commands to their group."""
    group.command("list")(list_)
    for one in (log, start, stop, drain):
        group.command()(one)


def list_(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the types, with their handlers and figures."""
    rows = run_control(load_config(config), "listHandlers")
    with quiet_pipe():
        if json:
            for row in rows:
                say_json(row)
        elif rows:
            _print(rows)
        else:
            say("no handlers")


def log(
    type: TypeArgument,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=MOST_LINES, help="The most lines.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new lines, until ^C.")] = False,
    node: NodeOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show the output of the process that the server runs for a type. Handlers that attach have their own logs."""
    from bester.cli.control import CommandRefused, ControlError

    with open_control(load_config(config)) as control, quiet_pipe():
        try:
            found = control.run("handlerLog", type=type, lines=max(lines, MOST_LINES if follow else 0), node=node)
            _say_lines(found[-lines:] if lines else [], json)
            while follow:
                time.sleep(LOOK_S)
                now = control.run("handlerLog", type=type, lines=MOST_LINES, node=node)
                _say_lines(newer(found, now), json)
                found = now
        except KeyboardInterrupt:
            raise typer.Exit(GOOD) from None
        except CommandRefused as error:
            fail(str(error), BAD)
        except ControlError as error:
            fail(str(error), NO_CONNECTION)


def newer(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the lines that were added between two looks at the newest lines; the oldest may have been dropped."""
    for first in range(len(now) + 1):
        kept = len(now) - first  # as many of the old lines may still be there
        if kept == 0 or (kept <= len(before) and before[len(before) - kept :] == now[:kept]):
            return now[kept:]
    return now


def start(type: TypeArgument, node: NodeOption = None, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Serve the type of a stopped classic handler again. This starts its process, if the server runs one."""
    result = run_control(load_config(config), "startHandler", type=type, node=node)
    if json:
        say_json(result)
        return
    process = result["process"] or {}
    pid = process.get("pid")
    say(f"{type} is served again" + (f"; the handler's process has the pid {pid}{at_node(process)}" if pid else ""))


def stop(type: TypeArgument, node: NodeOption = None, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Stop a type's handlers at once. This ends the process that the server runs, and the connections of the others."""
    result = run_control(load_config(config), "stopHandler", type=type, node=node)
    if json:
        say_json(result)
    else:
        say(f"stopped for {type}: {_stopped(result)}")


def drain(type: TypeArgument, node: NodeOption = None, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Let a type's handlers finish, and stop them. They get no new messages."""
    result = run_control(load_config(config), "drainHandler", type=type, node=node)
    if json:
        say_json(result)
    else:
        say(f"draining for {type}: {_stopped(result)}; {result['outstanding']} messages are outstanding")


def _stopped(result: dict[str, Any]) -> str:
    process = "the server's process" if result["process"] else "no process"
    where = f", at {', '.join(result['nodes'])}" if result.get("nodes") else ""
    return f"{process}, {result['attached']} attached{where}"


def _say_lines(rows: list[dict[str, Any]], json: bool) -> None:
    for row in rows:
        if json:
            say_json(row)
        else:
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["time"]))
            say(f"{at}{at_node(row)}  {row['line']}")


def _print(rows: list[dict[str, Any]]) -> None:
    columns = ("type", "state", "served by", "answered", "failed", "active", "waiting", "mean ms", "last error")
    say_table(columns, map(_cells, rows), whole=("state",))


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    by = [
        f"{one['name'] or 'attached'}{at_node(one)} ({one['outstanding']}/{one['concurrency']})"
        for one in row["attached"]
    ]
    by += ["classic" + _pid(row["process"])] if row["classic"] else []
    numbers = (row["answered"], row["failed"], row["active"], row["waiting"], row["meanMs"] or "")
    type = f"{row['type']} {row['version']}" if row["version"] else row["type"]
    return (type, _state(row), ", ".join(by) or "nobody", *numbers, row["lastError"] or "")


def _state(row: dict[str, Any]) -> str:
    if row["down"]:
        return "down"
    if row["stopped"]:
        return "stopped"
    return "up" if row["attached"] or row["classic"] else "away"


def _pid(process: dict[str, Any] | None) -> str:
    pid = (process or {}).get("pid")
    return f" (pid {pid}{at_node(process or {})})" if pid else ""
