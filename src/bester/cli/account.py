"""``bester account``: the accounts of a server on this machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from bester.cli.output import USAGE, fail, say, say_json
from bester.cli.passwords import PasswordStdinOption, read_password
from bester.cli.settings import ConfigOption, JsonOption, load_config

if TYPE_CHECKING:
    from pathlib import Path

    from bester.cli.accounts import Accounts

account = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Create, list and remove accounts. The server is on this machine, running or not.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The account's name.", show_default=False)]


@account.command()
def add(
    name: NameArgument,
    config: ConfigOption = None,
    admin: Annotated[bool, typer.Option("--admin", help="Let the account use the operator's commands.")] = False,
    password_stdin: PasswordStdinOption = False,
    json: JsonOption = False,
) -> None:
    """Create an account. The password comes from BESTER_PASSWORD, --password-stdin, or a prompt."""
    accounts = _open(config)
    made = accounts.add(name, _new_password(password_stdin), admin)
    _done(json, {"username": made, "roles": ["admin"] if admin else []}, f"the account {made} was created")


@account.command()
def remove(name: NameArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Remove an account; its sessions end."""
    _open(config).remove(name)
    _done(json, {"username": name}, f"the account {name} was removed")


@account.command()
def password(
    name: NameArgument,
    config: ConfigOption = None,
    password_stdin: PasswordStdinOption = False,
    json: JsonOption = False,
) -> None:
    """Change an account's password; its sessions end."""
    _open(config).set_password(name, _new_password(password_stdin))
    _done(json, {"username": name}, f"the password of the account {name} was changed")


@account.command("list")
def list_accounts(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the accounts, sorted."""
    from bester.cli.accounts import all_rows

    rows = all_rows(_open(config))
    if json:
        for row in rows:
            say_json(row._asdict())
        return
    width = max((len(row.username) for row in rows), default=0)
    for row in rows:
        made = time.strftime("%Y-%m-%d", time.localtime(row.created))
        say(f"{row.username:{width}}  {made}  {', '.join(row.roles)}".rstrip())


@account.command()
def role(
    name: NameArgument,
    config: ConfigOption = None,
    add: Annotated[list[str] | None, typer.Option("--add", metavar="ROLE", help="Can be repeated.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="ROLE", help="Can be repeated.")] = None,
    json: JsonOption = False,
) -> None:
    """Show an account's roles, or change them."""
    from bester.cli.accounts import find_row

    if set(add or ()) & set(remove or ()):
        fail("--add and --remove name the same role", USAGE)
    accounts = _open(config)
    row = find_row(accounts, name)
    roles = [one for one in dict.fromkeys([*row.roles, *(add or ())]) if one not in (remove or ())]
    if roles != row.roles:
        accounts.set_roles(row.username, roles)
    _done(json, {"username": row.username, "roles": roles}, f"{row.username}: {', '.join(roles) or 'no roles'}")


@account.command()
def token(
    name: NameArgument,
    config: ConfigOption = None,
    days: Annotated[int, typer.Option("--days", min=1, max=3650, metavar="N", help="How long it is good for.")] = 365,
    json: JsonOption = False,
) -> None:
    """Make a token, with which a program uses the account.

    It is for programs such as a handler on another machine, and is shown once. It ends with a new password, and with
    the account.
    """
    made = _open(config).add_token(name, days)
    _done(json, {"username": name, "token": made}, made)


def _open(config: Path | None) -> Accounts:
    from bester.cli.accounts import open_accounts

    return open_accounts(load_config(config))


def _new_password(from_stdin: bool) -> str:
    found = read_password(from_stdin, new=True)
    assert found is not None
    return found


def _done(json: bool, row: dict[str, object], text: str) -> None:
    if json:
        say_json(row)
    else:
        say(text)
