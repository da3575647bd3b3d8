"""``bester command``: any built-in command, by its name in the table that clients, console and operator share."""

from __future__ import annotations

from typing import Annotated

import typer

from bester.cli.output import USAGE, fail, quiet_pipe, say, say_json
from bester.cli.settings import ConfigOption, load_config, run_control
from bester.protocol.values import decode_text


def command(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Without one: all that there are.")] = None,
    arguments: Annotated[str, typer.Argument(metavar="[ARGUMENTS]", help="A JSON object.")] = "{}",
    config: ConfigOption = None,
) -> None:
    """Run any built-in command on the running server.

    Its result is printed as JSON. The commands are those of docs/protocol.md, section 5.

    For scripts, and for what has no command of its own here. Example: bester command kick '{"username": "t"}'
    """
    with quiet_pipe():
        if name is None:
            _list()
            return
        try:
            args = decode_text(arguments)
        except (ValueError, RecursionError) as error:
            fail(f"the arguments are no JSON: {error}", USAGE)
        if not isinstance(args, dict):
            fail('the arguments are a JSON object, such as {"username": "t"}', USAGE)
        say_json(run_control(load_config(config), name, **args))


def _list() -> None:
    from bester.server.admin.commands import COMMANDS

    width = max(map(len, COMMANDS))
    for name, one in sorted(COMMANDS.items()):
        if not one.session:
            names = ", ".join(one.args.__struct_fields__)
            say(f"{name:{width}}  {one.help}" + (f"; {names}" if names else ""))
