"""Accounts and their tokens in JetStream.

An account is the one message of its subject, in JSON. It is changed by writing a new one in its place, on the condition
that the old one is still the last. A token is the one message of its own subject, and names its account's generation,
which a new password changes: so all tokens of an account end in one step. The account has the hashes of its newest
tokens. What has expired NATS removes itself. While a stream has no leader, a replica is believed that knows who logs
in, but not for sure.
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
from bester.store.jetstream.divided import ONE, Divided, Keeping
from bester.store.jetstream.names import Names
from bester.store.jetstream.stream import Conflict, Stored, Stream
from bester.store.ports import MAX_TOKENS, Account, StoredAccount

TRIES = 30
"""How often a change is tried against those of other nodes."""
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
        keeping: on how many NATS servers each account is kept, and in how many streams.
    """

    def __init__(self, bus: Bus, names: Names, keeping: Keeping = ONE) -> None:
        self._accounts = Divided(bus, names, "ACCOUNTS", "account", "*", keeping)
        self._tokens = Divided(bus, names, "TOKENS", "token", "*", keeping, ttl=True)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """By account: this node's changes are made one after the other, and meet only those of others."""

    async def open(self) -> None:
        await self._accounts.open()
        await self._tokens.open()

    async def close(self) -> None:
        self._accounts.close()
        self._tokens.close()

    # -- accounts ------------------------------------------------------------------------------------------------

    async def add(
        self, username: str, password_hash: str, roles: tuple[str, ...] = (), created: float | None = None
    ) -> None:
        account = _Account(username, roles, created if created is not None else wall_time(), password_hash, _fresh())
        body = msgspec.json.encode(account)
        try:
            await self._account(username).put(self._subject(username), body, {_EXPECTED: "0"})
        except Conflict as error:
            found = await self._account(username).last(self._subject(username))
            if found is None or found.data != body:  # else it was written by a try whose answer was lost
                raise AccountExists from error

    async def find(self, username: str) -> StoredAccount | None:
        found, sure = await self._account(username).last_known(self._subject(username))
        return _account.decode(found.data).stored(sure) if found is not None else None

    async def exists(self, usernames: Sequence[str]) -> set[str]:
        wanted = dict.fromkeys(usernames)
        found: set[str] = set()
        for stream, names in self._by_stream(wanted):
            subjects = {self._subject(username): username for username in names}
            found.update(subjects[one.subject] for one in await stream.lasts(list(subjects)))
        if self._accounts.replicas > 1:
            # A replica may not have the newest accounts yet; its leader has.
            others = [username for username in wanted if username not in found]
            for begin in range(0, len(others), PAGE):
                some = others[begin : begin + PAGE]
                known = await asyncio.gather(*(self._account(one).last(self._subject(one)) for one in some))
                found.update(username for username, account in zip(some, known, strict=True) if account is not None)
        return found

    def _by_stream(self, usernames: Iterable[str]) -> builtins.list[tuple[Stream, builtins.list[str]]]:
        shares: dict[Stream, builtins.list[str]] = {}
        for username in usernames:
            shares.setdefault(self._account(username), []).append(username)
        return [*shares.items()]

    async def set_password(self, username: str, password_hash: str) -> None:
        ended: list[str] = []

        def change(account: _Account) -> None:
            ended[:] = account.tokens
            account.password_hash, account.generation, account.tokens = password_hash, _fresh(), []

        await self._change(username, change)
        await self._drop_tokens(ended)

    async def set_roles(self, username: str, roles: tuple[str, ...]) -> None:
        def change(account: _Account) -> None:
            account.roles = roles

        await self._change(username, change)

    async def remove(self, username: str) -> None:
        found = await self._account(username).last(self._subject(username))
        if found is None or not await self._account(username).purge(self._subject(username)):
            raise UnknownAccount
        await self._drop_tokens(_account.decode(found.data).tokens)

    async def list(self, after: str = "", limit: int = 1000) -> builtins.list[Account]:
        begin = Names.token(after)
        keys = sorted(key for key in await self._accounts.keys() if key > begin)[:limit]
        found: list[Account] = []
        for stream, usernames in self._by_stream(bytes.fromhex(key).decode("utf-8", "surrogatepass") for key in keys):
            for stored in await stream.lasts([self._subject(username) for username in usernames]):
                account = _account.decode(stored.data)
                found.append(Account(account.username, account.roles, account.created))
        return sorted(found, key=lambda one: one.username)

    async def count(self) -> int:
        return await self._accounts.messages()

    # -- tokens --------------------------------------------------------------------------------------------------

    async def add_token(self, username: str, token_hash: bytes, expires: float, now: float) -> None:
        hexed = token_hash.hex()
        if self._account(username).silent or self._tokens.of(hexed).silent:
            raise Overloaded("tokens cannot be kept now")  # who logs in does without, rather than wait
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
        await self._tokens.of(hexed).put(self._tokens.subject(hexed), token, {"Nats-TTL": f"{lifetime_s}s"})
        await self._drop_tokens(dropped)

    async def find_token(self, token_hash: bytes, now: float) -> StoredAccount | None:
        hexed = token_hash.hex()
        found, token_sure = await self._tokens.of(hexed).last_known(self._tokens.subject(hexed))
        if found is None:
            return None
        token = _token.decode(found.data)
        if token.expires <= now:
            return None
        stream, subject = self._account(token.username), self._subject(token.username)
        holder, sure = await stream.last_known(subject)
        if not sure and holder is not None and _account.decode(holder.data).generation != token.generation:
            holder, sure = await stream.last(subject), True  # one of the two is not the newest
        account = _account.decode(holder.data) if holder is not None else None
        if account is None or account.generation != token.generation:
            return None
        return account.stored(sure and token_sure)

    async def remove_token(self, token_hash: bytes) -> None:
        hexed = token_hash.hex()
        found = await self._tokens.of(hexed).last(self._tokens.subject(hexed))
        if found is None:
            return
        await self._drop_tokens([hexed])

        def change(account: _Account) -> None:
            account.tokens = [one for one in account.tokens if one != hexed]

        try:
            await self._change(_token.decode(found.data).username, change)
        except UnknownAccount:
            return

    async def purge_tokens(self, now: float) -> None:
        """Removes those that expired before NATS was there to do it."""
        for stream, all in self._tokens.each():
            after = 0
            while page := await stream.page(all, after, PAGE):
                after = page[-1].position
                await asyncio.gather(
                    *(stream.delete(one.position) for one in page if _token.decode(one.data).expires <= now)
                )

    async def _drop_tokens(self, hashes: Sequence[str]) -> None:
        await asyncio.gather(*(self._tokens.of(one).purge(self._tokens.subject(one)) for one in hashes))

    # -- changing ------------------------------------------------------------------------------------------------

    async def _change(self, username: str, change: Callable[[_Account], None]) -> None:
        stream, subject = self._account(username), self._subject(username)
        async with self._locks.setdefault(username, asyncio.Lock()):
            for _ in range(TRIES):
                found: Stored | None = await stream.last(subject)
                if found is None:
                    raise UnknownAccount
                account = _account.decode(found.data)
                change(account)
                try:
                    await stream.put(subject, msgspec.json.encode(account), {_EXPECTED: str(found.position)})
                except Conflict:
                    continue  # another node was quicker; or it was our own try, whose answer was lost
                return
        raise Overloaded("the account is being changed by others")

    def _account(self, username: str) -> Stream:
        return self._accounts.of(Names.token(username))

    def _subject(self, username: str) -> str:
        return self._accounts.subject(Names.token(username))


def _fresh() -> str:
    return secrets.token_hex(8)
