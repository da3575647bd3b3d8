"""Finds and reads a command's configuration, and connects to the server that runs with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bester.cli.output import BAD, NO_CONNECTION, USAGE, fail, warn

if TYPE_CHECKING:
    from bester.cli.control import Control
    from bester.config import Config

NAMES = ("server.conf", "bester.toml")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="The configuration. Default: server.conf or bester.toml here.", metavar="CONFIG"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON objects, one per line.")]


def find_config(given: Path | None) -> Path:
    """Returns the configuration file's path; ends the command if there is none."""
    path = given or next((Path(name) for name in NAMES if Path(name).is_file()), None)
    if path is None:
        fail("there is no server.conf or bester.toml in this folder; name the configuration with --config", USAGE)
    return path


def load_config(given: Path | None) -> Config:
    """Returns the configuration; if it is wrong, prints all its errors and ends the command."""
    from bester.config import ConfigError, load

    path = find_config(given)
    try:
        return load(path)
    except ConfigError as error:
        warn(f"bester: {path} is wrong:\n{error}")
        raise typer.Exit(USAGE) from None


def open_control(config: Config) -> Control:
    """Returns a connection to the running server; ends the command if none is running."""
    from bester.cli.control import Control, ControlError, NotRunning

    try:
        return Control(config.control.address)
    except NotRunning as error:
        fail(f"{error}; start it with: besterd {config.path}", NO_CONNECTION)
    except ControlError as error:
        fail(str(error), NO_CONNECTION)


def run_control(config: Config, command: str, /, **args: object) -> Any:
    """Runs a built-in command on the running server; ends this program if the server refuses it."""
    from bester.cli.control import CommandRefused, ControlError

    with open_control(config) as control:
        try:
            result = control.run(command, **args)
        except CommandRefused as error:
            fail(str(error), BAD)
        except ControlError as error:
            fail(str(error), NO_CONNECTION)
        warn_of_missing(control.missing)
        return result


def warn_of_missing(nodes: Sequence[str]) -> None:
    """Prints the nodes that did not answer, if there are any."""
    if nodes:
        warn(f"without {', '.join(nodes)}, which did not answer in time")
