"""Access to a server's accounts: through the running server, or directly in its store if the server does not run.

Direct access lets an operator create accounts before the first start, by the same rules.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from bester.cli.output import BAD, NO_CONNECTION, fail
from bester.clock import wall_time

if TYPE_CHECKING:
    from pathlib import Path

    from bester.config import Config
    from bester.store.ports import AccountStore, MessageStore

T = TypeVar("T")

PAGE = 1000
ADMIN = "admin"


class Row(NamedTuple):
    """An account in a listing."""

    username: str
    roles: list[str]
    created: float


class Accounts(Protocol):
    """The operations on accounts; a refusal ends the command."""

    def add(self, name: str, password: str, admin: bool) -> str:
        """Creates an account and returns its canonical name."""

    def remove(self, name: str) -> None:
        """Removes an account."""

    def set_password(self, name: str, password: str) -> None:
        """Changes an account's password."""

    def set_roles(self, name: str, roles: list[str]) -> None:
        """Replaces an account's roles."""

    def add_token(self, name: str, days: int) -> str:
        """Makes a token for an account, and returns it."""

    def page(self, after: str) -> list[Row]:
        """Returns the next accounts, sorted; a page of fewer than :data:`PAGE` is the last one."""


def open_accounts(config: Config) -> Accounts:
    """Returns access to the accounts: through the server that runs with this configuration, or in its store."""
    from bester.cli.control import Control, ControlError, NotRunning

    try:
        Control(config.control.address).close()
        return _Running(config.control.address)
    except NotRunning as error:
        from bester.config.nodes import has_private_nats

        if has_private_nats(config):
            fail(f"{error}; besterd --nodes keeps the accounts, so it must be running", NO_CONNECTION)
        return _Stored(config)
    except ControlError as error:
        fail(str(error), NO_CONNECTION)


class _Running:
    """The accounts of a running server."""

    def __init__(self, address: Path) -> None:
        self._address = address

    def _run(self, command: str, **args: object) -> Any:
        from bester.cli.control import CommandRefused, Control, ControlError

        try:
            with Control(self._address) as control:
                return control.run(command, **args)
        except CommandRefused as error:
            fail(str(error), BAD)
        except ControlError as error:
            fail(str(error), NO_CONNECTION)

    def add(self, name: str, password: str, admin: bool) -> str:
        return str(self._run("addAccount", username=name, password=password, admin=admin)["username"])

    def remove(self, name: str) -> None:
        self._run("removeAccount", username=name)

    def set_password(self, name: str, password: str) -> None:
        self._run("setPassword", username=name, password=password)

    def set_roles(self, name: str, roles: list[str]) -> None:
        self._run("setRoles", username=name, roles=roles)

    def add_token(self, name: str, days: int) -> str:
        return str(self._run("addToken", username=name, days=days)["token"])

    def page(self, after: str) -> list[Row]:
        found = self._run("listAccounts", after=after, limit=PAGE)
        return [Row(row["username"], list(row["roles"]), row["created"]) for row in found]


class _Stored:
    """The accounts in the store of a server that does not run."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def _run(self, work: Callable[[AccountStore], Awaitable[T]]) -> T:
        from bester.server.stores import open_stores

        async def opened() -> T:
            async with open_stores(self._config, messages=False) as (store, _):
                return await work(store)

        return _finished(opened())

    def _run_with_messages(self, work: Callable[[AccountStore, MessageStore], Awaitable[T]]) -> T:
        from bester.server.stores import open_stores

        async def opened() -> T:
            async with open_stores(self._config) as stores:
                return await work(*stores)

        return _finished(opened())

    def _name(self, name: str) -> str:
        from bester.errors import InvalidName
        from bester.protocol.names import username

        try:
            return username(name)
        except InvalidName as error:
            fail(f"{error.message} ({error.code})", BAD)

    def add(self, name: str, password: str, admin: bool) -> str:
        canonical = self._name(name)
        roles = (ADMIN,) if admin else ()

        async def work(store: AccountStore) -> None:
            await store.add(canonical, await _hashed(password), roles, wall_time())

        self._run(work)
        return canonical

    def remove(self, name: str) -> None:
        from bester.errors import UnknownAccount

        canonical = self._name(name)

        async def work(store: AccountStore, messages: MessageStore) -> None:
            known = True
            try:
                await store.remove(canonical)
            except UnknownAccount:
                known = False
            # As on the running server, mail that an earlier removal has left is removed too.
            if not await messages.clear_mailbox(canonical) and not known:
                raise UnknownAccount

        self._run_with_messages(work)

    def set_password(self, name: str, password: str) -> None:
        canonical = self._name(name)

        async def work(store: AccountStore) -> None:
            await store.set_password(canonical, await _hashed(password))

        self._run(work)

    def set_roles(self, name: str, roles: list[str]) -> None:
        from bester.server.accounts.service import MAX_ROLES

        if len(roles) > MAX_ROLES or not all(role.isprintable() and 0 < len(role) <= 64 for role in roles):
            fail(f"at most {MAX_ROLES} roles, each of 1 to 64 printable characters (badArguments)", BAD)
        canonical = self._name(name)
        self._run(lambda store: store.set_roles(canonical, tuple(roles)))

    def add_token(self, name: str, days: int) -> str:
        from bester.store.tokens import new_token

        canonical = self._name(name)
        token, hashed = new_token()
        now = wall_time()
        self._run(lambda store: store.add_token(canonical, hashed, now + days * 86_400, now))
        return token

    def page(self, after: str) -> list[Row]:
        found = self._run(lambda store: store.list(after, PAGE))
        return [Row(account.username, list(account.roles), account.created) for account in found]


def _finished(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end; a refusal ends the command."""
    from bester.errors import BesterError

    try:
        return asyncio.run(work)
    except BesterError as error:
        fail(f"{error.message} ({error.code})", BAD)


async def _hashed(password: str) -> str:
    from bester.store.passwords import Passwords

    passwords = Passwords()
    try:
        return await passwords.hash(password)
    finally:
        passwords.close()


def all_rows(accounts: Accounts) -> list[Row]:
    """Returns all accounts, sorted."""
    rows: list[Row] = []
    while True:
        page = accounts.page(rows[-1].username if rows else "")
        rows += page
        if len(page) < PAGE:
            return rows


def find_row(accounts: Accounts, name: str) -> Row:
    """Returns one account; ends the command if there is none."""
    from bester.errors import InvalidName, UnknownAccount
    from bester.protocol.names import username

    try:
        canonical = username(name)
    except InvalidName as error:
        fail(f"{error.message} ({error.code})", BAD)
    row = next((row for row in all_rows(accounts) if row.username == canonical), None)
    if row is None:
        fail(f"{UnknownAccount.meaning} ({UnknownAccount.code})", BAD)
    return row
