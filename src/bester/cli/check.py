"""``bester check``: prints all errors and warnings of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bester.cli.output import GOOD, USAGE, say, say_json
from bester.cli.settings import JsonOption, find_config


def check(
    config: Annotated[
        Path | None, typer.Argument(help="The configuration. Default: server.conf or bester.toml here.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Print all errors and warnings of a configuration.

    Exit status: 0 if a server would start with it, 2 if not. Warnings do not affect it.
    """
    from bester.config import ConfigError, load

    path = find_config(config)
    errors: list[dict[str, str]] = []
    try:
        warnings = list(load(path).warnings)
    except ConfigError as error:
        warnings = error.warnings
        errors = [{"key": one.key, "found": one.found, "allowed": one.allowed} for one in error.problems]
    if json:
        say_json({"config": str(path), "ok": not errors, "errors": errors, "warnings": warnings})
    else:
        for one in errors:
            say(f"error: {one['key']}: found {one['found']}, allowed: {one['allowed']}")
        for line in warnings:
            say(f"warning: {line}")
        say(f"{path}: " + (_counted(len(errors), "error") if errors else "good"))
    raise typer.Exit(USAGE if errors else GOOD)


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" + ("" if count == 1 else "s")
