"""The operator's and user's command: ``bester``.

Every command lives in its own file. Nothing heavy is imported before a command runs, so that ``bester --help`` is
quick.
"""

from __future__ import annotations

from typing import Annotated

import typer

from bester import __version__
from bester.cli import handlers
from bester.cli.account import account
from bester.cli.backup import backup
from bester.cli.bench import bench
from bester.cli.certificate import certificate
from bester.cli.chat import chat
from bester.cli.check import check
from bester.cli.command import command
from bester.cli.demo import demo
from bester.cli.gadget import gadget
from bester.cli.handler import handler
from bester.cli.importing import import_
from bester.cli.init import init
from bester.cli.listening import listen
from bester.cli.operate import drain, kick, reload
from bester.cli.output import EXIT_STATUS
from bester.cli.peer import peer
from bester.cli.queue import queue
from bester.cli.sending import ask, send
from bester.cli.service import service
from bester.cli.status import status
from bester.cli.trace import trace
from bester.cli.why import why

app = typer.Typer(
    name="bester",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog=EXIT_STATUS,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"bester {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Talk to Bester servers, and run them. The server itself is: besterd."""


for one in (init, check, send, ask, listen, chat, status, trace, why, reload, kick, drain, backup, demo, bench):
    app.command()(one)
app.command()(service)
app.command()(command)
app.command("import")(import_)
app.add_typer(account, name="account")
app.add_typer(queue, name="queue")
handlers.add_to(handler)
app.add_typer(handler, name="handler")
app.add_typer(gadget, name="gadget")
app.add_typer(certificate, name="certificate")
app.add_typer(peer, name="peer")


def main() -> None:
    """Runs the command that the command line names."""
    app()
