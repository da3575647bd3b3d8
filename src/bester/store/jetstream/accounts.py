"""Accounts and their tokens in JetStream.

An account is the only message of its subject, in JSON. A change publishes a new message, on the condition that the old
one is still the last. A token is the only message of its own subject, and names its account's generation, which a new
password changes: so all tokens of an account end in one step. The account lists the hashes of its newest tokens. NATS
removes tokens that have expired. While a stream has no leader, the account comes from a replica that has it, and is
marked as not sure.
"""

from __future__ import annotations

import asyncio
import builtins
import secrets
from collections.abc import Callable, Iterable, Sequence
from weakref import WeakValueDictionary

import msgspec

from bester.bus.connection import Bus
from bester.clock import wall_time
from bester.errors import AccountExists, Overloaded, UnknownAccount
from bester.store.jetstream.errors import WrongLastSequence
from bester.store.jetstream.names import Names
from bester.store.jetstream.partitions import SINGLE, Layout, PartitionedStream
from bester.store.jetstream.stream import StoredMessage, Stream
from bester.store.ports import MAX_TOKENS, Account, StoredAccount

TRIES = 30
"""How often a change is tried that changes of other nodes get ahead of."""
PAGE = 500
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"


class _Account(msgspec.Struct):
    username: str
    roles: tuple[str, ...]
    created: float
    password_hash: str
    generation: str
    tokens: list[str] = []

    def stored(self, sure: bool = True) -> StoredAccount:
        return StoredAccount(self.username, self.roles, self.created, self.password_hash, sure)


class _Token(msgspec.Struct):
    username: str
    generation: str
    expires: float


_account = msgspec.json.Decoder(_Account)
_token = msgspec.json.Decoder(_Token)


