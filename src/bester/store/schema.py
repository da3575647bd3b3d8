"""The tables of the embedded database, and the migrations from each version to the next."""

from __future__ import annotations

from bester.clock import CLOCK_SCHEMA

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
    (
        # Tokens are numbered within their account, so that the oldest can be replaced.
        "ALTER TABLE token ADD COLUMN number INTEGER NOT NULL DEFAULT 0",
        """UPDATE token SET number = n FROM (
            SELECT token_hash AS hash, row_number() OVER (PARTITION BY username ORDER BY expires) AS n FROM token
        ) WHERE token_hash = hash""",
        "DROP INDEX token_by_username",
        "CREATE INDEX token_by_username ON token (username, number)",
        # Positions are never used again, even if the last row is removed.
        "CREATE TABLE position (name TEXT PRIMARY KEY NOT NULL, last INTEGER NOT NULL) WITHOUT ROWID",
        "INSERT INTO position VALUES ('letter', 0), ('outgoing', 0)",
        # The sizes of mailboxes that are not empty. The accounts may be in another store.
        """CREATE TABLE mailbox (
            username TEXT PRIMARY KEY NOT NULL,
            messages INTEGER NOT NULL,
            bytes INTEGER NOT NULL
        ) WITHOUT ROWID""",
        # The data is the last column, so that no other column has to be searched for behind it.
        """CREATE TABLE letter (
            position INTEGER PRIMARY KEY NOT NULL,
            username TEXT NOT NULL,
            delivery_id TEXT NOT NULL,
            expires REAL NOT NULL,
            size INTEGER NOT NULL,
            type TEXT NOT NULL,
            data BLOB NOT NULL
        )""",
        "CREATE UNIQUE INDEX letter_by_delivery_id ON letter (username, delivery_id)",
        "CREATE INDEX letter_by_username ON letter (username, position)",
        "CREATE INDEX letter_by_expires ON letter (expires)",
        """CREATE TABLE outgoing (
            position INTEGER PRIMARY KEY NOT NULL,
            destination TEXT NOT NULL,
            message_id TEXT NOT NULL,
            created REAL NOT NULL,
            dead INTEGER NOT NULL DEFAULT 0,
            tries INTEGER NOT NULL DEFAULT 0,
            next_try REAL NOT NULL DEFAULT 0,
            last_error TEXT NOT NULL DEFAULT '',
            hops INTEGER NOT NULL,
            size INTEGER NOT NULL,
            trace TEXT NOT NULL,
            type TEXT NOT NULL,
            data BLOB NOT NULL
        )""",
        "CREATE UNIQUE INDEX outgoing_by_message_id ON outgoing (destination, message_id)",
        # Lets queries sum what waits for each destination without reading the messages.
        "CREATE INDEX outgoing_by_destination ON outgoing (destination, dead, position, created, size)",
        "CREATE INDEX outgoing_by_created ON outgoing (created) WHERE dead = 0",
        "CREATE INDEX outgoing_dead ON outgoing (position) WHERE dead = 1",
        """CREATE TABLE once (
            key BLOB PRIMARY KEY NOT NULL,
            created REAL NOT NULL,
            digest BLOB NOT NULL,
            report BLOB NOT NULL
        ) WITHOUT ROWID""",
        "CREATE INDEX once_by_created ON once (created)",
    ),
    # Lifetimes go by a steady clock, which begins at the system time of the first start with this version.
    (CLOCK_SCHEMA,),
    # New delivery ids are near each other, and accounts are not: letters for many accounts share the index's pages.
    (
        "DROP INDEX letter_by_delivery_id",
        "CREATE UNIQUE INDEX letter_by_delivery_id ON letter (delivery_id, username)",
    ),
    # Messages that wait for consent. The holder is an account, or "" for the operators.
    (
        "INSERT INTO position VALUES ('held', 0)",
        """CREATE TABLE held (
            position INTEGER PRIMARY KEY NOT NULL,
            holder TEXT NOT NULL,
            sender TEXT NOT NULL,
            released INTEGER NOT NULL DEFAULT 0,
            id TEXT NOT NULL UNIQUE,
            created REAL NOT NULL,
            size INTEGER NOT NULL,
            head BLOB NOT NULL, -- JSON
            data BLOB NOT NULL
        )""",
        "CREATE INDEX held_by_holder ON held (holder, released, sender, position, size)",
        "CREATE INDEX held_released ON held (position) WHERE released = 1",
        "CREATE INDEX held_by_created ON held (created) WHERE released = 0",
        """CREATE TABLE trust (
            holder TEXT NOT NULL,
            sender TEXT NOT NULL,
            created REAL NOT NULL,
            PRIMARY KEY (holder, sender)
        ) WITHOUT ROWID""",
    ),
)
"""New migrations are only appended: there are files of every earlier version, and a test covers each."""
