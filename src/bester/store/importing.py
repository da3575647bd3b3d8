"""Moving what a SQLite server keeps into a cluster's streams.

The database is only read, and held meanwhile. Each kind of thing goes over in pages, in its order; when a page is kept,
how far it went is written beside it, and a run that comes later goes on behind it. So what users have done in the
cluster meanwhile, such as taking a letter, is not undone. Should a run break between the two, its last page is put once
more: what is still there is recognised, and a letter that was taken has its old delivery id.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec

from bester.bus.connection import Bus
from bester.clock import JUMP_S, Kept, SteadyClock
from bester.errors import AccountExists, BadConfiguration
from bester.store.jetstream.accounts import JetStreamAccounts
from bester.store.jetstream.messages import JetStreamMessages
from bester.store.jetstream.names import Names
from bester.store.jetstream.partitions import Layout
from bester.store.jetstream.stream import Stream, StreamConfig
from bester.store.opening import BUSY_TIMEOUT_S, Lock, problems_of
from bester.store.ports import Letter, Outgoing, Queued, Remembered
from bester.store.schema import MIGRATIONS

PAGE = 250
PAGE_BYTES = 8 * 1024 * 1024
MAX_NAMES = 20
"""How many accounts are named that are others in the cluster."""
ROOM_BYTES = 64 * 1024
"""What the streams add to a message, at most."""

Row = tuple[Any, ...]
_roles = msgspec.json.Decoder(tuple[str, ...])


@dataclass(slots=True)
class Imported:
    """What was moved, by this run."""

    accounts: int = 0
    tokens: int = 0
    letters: int = 0
    waiting: int = 0
    dead: int = 0
    once: int = 0
    expired: int = 0
    """Letters that were too old to be moved."""
    earlier: int = 0
    """Rows of the database that an earlier run has moved."""
    others: int = 0
    """Accounts whose name is another account's in the cluster: that one stays."""
    names: list[str] = field(default_factory=list)
    """The first of them."""

    @property
    def rows(self) -> int:
        """How much was moved, or looked at."""
        return self.accounts + self.letters + self.waiting + self.dead + self.once + self.expired + self.others

    def __str__(self) -> str:
        told = [
            f"{self.accounts} accounts with {self.tokens} tokens",
            f"{self.letters} letters",
            f"{self.waiting} messages that wait for other servers and {self.dead} that were given up",
            f"{self.once} outcomes of once messages",
        ]
        text = ", ".join(told)
        if self.expired:
            text += f"; {self.expired} letters had expired"
        if self.earlier:
            text += f"; {self.earlier} rows were moved earlier"
        return text


