"""Accounts in the embedded database: one file, nothing to install."""

from __future__ import annotations

import builtins
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from bester.errors import AccountExists, UnknownAccount
from bester.store.database import Database
from bester.store.ports import Account, StoredAccount

MIGRATIONS = (
    (
        """CREATE TABLE account (
            username TEXT PRIMARY KEY NOT NULL,
            password_hash TEXT NOT NULL,
            roles TEXT NOT NULL, -- a JSON list
            created REAL NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE token (
            token_hash BLOB PRIMARY KEY NOT NULL,
            username TEXT NOT NULL REFERENCES account ON DELETE CASCADE,
            expires REAL NOT NULL
        ) WITHOUT ROWID""",
        "CREATE INDEX token_by_username ON token (username)",
        "CREATE INDEX token_by_expires ON token (expires)",
    ),
)
"""Only ever appended to: files of every earlier version are out there."""

_roles = msgspec.json.Decoder(tuple[str, ...])


class SqliteAccounts:
    """The accounts of the file at ``path``; ``on_lost`` as for :class:`~bester.store.database.Database`."""

    def __init__(self, path: str | os.PathLike[str], on_lost: Callable[[BaseException], None] | None = None) -> None:
        self.database = Database(path, MIGRATIONS, on_lost)

    async def open(self) -> None:
        await self.database.open()

    async def close(self) -> None:
        await self.database.close()

    async def add(
        self, username: str, password_hash: str, roles: tuple[str, ...] = (), created: float | None = None
    ) -> None:
        row = (username, password_hash, _encoded(roles), time.time() if created is None else created)

        def work(connection: sqlite3.Connection) -> None:
            try:
                connection.execute(
                    "INSERT INTO account (username, password_hash, roles, created) VALUES (?,?,?,?)", row
                )
            except sqlite3.IntegrityError as error:
                raise AccountExists from error

        await self.database.write(work)

    async def find(self, username: str) -> StoredAccount | None:
        return await self.database.read(
            lambda connection: _stored(
                connection.execute(
                    "SELECT username, roles, created, password_hash FROM account WHERE username = ?", (username,)
                )
            )
        )

    async def exists(self, usernames: Sequence[str]) -> set[str]:
        names = _encoded(usernames)
        return await self.database.read(
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

    async def add_token(self, username: str, token_hash: bytes, expires: float) -> None:
        def work(connection: sqlite3.Connection) -> None:
            try:
                connection.execute(
                    "INSERT OR REPLACE INTO token (token_hash, username, expires) VALUES (?, ?, ?)",
                    (token_hash, username, expires),
                )
            except sqlite3.IntegrityError as error:
                raise UnknownAccount from error

        await self.database.write(work)

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
