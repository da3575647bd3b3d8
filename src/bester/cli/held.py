"""``bester held``: decides about messages that guards hold for consent, as the operator or as an account."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from bester.cli.connect import CaOption, FingerprintOption, UserOption, client_settings, run
from bester.cli.output import USAGE, fail, quiet_pipe, say, say_json, say_table
from bester.cli.passwords import PasswordStdinOption
from bester.cli.settings import ConfigOption, JsonOption, load_config, run_control

held = typer.Typer(
    name="held",
    no_args_is_help=True,
    help="Decide about held messages. Guards hold them for consent: the operators', or with --to an account's.",
)

ToOption = Annotated[
    str | None,
    typer.Option("--to", "-t", metavar="URL", help="The server, for an account; without it, this machine's operator."),
]
Ids = Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Messages, by the ids that list shows.")]
FromUser = Annotated[str | None, typer.Option("--from-user", metavar="NAME", help="All messages of this account.")]
FromServer = Annotated[str | None, typer.Option("--from-server", metavar="NAME", help="All messages of this server.")]


@held.command("list")
def list_(
    after: Annotated[int, typer.Option(min=0, help="Only messages after this id.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=100, help="The most messages.")] = 100,
    to: ToOption = None,
    user: UserOption = None,
    password_stdin: PasswordStdinOption = False,
    ca: CaOption = None,
    fingerprint: FingerprintOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """List held messages, oldest first, and the senders that are trusted."""
    command = _Command(to, user, password_stdin, ca, fingerprint, config)
    found = command.run("listHeld", after=after, limit=limit)
    with quiet_pipe():
        if json:
            say_json(found)
            return
        if found["held"]:
            say_table(("id", "from", "type", "since", "guard", "bytes", "data"), map(_cells, found["held"]))
        else:
            say("no messages")
        for sender in found["trusted"]:
            say(f"trusted: {_name(sender)}")


@held.command()
def release(
    ids: Ids = None,
    from_user: FromUser = None,
    from_server: FromServer = None,
    always: Annotated[bool, typer.Option("--always", help="Also what the sender will send.")] = False,
    to: ToOption = None,
    user: UserOption = None,
    password_stdin: PasswordStdinOption = False,
    ca: CaOption = None,
    fingerprint: FingerprintOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Consent to messages, which then go to their handlers."""
    chosen = _chosen(ids, from_user, from_server)
    if always and ids:
        fail("--always is for --from-user or --from-server", USAGE)
    command = _Command(to, user, password_stdin, ca, fingerprint, config)
    _done(json, command.run("release", always=always, **chosen), "released")


@held.command()
def refuse(
    ids: Ids = None,
    from_user: FromUser = None,
    from_server: FromServer = None,
    to: ToOption = None,
    user: UserOption = None,
    password_stdin: PasswordStdinOption = False,
    ca: CaOption = None,
    fingerprint: FingerprintOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Remove messages permanently; a sender whose messages are removed is no longer trusted."""
    chosen = _chosen(ids, from_user, from_server)
    command = _Command(to, user, password_stdin, ca, fingerprint, config)
    _done(json, command.run("refuse", **chosen), "removed")


class _Command:
    """Runs built-in commands: on the control socket, or with a URL as an account."""

    def __init__(
        self,
        to: str | None,
        user: str | None,
        password_stdin: bool,
        ca: Path | None,
        fingerprint: str | None,
        config: Path | None,
    ) -> None:
        self._config = config
        self._client = client_settings(to, user, password_stdin, ca, fingerprint) if to is not None else None

    def run(self, name: str, **args: Any) -> Any:
        """Returns the command's result; a failure ends the process."""
        settings = self._client
        if settings is None:
            return run_control(load_config(self._config), name, **args)

        async def work() -> Any:
            async with settings.client(mail=False) as client:
                return await client.builtin(name, **args)

        return run(work)


def _chosen(ids: list[int] | None, user: str | None, server: str | None) -> dict[str, Any]:
    if bool(ids) + (user is not None) + (server is not None) != 1:
        fail("give ids, or --from-user, or --from-server", USAGE)
    return {"ids": ids or None, "user": user, "server": server}


def _done(json: bool, result: dict[str, int], what: str) -> None:
    if json:
        say_json(result)
    else:
        say(f"{result['messages']} messages {what}")


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["created"]))
    data = row["data"] if len(row["data"]) <= 60 else row["data"][:57] + "..."
    return row["id"], _name(row["from"]), row["type"], since, row["guard"], row["bytes"], data


def _name(sender: dict[str, Any]) -> str:
    if sender.get("user") is not None:
        return f"user {sender['user']}"
    return f"server {sender['server']}" if sender.get("server") is not None else "a server without a name"
