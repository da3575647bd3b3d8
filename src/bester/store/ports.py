"""What the server asks of a store; each driver implements it, and passes the same tests.

Usernames are canonical already (``bester.protocol.names``), times are seconds since 1970. Every method can raise
``Internal`` when the store cannot be reached, and a cancelled call may or may not have had its effect.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Protocol

import msgspec


class Account(msgspec.Struct, frozen=True):
    """Who somebody is."""

    username: str
    roles: tuple[str, ...]
    created: float


class StoredAccount(Account, frozen=True):
    """An account with what its password is checked against."""

    password_hash: str


class AccountStore(Protocol):
    """Accounts and their tokens (docs/protocol.md, section 5).

    What a method changed is on disk when it returns, as far as the driver promises that at all.
    """

    async def open(self) -> None:
        """Gets ready; called once, before all others.

        Raises:
            BadConfiguration: the store cannot be used as it is configured.
        """

    async def close(self) -> None:
        """Finishes what was asked for and lets go; the second time it does nothing."""

    async def add(
        self, username: str, password_hash: str, roles: tuple[str, ...] = (), created: float | None = None
    ) -> None:
        """Adds an account, created now unless said otherwise.

        Raises:
            AccountExists: the name is taken.
        """

    async def find(self, username: str) -> StoredAccount | None:
        """Returns the account of this name."""

    async def exists(self, usernames: Sequence[str]) -> set[str]:
        """Returns those of the names that are accounts, in one query."""

    async def set_password(self, username: str, password_hash: str) -> None:
        """Replaces the password and ends the account's tokens.

        Raises:
            UnknownAccount: there is none.
        """

    async def set_roles(self, username: str, roles: tuple[str, ...]) -> None:
        """Replaces the roles.

        Raises:
            UnknownAccount: there is none.
        """

    async def remove(self, username: str) -> None:
        """Removes the account and ends its tokens.

        Raises:
            UnknownAccount: there is none.
        """

    async def list(self, after: str = "", limit: int = 1000) -> builtins.list[Account]:
        """Returns up to ``limit`` accounts that sort after a name, by code points."""

    async def count(self) -> int:
        """Returns how many accounts there are."""

    async def add_token(self, username: str, token_hash: bytes, expires: float) -> None:
        """Adds a token that is good until it expires.

        Raises:
            UnknownAccount: there is none of this name.
        """

    async def find_token(self, token_hash: bytes, now: float) -> StoredAccount | None:
        """Returns the account of a token that is good at this time."""

    async def remove_token(self, token_hash: bytes) -> None:
        """Ends a token, if there is such."""

    async def purge_tokens(self, now: float) -> None:
        """Frees the room of the tokens that have expired."""
