"""Accounts in the embedded database: one file, nothing to install."""

from __future__ import annotations

import asyncio
import builtins
import os
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from bester.clock import wall_time
from bester.errors import AccountExists, UnknownAccount
from bester.store.database import Database, SqliteStore
from bester.store.ports import MAX_TOKENS, Account, StoredAccount

_ADD_TOKEN = """INSERT OR REPLACE INTO token (token_hash, username, expires, number)
    VALUES (?1, ?2, ?3, (SELECT coalesce(max(number), 0) + 1 FROM token WHERE username = ?2))"""
_DROP_OLDEST = """DELETE FROM token WHERE username = ? AND number <= (
    SELECT number FROM token WHERE username = ? ORDER BY number DESC LIMIT 1 OFFSET ?)"""

MAX_KNOWN = 100_000
"""How many names of accounts are in memory, so that messages for them need no query."""

_roles = msgspec.json.Decoder(tuple[str, ...])


class SqliteAccounts(SqliteStore):
    """Accounts and their tokens, in a database, which other stores may share.

    Nothing else removes accounts from it, for no other process has it: a name that was found exists until it is removed
    here.
    """

    def __init__(
        self, database: Database | str | os.PathLike[str], on_lost: Callable[[BaseException], None] | None = None
    ) -> None:
        super().__init__(database, on_lost)
        self._known: set[str] = set()
        """Names of accounts that exist."""
        self._removals = 0
        """How many accounts were to be removed."""

    async def add(
        self, username: str, password_hash: str, roles: tuple[str, ...] = (), created: float | None = None
    ) -> None:
        row = (username, password_hash, _encoded(roles), wall_time() if created is None else created)

        def work(connection: sqlite3.Connection) -> None:
            try:
                connection.execute(
                    "INSERT INTO account (username, password_hash, roles, created) VALUES (?,?,?,?)", row
                )
            except sqlite3.IntegrityError as error:
                raise AccountExists from error

        await self.database.write(work, adds=True)

    async def find(self, username: str) -> StoredAccount | None:
        return await self.database.read(
            lambda connection: _stored(
                connection.execute(
                    "SELECT username, roles, created, password_hash FROM account WHERE username = ?", (username,)
                )
            )
        )

    async def exists(self, usernames: Sequence[str]) -> set[str]:
        wanted = set(usernames)
        unknown = wanted - self._known
        if not unknown:
            return wanted
        removals = self._removals
        found = await self._find_names([name for name in usernames if name in unknown])
        if removals == self._removals:  # else one of them may be gone again
            if len(self._known) + len(found) > MAX_KNOWN:
                self._known.clear()
            self._known |= found
        return wanted - unknown | found

    def _find_names(self, usernames: Sequence[str]) -> asyncio.Future[set[str]]:
        names = _encoded(usernames)
        return self.database.read(
            lambda connection: {
                name
                for (name,) in connection.execute(
                    "SELECT username FROM account WHERE username IN (SELECT value FROM json_each(?))", (names,)
                )
            }
        )

    async def set_password(self, username: str, password_hash: str) -> None:
        def work(connection: sqlite3.Connection) -> None:
            _change(connection, "UPDATE account SET password_hash = ? WHERE username = ?", password_hash, username)
            connection.execute("DELETE FROM token WHERE username = ?", (username,))

        await self.database.write(work)

    async def set_roles(self, username: str, roles: tuple[str, ...]) -> None:
        text = _encoded(roles)
        await self.database.write(
            lambda connection: _change(connection, "UPDATE account SET roles = ? WHERE username = ?", text, username)
        )

    async def remove(self, username: str) -> None:
        self._removals += 1
        self._known.discard(username)
        await self.database.write(
            lambda connection: _change(connection, "DELETE FROM account WHERE username = ?", username)
        )

    async def list(self, after: str = "", limit: int = 1000) -> builtins.list[Account]:
        return await self.database.read(
            lambda connection: [
                Account(username, _roles.decode(roles), created)
                for username, roles, created in connection.execute(
                    "SELECT username, roles, created FROM account WHERE username > ? ORDER BY username LIMIT ?",
                    (after, limit),
                )
            ]
        )

    async def count(self) -> int:
        return await self.database.read(_count)

    async def add_token(self, username: str, token_hash: bytes, expires: float, now: float) -> None:
        def work(connection: sqlite3.Connection) -> None:
            try:
                connection.execute(_ADD_TOKEN, (token_hash, username, expires))
            except sqlite3.IntegrityError as error:
                raise UnknownAccount from error
            connection.execute(_DROP_OLDEST, (username, username, MAX_TOKENS))

        await self.database.write(work, adds=True)

    async def find_token(self, token_hash: bytes, now: float) -> StoredAccount | None:
        return await self.database.read(
            lambda connection: _stored(
                connection.execute(
                    "SELECT username, roles, created, password_hash FROM token JOIN account USING (username)"
                    " WHERE token_hash = ? AND expires > ?",
                    (token_hash, now),
                )
            )
        )

    async def remove_token(self, token_hash: bytes) -> None:
        await self.database.write(
            lambda connection: connection.execute("DELETE FROM token WHERE token_hash = ?", (token_hash,)).close()
        )

    async def purge_tokens(self, now: float) -> None:
        await self.database.write(
            lambda connection: connection.execute("DELETE FROM token WHERE expires <= ?", (now,)).close()
        )


def _change(connection: sqlite3.Connection, statement: str, *values: str) -> None:
    if connection.execute(statement, values).rowcount == 0:
        raise UnknownAccount


def _count(connection: sqlite3.Connection) -> int:
    (number,) = connection.execute("SELECT count(*) FROM account").fetchone()
    return int(number)


def _stored(rows: sqlite3.Cursor) -> StoredAccount | None:
    row: tuple[Any, ...] | None = rows.fetchone()
    if row is None:
        return None
    username, roles, created, password_hash = row
    return StoredAccount(username, _roles.decode(roles), created, password_hash)


def _encoded(texts: Sequence[str]) -> str:
    return msgspec.json.encode(texts).decode()
