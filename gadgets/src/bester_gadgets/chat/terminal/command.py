"""``bester chat``: chat in the terminal (docs/chat.md)."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bester.cli.connect import CaOption, ClientSettings, FingerprintOption, ToOption, client_settings, run
from bester.cli.output import BAD, USAGE, fail
from bester.installation import how_to_add


def chat(
    address: Annotated[str, typer.Argument(metavar="USER@SERVER", help="Who you are: the account and its server.")],
    to: ToOption = None,
    ca: CaOption = None,
    fingerprint: FingerprintOption = None,
) -> None:
    """Chat with people of this server and of others.

    The server is looked for at besters://SERVER, or where --to says. The password comes from BESTER_PASSWORD, the URL,
    or a prompt.

    Exit status: 0 at the end, 1 if it is another server, 2 wrong usage, 3 no connection, 4 authentication failed.
    """
    from bester_gadgets.chat.addresses import BadChatAddress, parse_person

    try:
        who = parse_person(address)
    except BadChatAddress as error:
        fail(str(error), USAGE)
    try:
        from bester_gadgets.chat.terminal.app import ChatApp
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("textual"):
            raise
        fail(f"bester chat needs textual: {how_to_add('chat', to='bester-gadgets')}", USAGE)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        fail("bester chat needs a terminal", USAGE)
    way = client_settings(to or f"besters://{who.server}", who.name, False, ca, fingerprint)
    found = run(lambda: _look(way))
    if found is not None and found.lower() != who.server:
        fail(f"the server there is {found}, and not {who.server}", BAD)
    app = ChatApp(
        way.url,
        username=way.user,
        password=way.password,
        cafile=str(way.ca) if way.ca is not None else None,
        fingerprint=way.fingerprint,
    )
    app.run()
    if app.return_code:
        raise typer.Exit(app.return_code)


async def _look(way: ClientSettings) -> str | None:
    """Returns the name of the server there, so that what is wrong is told before the screen changes."""
    async with way.client(mail=False) as client:
        return client.server