class JetStreamAccounts:
    """The accounts of a cluster.

    Args:
        bus: the connection, which is open before this is.
        names: of this server's streams.
        layout: on how many NATS servers each account is, and among how many streams they are divided.
    """

    def __init__(self, bus: Bus, names: Names, layout: Layout = SINGLE) -> None:
        self.accounts = PartitionedStream(bus, names, "ACCOUNTS", "account", "*", layout)
        self.tokens = PartitionedStream(bus, names, "TOKENS", "token", "*", layout, allow_ttl=True)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """By account: this node makes its changes one after another, so that only other nodes' can get ahead."""

    async def open(self) -> None:
        await self.accounts.open()
        await self.tokens.open()

    async def close(self) -> None:
        self.accounts.close()
        self.tokens.close()

    # -- accounts ------------------------------------------------------------------------------------------------

    async def add(
        self, username: str, password_hash: str, roles: tuple[str, ...] = (), created: float | None = None
    ) -> None:
        account = _Account(
            username, roles, created if created is not None else wall_time(), password_hash, _new_generation()
        )
        body = msgspec.json.encode(account)
        try:
            await self._stream(username).publish(self._subject(username), body, {_EXPECTED: "0"})
        except WrongLastSequence as error:
            found = await self._stream(username).last_message(self._subject(username))
            if found is None or found.data != body:  # else an earlier try published it, but its answer was lost
                raise AccountExists from error

    async def find(self, username: str) -> StoredAccount | None:
        found, sure = await self._stream(username).last_known_message(self._subject(username))
        return _account.decode(found.data).stored(sure) if found is not None else None

    async def exists(self, usernames: Sequence[str]) -> set[str]:
        wanted = dict.fromkeys(usernames)
        found: set[str] = set()
        for stream, names in self._by_stream(wanted):
            subjects = {self._subject(username): username for username in names}
            found.update(subjects[one.subject] for one in await stream.last_messages(list(subjects)))
        if self.accounts.replicas > 1:
            # A replica may not have the newest accounts yet; the leader has.
            others = [username for username in wanted if username not in found]
            for begin in range(0, len(others), PAGE):
                some = others[begin : begin + PAGE]
                known = await asyncio.gather(*(self._stream(one).last_message(self._subject(one)) for one in some))
                found.update(username for username, account in zip(some, known, strict=True) if account is not None)
        return found

    def _by_stream(self, usernames: Iterable[str]) -> builtins.list[tuple[Stream, builtins.list[str]]]:
        found: dict[Stream, builtins.list[str]] = {}
        for username in usernames:
            found.setdefault(self._stream(username), []).append(username)
        return [*found.items()]

    async def set_password(self, username: str, password_hash: str) -> None:
        ended: list[str] = []

        def change(account: _Account) -> None:
            ended[:] = account.tokens
            account.password_hash, account.generation, account.tokens = password_hash, _new_generation(), []

        await self._change(username, change)
        await self._purge_tokens(ended)

    async def set_roles(self, username: str, roles: tuple[str, ...]) -> None:
        def change(account: _Account) -> None:
            account.roles = roles

        await self._change(username, change)

    async def remove(self, username: str) -> None:
        found = await self._stream(username).last_message(self._subject(username))
        if found is None or not await self._stream(username).purge(self._subject(username)):
            raise UnknownAccount
        await self._purge_tokens(_account.decode(found.data).tokens)

    async def list(self, after: str = "", limit: int = 1000) -> builtins.list[Account]:
        begin = Names.token(after)
        keys = sorted(key for key in await self.accounts.keys() if key > begin)[:limit]
        found: list[Account] = []
        for stream, usernames in self._by_stream(Names.text(key) for key in keys):
            for stored in await stream.last_messages([self._subject(username) for username in usernames]):
                account = _account.decode(stored.data)
                found.append(Account(account.username, account.roles, account.created))
        return sorted(found, key=lambda one: one.username)

    async def count(self) -> int:
        return await self.accounts.message_count()

    # -- tokens --------------------------------------------------------------------------------------------------

    async def add_token(self, username: str, token_hash: bytes, expires: float, now: float) -> None:
        hexed = token_hash.hex()
        if self._stream(username).unresponsive or self.tokens.stream_of(hexed).unresponsive:
            raise Overloaded("tokens cannot be kept now")  # a login proceeds without a token rather than wait
        dropped: list[str] = []
        generation = ""

        def change(account: _Account) -> None:
            nonlocal generation
            generation = account.generation
            tokens = [one for one in account.tokens if one != hexed] + [hexed]
            dropped[:] = tokens[:-MAX_TOKENS]
            account.tokens = tokens[-MAX_TOKENS:]

        await self._change(username, change)
        lifetime_s = max(1, int(expires - now) + 1)
        token = msgspec.json.encode(_Token(username, generation, expires))
        await self.tokens.stream_of(hexed).publish(self.tokens.subject(hexed), token, {"Nats-TTL": f"{lifetime_s}s"})
        await self._purge_tokens(dropped)

    async def find_token(self, token_hash: bytes, now: float) -> StoredAccount | None:
        hexed = token_hash.hex()
        found, token_sure = await self.tokens.stream_of(hexed).last_known_message(self.tokens.subject(hexed))
        if found is None:
            return None
        token = _token.decode(found.data)
        if token.expires <= now:
            return None
        stream, subject = self._stream(token.username), self._subject(token.username)
        holder, sure = await stream.last_known_message(subject)
        if not sure and holder is not None and _account.decode(holder.data).generation != token.generation:
            holder, sure = await stream.last_message(subject), True  # one of the two is not the newest
        account = _account.decode(holder.data) if holder is not None else None
        if account is None or account.generation != token.generation:
            return None
        return account.stored(sure and token_sure)

    async def remove_token(self, token_hash: bytes) -> None:
        hexed = token_hash.hex()
        found = await self.tokens.stream_of(hexed).last_message(self.tokens.subject(hexed))
        if found is None:
            return
        await self._purge_tokens([hexed])

        def change(account: _Account) -> None:
            account.tokens = [one for one in account.tokens if one != hexed]

        try:
            await self._change(_token.decode(found.data).username, change)
        except UnknownAccount:
            return

    async def purge_tokens(self, now: float) -> None:
        """Removes tokens that expired while NATS was not there to remove them."""
        for stream, pattern in self.tokens.patterns():
            after = 0
            while page := await stream.page(pattern, after, PAGE):
                after = page[-1].sequence
                await asyncio.gather(
                    *(stream.delete(one.sequence) for one in page if _token.decode(one.data).expires <= now)
                )

    async def _purge_tokens(self, hashes: Sequence[str]) -> None:
        await asyncio.gather(*(self.tokens.stream_of(one).purge(self.tokens.subject(one)) for one in hashes))

    # -- changing ------------------------------------------------------------------------------------------------

    async def _change(self, username: str, change: Callable[[_Account], None]) -> None:
        stream, subject = self._stream(username), self._subject(username)
        async with self._locks.setdefault(username, asyncio.Lock()):
            for _ in range(TRIES):
                found: StoredMessage | None = await stream.last_message(subject)
                if found is None:
                    raise UnknownAccount
                account = _account.decode(found.data)
                change(account)
                try:
                    await stream.publish(subject, msgspec.json.encode(account), {_EXPECTED: str(found.sequence)})
                except WrongLastSequence:
                    continue  # another node was faster, or this node's earlier try succeeded and the answer was lost
                return
        raise Overloaded("the account is being changed by others")

    def _stream(self, username: str) -> Stream:
        return self.accounts.stream_of(Names.token(username))

    def _subject(self, username: str) -> str:
        return self.accounts.subject(Names.token(username))


def _new_generation() -> str:
    return secrets.token_hex(8)
