"""``bester command``: runs a built-in command by its name, from the table that clients, console and operator share."""

from __future__ import annotations

from typing import Annotated

import typer

from bester.cli.output import USAGE, fail, quiet_pipe, say, say_json
from bester.cli.settings import ConfigOption, load_config, run_control
from bester.protocol.values import decode_text


def command(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The command. Default: list all.")] = None,
    arguments: Annotated[str, typer.Argument(metavar="[ARGUMENTS]", help="A JSON object.")] = "{}",
    config: ConfigOption = None,
) -> None:
    """Run any built-in command on the running server.

    It prints the result as JSON. The commands are listed in docs/protocol.md, section 5.

    This is for scripts, and for commands that have no subcommand of their own. Example: bester command kick
    '{"username": "t"}'
    """
    with quiet_pipe():
        if name is None:
            _list()
            return
        try:
            args = decode_text(arguments)
        except (ValueError, RecursionError) as error:
            fail(f"ARGUMENTS is not JSON: {error}", USAGE)
        if not isinstance(args, dict):
            fail('ARGUMENTS must be a JSON object, such as {"username": "t"}', USAGE)
        say_json(run_control(load_config(config), name, **args))


def _list() -> None:
    from bester.server.admin.commands import COMMANDS

    width = max(map(len, COMMANDS))
    for name, one in sorted(COMMANDS.items()):
        if not one.session:
            names = ", ".join(one.args.__struct_fields__)
            say(f"{name:{width}}  {one.help}" + (f"; {names}" if names else ""))
