"""Connects the commands that are clients to their server, and turns failures into exit statuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from bester.cli.output import BAD, NO_CONNECTION, NO_ENTRY, USAGE, fail
from bester.cli.passwords import read_password

if TYPE_CHECKING:
    from bester import Client

T = TypeVar("T")

ToOption = Annotated[
    str | None,
    typer.Option(
        "--to",
        "-t",
        envvar="BESTER_URL",
        metavar="URL",
        help="bester://HOST:PORT, besters://HOST:PORT (TLS), or bester+unix:/PATH.",
    ),
]
UserOption = Annotated[
    str | None,
    typer.Option("--user", "-u", envvar="BESTER_USER", metavar="NAME", help="The account, if it is not in the URL."),
]
CaOption = Annotated[
    Path | None,
    typer.Option("--ca", metavar="FILE", help="TLS: the authorities (PEM) that prove the server's certificate."),
]
FingerprintOption = Annotated[
    str | None, typer.Option("--fingerprint", metavar="SHA256", help="TLS: the only certificate that is accepted.")
]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", min=0.001, max=86400.0, metavar="SECONDS", help="The longest wait.")
]


@dataclass(frozen=True)
class ClientSettings:
    """The server, the account and the TLS settings of a client."""

    url: str
    user: str | None
    password: str | None
    ca: Path | None
    fingerprint: str | None

    def client(self, *, mail: bool | list[str], **more: Any) -> Client:
        """Returns a client that is not connected yet; a wrong URL ends the command.

        Args:
            mail: which of the account's messages the command takes; other sessions do not get those.
            more: other arguments of :class:`bester.Client`.
        """
        from bester import Client

        try:
            return Client(
                self.url,
                username=self.user,
                password=self.password,
                cafile=str(self.ca) if self.ca is not None else None,
                fingerprint=self.fingerprint,
                mail=mail,
                **more,
            )
        except ValueError as error:
            fail(str(error), USAGE)


def client_settings(
    url: str | None, user: str | None, password_stdin: bool, ca: Path | None, fingerprint: str | None
) -> ClientSettings:
    """Returns the settings of a client, with the password; ends the command if something is missing."""
    from bester.client.url import parse_url

    if not url:
        fail("the server is missing: give its URL with --to, or in BESTER_URL", USAGE)
    try:
        target = parse_url(url, user, None, str(ca) if ca is not None else None, fingerprint)
    except ValueError as error:
        fail(str(error), USAGE)
    password = None
    if password_stdin or target.password is None:
        password = read_password(password_stdin)
    return ClientSettings(url, user, password, ca, fingerprint)


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs a client's work; its failures end the command with their exit status.

    Raises:
        KeyboardInterrupt: the command was interrupted.
    """
    from bester.errors import BesterError
    from bester.protocol.reports import AuthenticationError, ClientError, ConnectError, ConnectionClosed

    try:
        return asyncio.run(work())
    except AuthenticationError as error:
        fail(str(error), NO_ENTRY)
    except (ConnectError, ConnectionClosed) as error:
        fail(str(error), NO_CONNECTION)
    except (ClientError, BesterError) as error:
        fail(str(error), BAD)


def split_words(words: list[str], names: tuple[str, ...], to: str | None) -> tuple[str | None, list[str]]:
    """Returns the URL and the other arguments, which are named ``names``; the URL may come before them."""
    if words and words[0].startswith(("bester://", "besters://", "bester+unix:")):
        to, words = words[0], words[1:]
    elif words and ("://" in words[0] or len(words) == len(names) + 1):
        to, words = words[0], words[1:]  # parse_url reports its error
    if len(words) != len(names):
        verb = "is" if len(names) == 1 else "are"
        fail(f"{' and '.join(names)} {verb} required; got {len(words)} arguments (see --help)", USAGE)
    return to, words
