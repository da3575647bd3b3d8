"""``bester handler describe``: what a type is for, which data it takes, and how to try it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bester.cli.output import at_node, say, say_json, say_text
from bester.cli.settings import ConfigOption, JsonOption, load_config, run_control

if TYPE_CHECKING:
    from bester.config import Config

_SECTIONS = (("request", "Data"), ("answer", "Answer"), ("parts", "Each part of an answer"))


def describe(
    type: Annotated[str, typer.Argument(metavar="TYPE", help="The type.", show_default=False)],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a type is for, and which data it takes.

    There are samples, too, and a line to try it.

    With --json the schemas are JSON Schemas.
    """
    loaded = load_config(config)
    (row,) = run_control(loaded, "describe", type=type)
    if json:
        say_json(row)
    else:
        _print(row, loaded)


def _print(row: dict[str, Any], config: Config) -> None:
    from bester.schemas.fields import fields

    by = f"by {row['handler']}{at_node(row)}" if row["handler"] is not None else "not described"
    version = f" {row['version']}" if row["version"] else ""
    say(f"{row['type']}{version}, {by}")
    others = [version for version in row["versions"] if version != row["version"]]
    if others:
        say(f"other handlers have the version {', '.join(others)}")
    if row["description"]:
        say("")
        say_text(row["description"])
    for name, title in _SECTIONS:
        if row[name] is not None:
            say("")
            say(f"{title}:")
            _print_fields(fields(row[name]))
    if row["validates"] is not None:
        kept = "data that does not fit is refused" if row["validates"] else "nothing is refused: there is no schema"
        say("")
        say(f"validate: {kept}")
    if row["samples"]:
        say("")
        say("Samples:")
        for sample in row["samples"]:
            say_json(sample)
    say("")
    say("Try it:")
    say(ask_line(row, config))


def _print_fields(found: list[Any]) -> None:
    from bester.cli.screen import Screen, new_grid

    grid = new_grid()
    grid.add_column(overflow="fold")
    for one in found:
        name = one.place or "the value"
        grid.add_row(f"  {name}", one.kind + ("" if one.required else ", optional"), one.about)
    Screen().print(grid)


def ask_line(row: dict[str, Any], config: Config) -> str:
    """Returns the command that asks a type; its data is the first sample, or made from the schema."""
    from bester.protocol.values import encode_data
    from bester.schemas.example import example

    data = row["samples"][0] if row["samples"] else example(row["request"])
    return shlex.join(
        ["bester", "ask", client_url(config), row["type"], bytes(encode_data(data)).decode(), "-u", "NAME"]
    )


def client_url(config: Config) -> str:
    """Returns the URL of a listener of this machine; the Unix socket if there is one."""
    urls = {}
    for one in config.listeners():
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(one.address, one.address)
        urls[one.kind] = f"bester+unix:{one.address}" if one.kind == "unix" else f"bester://{host}:{one.port}"
        if one.kind == "tls":
            urls["tls"] = f"besters://{host}:{one.port}"
    return next((urls[kind] for kind in ("unix", "tcp4", "tcp6", "tls") if kind in urls), "URL")