class Source:
    """The database of a SQLite server that does not run.

    Raises:
        BadConfiguration: it is in use, cannot be read, is damaged, or is of another release.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise BadConfiguration(f"there is no database {path}")
        try:
            self._lock = Lock(str(path))
        except OSError as error:
            raise BadConfiguration(
                f"the database {path} cannot be held: {error.strerror}; its folder must be writable"
            ) from error
        try:
            self._connection = self._opened()
        except BaseException:
            self._lock.release()
            raise

    def _opened(self) -> sqlite3.Connection:
        # Without a log that has to be looked into, nothing has to be made beside the file either.
        mode = "mode=ro" if self.path.with_name(f"{self.path.name}-wal").exists() else "immutable=1"
        try:
            connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?{mode}", uri=True, timeout=BUSY_TIMEOUT_S)
        except sqlite3.Error as error:
            raise BadConfiguration(f"the database {self.path} cannot be read: {error}") from error
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            problems = problems_of(connection)
        except sqlite3.Error as error:
            connection.close()
            raise BadConfiguration(f"the database {self.path} cannot be read: {error}") from error
        if version == len(MIGRATIONS) and not problems:
            return connection
        connection.close()
        if problems:
            raise BadConfiguration(f"the database {self.path} is damaged: {problems[0]}")
        raise BadConfiguration(
            f"the database {self.path} is of another release: start and stop a server of this release with it first"
        )

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """Returns rows, whose last value is the largest: at most a page of them, and not much more than its bytes."""
        found: list[Row] = []
        size = 0
        try:
            with closing(self._connection.execute(statement, values)) as rows:
                for row in rows:
                    found.append(row)
                    size += len(row[-1]) if isinstance(row[-1], bytes) else 0
                    if size > PAGE_BYTES or len(found) == PAGE:
                        break
        except sqlite3.Error as error:
            raise BadConfiguration(f"the database {self.path} cannot be read: {error}") from error
        return found

    def kept_time(self) -> Kept | None:
        """Returns what its server's clock said at the end."""
        found = self.rows("SELECT steady, wall, elapsed, boot FROM clock")
        return Kept(*found[0]) if found else None

    def count(self, table: str) -> int:
        """Returns how many rows a table has."""
        return int(self.rows(f"SELECT count(*) FROM {table}")[0][0])

    def close(self) -> None:
        """Lets others have it."""
        self._connection.close()
        self._lock.release()


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of thing: its pages begin behind the columns of ``key``, and go on in their order."""

    table: str
    key: tuple[str, ...]
    first: Row
    check: tuple[str, ...]
    """What else has to be the same where an earlier run ended, or it was that of another database."""
    columns: str

    def page(self, source: Source, after: Row) -> list[Row]:
        keys = ", ".join(self.key)
        marks = ", ".join("?" * len(self.key))
        columns = ", ".join((*self.key, *self.check, self.columns))
        return source.rows(
            f"SELECT {columns} FROM {self.table} WHERE ({keys}) > ({marks}) ORDER BY {keys}",
            after,
        )

    def place(self, row: Row) -> list[Any]:
        return [one.hex() if isinstance(one, bytes) else one for one in row[: len(self.key) + len(self.check)]]

    def found(self, source: Source, place: Sequence[Any]) -> Row | None:
        """Returns the key at which an earlier run ended; None where this database has no such row."""
        columns = (*self.key, *self.check)
        if len(place) != len(columns):
            return None
        wanted = [bytes.fromhex(one) if name == "key" else one for name, one in zip(columns, place, strict=True)]
        condition = " AND ".join(f"{name} = ?" for name in columns)
        there = source.rows(f"SELECT 1 FROM {self.table} WHERE {condition}", wanted)
        return tuple(wanted[: len(self.key)]) if there else None

    def done(self, source: Source, after: Row) -> int:
        """Returns how many rows there are up to a key."""
        keys, marks = ", ".join(self.key), ", ".join("?" * len(self.key))
        ((count,),) = source.rows(f"SELECT count(*) FROM {self.table} WHERE ({keys}) <= ({marks})", after)
        return int(count)


_ACCOUNTS = _Kind("account", ("username",), ("",), ("created",), "password_hash, roles")
_LETTERS = _Kind("letter", ("position",), (0,), ("username", "delivery_id"), "expires, type, data")
_OUTGOING = _Kind(
    "outgoing",
    ("position",),
    (0,),
    ("destination", "message_id"),
    "created, dead, tries, next_try, last_error, hops, trace, type, data",
)
_ONCE = _Kind("once", ("created", "key"), (float("-inf"), b""), (), "digest, report")


class Import:
    """One run.

    Args:
        source: what is moved.
        bus: the connection to NATS.
        names: of the server's streams.
        layout: on how many NATS servers each message is, and among how many streams they are divided.
        on_progress: told, for each kind of thing, how many rows of how many are done.
    """

    def __init__(
        self,
        source: Source,
        bus: Bus,
        names: Names,
        layout: Layout,
        on_progress: Callable[[str, int, int], None] = lambda table, done, total: None,
    ) -> None:
        self.result = Imported()
        self._source = source
        self._bus = bus
        self._accounts = JetStreamAccounts(bus, names, layout)
        self._messages = JetStreamMessages(bus, names, layout)
        self._marks = Stream(bus, StreamConfig(names.stream("IMPORTS"), names.subject("import", ">"), layout.replicas))
        digest = blake2b(str(source.path.resolve()).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        self._subject = names.subject("import", digest)
        self._on_progress = on_progress
        self._now = 0.0
        """By the database's clock."""
        self._shift_s = 0.0
        """By how much the cluster's clock is ahead of that."""

    async def run(self) -> Imported:
        """Moves everything that an earlier run has not; what it has moved is kept, should it break.

        Raises:
            BesterError: NATS is away, or full, or something does not fit; then it can be run again.
        """
        for store in (self._accounts, self._messages, self._marks):
            await store.open()
        try:
            await self._set_clocks()
            await self._move(_ACCOUNTS, self._put_accounts)
            await self._move(_LETTERS, self._put_letters)
            await self._move(_OUTGOING, self._put_outgoing)
            await self._move(_ONCE, self._put_once)
        finally:
            await self._accounts.close()
            await self._messages.close()
            self._marks.close()
        return self.result

    async def _set_clocks(self) -> None:
        clock = SteadyClock()
        clock.resume(self._source.kept_time())
        self._now = clock.now()
        await self._messages.resume_clock(clock)
        shift_s = clock.now() - self._now
        self._shift_s = shift_s if abs(shift_s) > JUMP_S else 0.0

    async def _move(self, kind: _Kind, put: Callable[[list[Row]], Any]) -> None:
        subject = f"{self._subject}.{kind.table}"
        mark = await self._marks.last_message(subject)
        after = kind.found(self._source, msgspec.json.decode(mark.data)) if mark is not None else None
        total = self._source.count(kind.table)
        done = kind.done(self._source, after) if after is not None else 0
        self.result.earlier += done
        after = after if after is not None else kind.first
        self._on_progress(kind.table, done, total)
        while page := kind.page(self._source, after):
            await put(page)
            after = page[-1][: len(kind.key)]
            await self._marks.publish(subject, msgspec.json.encode(kind.place(page[-1])))
            done += len(page)
            self._on_progress(kind.table, done, total)

    # -- one kind after the other --------------------------------------------------------------------------------

    async def _put_accounts(self, page: list[Row]) -> None:
        await asyncio.gather(*(self._put_account(*row) for row in page))

    async def _put_account(self, username: str, created: float, password_hash: str, roles: str) -> None:
        try:
            await self._accounts.add(username, password_hash, _roles.decode(roles), created)
        except AccountExists:
            found = await self._accounts.find(username)
            if found is None or (found.created, found.password_hash) != (created, password_hash):
                self.result.others += 1
                if len(self.result.names) < MAX_NAMES:
                    self.result.names.append(username)
                return
        self.result.accounts += 1
        tokens = self._source.rows(
            "SELECT token_hash, expires FROM token WHERE username = ? AND expires > ? ORDER BY number",
            (username, self._now),
        )
        for token_hash, expires in tokens:
            await self._accounts.add_token(username, token_hash, expires + self._shift_s, self._now + self._shift_s)
            self.result.tokens += 1

    async def _put_letters(self, page: list[Row]) -> None:
        now = self._now
        letters: list[tuple[Letter, float]] = []
        for _, username, delivery_id, expires, type, data in page:
            self._check_size(len(data))
            if expires > now:
                letters.append((Letter(username, delivery_id, type, data), expires + self._shift_s))
        await self._messages.restore_letters(letters, now + self._shift_s)
        self.result.letters += len(letters)
        self.result.expired += len(page) - len(letters)

    async def _put_outgoing(self, page: list[Row]) -> None:
        rows: list[Queued] = []
        for position, destination, message_id, created, dead, tries, next_try, last_error, hops, *rest in page:
            trace, type, data = rest
            self._check_size(len(data))
            message = Outgoing(destination, message_id, type, data, hops, trace)
            created += self._shift_s
            next_try += self._shift_s if next_try else 0.0
            rows.append(Queued(position, message, created, tries, next_try, last_error, bool(dead)))
        await self._messages.restore_outbox(rows)
        dead_ones = sum(row.dead for row in rows)
        self.result.dead += dead_ones
        self.result.waiting += len(rows) - dead_ones

    async def _put_once(self, page: list[Row]) -> None:
        records = [(Remembered(key, digest, report), created + self._shift_s) for created, key, digest, report in page]
        await asyncio.gather(*(self._messages.remember([record], created) for record, created in records))
        self.result.once += len(records)

    def _check_size(self, size: int) -> None:
        if size + ROOM_BYTES > self._bus.max_payload:
            raise BadConfiguration(
                f"the database has a message of {size} bytes, and the NATS servers take {self._bus.max_payload}: set "
                "max_payload in their configuration"
            )
