"""``bester listen``: prints the messages that arrive, until it is told to end."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from bester.cli.connect import (
    CaOption,
    ClientSettings,
    FingerprintOption,
    ToOption,
    UserOption,
    client_settings,
    run,
    split_words,
)
from bester.cli.output import BAD, GOOD, quiet_pipe, warn
from bester.cli.passwords import PasswordStdinOption
from bester.cli.sending import show_message
from bester.cli.settings import JsonOption
from bester.timeouts import within

if TYPE_CHECKING:
    from bester import Client


def listen(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[URL]", help="The server, as with --to.", show_default=False)
    ] = None,
    to: ToOption = None,
    user: UserOption = None,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="End after this many messages.")] = None,
    type: Annotated[str | None, typer.Option("--type", help="Take only messages of this type.")] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0.001, metavar="SECONDS", help="End after this time.")
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="Print strings without quotes.")] = False,
    password_stdin: PasswordStdinOption = False,
    ca: CaOption = None,
    fingerprint: FingerprintOption = None,
    json: JsonOption = False,
) -> None:
    """Print the messages that arrive for an account, until ^C.

    It acknowledges the messages that it prints, and leaves all others for the account's next session: those of other
    types than --type, and those after --count.

    The password comes from BESTER_PASSWORD, --password-stdin, the URL, or a prompt.

    Exit status: 0 at the end, 1 if --timeout came before --count, 2 wrong usage, 3 no connection, 4 authentication
    failed.
    """
    url, _ = split_words(words or [], (), to)
    where = client_settings(url, user, password_stdin, ca, fingerprint)
    try:
        with quiet_pipe():
            complete = run(lambda: _listen(where, count, type, timeout, text, json))
    except KeyboardInterrupt:
        raise typer.Exit(GOOD) from None
    raise typer.Exit(GOOD if complete else BAD)


async def _listen(
    where: ClientSettings, count: int | None, type: str | None, timeout_s: float | None, text: bool, json: bool
) -> bool:
    """Returns whether as many messages arrived as were wanted."""
    try:
        mail = True if type is None else [type]
        async with within(timeout_s), where.client(features=["ack"], mail=mail) as client:
            warn(f"listening on {client.server or 'the server'}")
            ended = _watch_output(client)
            async for message in client:
                show_message(message, text, json)
                if count is not None:
                    count -= 1
                    if not count:
                        return True
            return ended.is_set()
    except TimeoutError:
        return count is None


def _watch_output(client: Client) -> asyncio.Event:
    """Closes the client when the reader of our output is gone, even while nothing is written."""
    gone = asyncio.Event()
    output = sys.stdout.fileno()
    if not stat.S_ISFIFO(os.fstat(output).st_mode):
        return gone
    loop = asyncio.get_running_loop()
    closing: list[asyncio.Task[None]] = []

    def on_gone() -> None:
        loop.remove_reader(output)
        gone.set()
        closing.append(loop.create_task(client.close()))

    # The pipe never has anything to read: it becomes readable when it breaks.
    loop.add_reader(output, on_gone)
    return gone
