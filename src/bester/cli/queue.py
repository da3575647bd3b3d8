"""``bester queue``: manages messages that wait for other servers, and dead letters, including those for accounts."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from bester.cli.output import USAGE, fail, quiet_pipe, say, say_json, say_table
from bester.cli.settings import ConfigOption, JsonOption, load_config, run_control

queue = typer.Typer(name="queue", no_args_is_help=True, help="Show, retry and drop waiting messages and dead letters.")

Ids = Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Messages, by the ids that list shows.")]
ServerOption = Annotated[
    str | None, typer.Option("--server", "-s", metavar="ADDRESS", help="Only for this server or @ACCOUNT, as listed.")
]


@queue.command("list")
def list_(
    server: ServerOption = None,
    dead: Annotated[
        bool | None, typer.Option("--dead/--waiting", help="Only dead letters, or only waiting messages.")
    ] = None,
    after: Annotated[int, typer.Option(min=0, help="Only messages after this id.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The most messages.")] = 100,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """List messages, oldest first."""
    rows = run_control(load_config(config), "listQueue", server=server, dead=dead, after=after, limit=limit)
    with quiet_pipe():
        if json:
            for row in rows:
                say_json(row)
        elif not rows:
            say("no messages")
        else:
            _print(rows)


@queue.command()
def show(
    id: Annotated[int, typer.Argument(metavar="ID", help="The message, by the id that list shows.", min=0)],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show one message with its data."""
    row = run_control(load_config(config), "showQueue", id=id)
    with quiet_pipe():
        if json:
            say_json(row)
            return
        for name, value in row.items():
            if name not in ("data", "cut") and value is not None:
                say(f"{name}: {_time(value) if name in ('created', 'nextTry') else value}")
        say(f"data: {row['data']}{' ...' if row['cut'] else ''}")


@queue.command()
def retry(
    ids: Ids = None,
    server: ServerOption = None,
    all: Annotated[bool, typer.Option("--all", help="All messages for all servers.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Try messages now, including dead letters."""
    if bool(ids) + (server is not None) + all != 1:
        fail("give ids, or --server, or --all", USAGE)
    result = run_control(load_config(config), "retryQueue", ids=ids or None, server=server, all=all)
    if json:
        say_json(result)
    else:
        say(f"{result['messages']} messages that were given up or deferred are tried again; waiting ones are tried now")
    _fail_of_unknown(result)


@queue.command()
def drop(
    ids: Ids = None,
    server: ServerOption = None,
    dead: Annotated[
        bool | None, typer.Option("--dead/--waiting", help="Only dead letters, or only waiting messages.")
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Remove messages permanently."""
    if bool(ids) + (server is not None) > 1 or not (ids or server is not None or dead is not None):
        fail("give ids, or --server, --dead or --waiting", USAGE)
    result = run_control(load_config(config), "dropQueue", ids=ids or None, server=server, dead=dead)
    if json:
        say_json(result)
    else:
        say(f"{result['messages']} messages removed")
    _fail_of_unknown(result)


def _fail_of_unknown(result: dict[str, Any]) -> None:
    if result.get("unknown"):
        fail(f"no message {', '.join(map(str, result['unknown']))} in the outbox; list shows the ids")


def _print(rows: list[dict[str, Any]]) -> None:
    columns = ("id", "server", "type", "bytes", "since", "tries", "next try", "last error")
    say_table(columns, map(_cells, rows))


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    next_try = "given up" if row["dead"] else _time(row["nextTry"]) if row["nextTry"] else "in its turn"
    cells = (row["id"], row["server"], row["type"], row["bytes"], _time(row["created"]), row["tries"])
    return (*cells, next_try, row["lastError"] or "")


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
