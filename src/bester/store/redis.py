"""Accounts in Redis (``database.type: redis``).

An account is a hash ``PREFIX:account:NAME``, and its name a member of the sorted set ``PREFIX:accounts`` (all with
score 0, so they sort by their code points). A token is a hash ``PREFIX:token:HASH`` that Redis lets expire. It names
its account's generation, which a new password changes: so all tokens of an account end in one step, without a search.
The list ``PREFIX:tokens:NAME`` has the hashes of an account's newest tokens. Each call is one command or one script,
hence atomic and one round trip. The scripts build keys from values, so this works with one Redis, with replicas if
wanted, and not with a sharded one.

Redis decides how durable an account is: ``appendonly yes`` with ``appendfsync always`` loses none.
"""

from __future__ import annotations

import builtins
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from bester.clock import wall_time
from bester.errors import AccountExists, BadConfiguration, Internal, UnknownAccount
from bester.installation import how_to_add
from bester.store.ports import MAX_TOKENS, Account, StoredAccount
from bester.timeouts import within

TIMEOUT_S = 5.0
"""The time limit of a call, including a new connection."""
MAX_CONNECTIONS = 16

_ADD = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'password_hash', ARGV[2], 'roles', ARGV[3], 'created', ARGV[4], 'generation', ARGV[5])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return 1"""
_CHANGE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1"""
_REMOVE = """
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[3])
return redis.call('DEL', KEYS[1])"""
_LIST = """
local found = {}
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], ARGV[1], '+', 'BYLEX', 'LIMIT', 0, ARGV[2])) do
  local fields = redis.call('HMGET', ARGV[3] .. name, 'roles', 'created')
  found[#found + 1] = {name, fields[1], fields[2]}
end
return found"""
_ADD_TOKEN = """
local generation = redis.call('HGET', KEYS[1], 'generation')
if not generation then return 0 end
redis.call('HSET', KEYS[2], 'username', ARGV[1], 'generation', generation, 'expires', ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('LREM', KEYS[3], 0, ARGV[4])
redis.call('RPUSH', KEYS[3], ARGV[4])
while redis.call('LLEN', KEYS[3]) > tonumber(ARGV[5]) do
  redis.call('DEL', ARGV[6] .. redis.call('LPOP', KEYS[3]))
end
local left = redis.call('PTTL', KEYS[2])
if left > redis.call('PTTL', KEYS[3]) then redis.call('PEXPIRE', KEYS[3], left) end
return 1"""
_REMOVE_TOKEN = """
local username = redis.call('HGET', KEYS[1], 'username')
if username then redis.call('LREM', ARGV[1] .. username, 0, ARGV[2]) end
return redis.call('DEL', KEYS[1])"""
_FIND_TOKEN = """
local token = redis.call('HMGET', KEYS[1], 'username', 'generation', 'expires')
if not token[1] or tonumber(token[3]) <= tonumber(ARGV[1]) then return false end
local found = redis.call('HMGET', ARGV[2] .. token[1], 'roles', 'created', 'password_hash', 'generation')
if found[4] ~= token[2] then return false end
return {token[1], found[1], found[2], found[3]}"""

_roles = msgspec.json.Decoder(tuple[str, ...])


class RedisAccounts:
    """The accounts of a Redis server (6.2 or later)."""

    def __init__(
        self,
        address: str,
        port: int,
        *,
        database: int = 0,
        username: str | None = None,
        password: str | None = None,
        prefix: str = "bester",
    ) -> None:
        self._where: dict[str, Any] = {
            "host": address,
            "port": port,
            "db": database,
            "username": username,
            "password": password,
        }
        self._names = f"{prefix}:accounts"
        self._account = f"{prefix}:account:"
        self._token = f"{prefix}:token:"
        self._tokens = f"{prefix}:tokens:"
        self._client: Any = None  # its types differ from one release to the next
        self._failures: tuple[type[Exception], ...] = (OSError,)

    async def open(self) -> None:
        try:
            from redis.asyncio import BlockingConnectionPool, Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
            from redis.exceptions import AuthenticationError, RedisError
        except ImportError as error:
            raise BadConfiguration(
                f"database.type is redis, and the package for it is missing: {how_to_add('redis')}"
            ) from error
        self._failures = (OSError, RedisError)
        pool = BlockingConnectionPool(
            max_connections=MAX_CONNECTIONS,
            timeout=TIMEOUT_S,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            # A repeated `add` would find its own account; the next call connects again anyway.
            retry=Retry(NoBackoff(), 0),
            # With the newer protocol the library does not notice that a connection has ended while idle.
            protocol=2,
            decode_responses=True,
            **self._where,
        )
        self._client = Redis.from_pool(pool)
        try:
            await self._do("PING")
        except Internal as error:
            await self.close()
            if isinstance(error.__cause__, AuthenticationError):
                raise BadConfiguration(
                    "Redis does not let us in; check database.redis.username and database.redis.password"
                ) from error.__cause__
            raise

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def add(
        self, username: str, password_hash: str, roles: tuple[str, ...] = (), created: float | None = None
    ) -> None:
        keys = (self._account + username, self._names)
        when = repr(float(wall_time() if created is None else created))
        if not await self._run(_ADD, keys, username, password_hash, _encoded(roles), when, _new_generation()):
            raise AccountExists

    async def find(self, username: str) -> StoredAccount | None:
        fields = await self._do("HMGET", self._account + username, "roles", "created", "password_hash")
        return None if fields[0] is None else _stored(username, *fields)

    async def exists(self, usernames: Sequence[str]) -> set[str]:
        if not usernames:
            return set()
        scores = await self._do("ZMSCORE", self._names, *usernames)
        return {name for name, score in zip(usernames, scores, strict=True) if score is not None}

    async def set_password(self, username: str, password_hash: str) -> None:
        await self._change(username, "password_hash", password_hash, "generation", _new_generation())

    async def set_roles(self, username: str, roles: tuple[str, ...]) -> None:
        await self._change(username, "roles", _encoded(roles))

    async def _change(self, username: str, *fields: str) -> None:
        if not await self._run(_CHANGE, (self._account + username,), *fields):
            raise UnknownAccount

    async def remove(self, username: str) -> None:
        if not await self._run(_REMOVE, (self._account + username, self._names, self._tokens + username), username):
            raise UnknownAccount

    async def list(self, after: str = "", limit: int = 1000) -> builtins.list[Account]:
        first = f"({after}" if after else "-"
        rows = await self._run(_LIST, (self._names,), first, limit, self._account)
        return [Account(name, _roles.decode(roles), float(created)) for name, roles, created in rows]

    async def count(self) -> int:
        return int(await self._do("ZCARD", self._names))

    async def add_token(self, username: str, token_hash: bytes, expires: float, now: float) -> None:
        name = token_hash.hex()
        keys = (self._account + username, self._token + name, self._tokens + username)
        values = (username, repr(float(expires)), int((expires - now) * 1000), name, MAX_TOKENS, self._token)
        if not await self._run(_ADD_TOKEN, keys, *values):
            raise UnknownAccount

    async def find_token(self, token_hash: bytes, now: float) -> StoredAccount | None:
        row = await self._run(_FIND_TOKEN, (self._token + token_hash.hex(),), repr(float(now)), self._account)
        return None if row is None else _stored(*row)

    async def remove_token(self, token_hash: bytes) -> None:
        name = token_hash.hex()
        await self._run(_REMOVE_TOKEN, (self._token + name,), self._tokens, name)

    async def purge_tokens(self, now: float) -> None:
        """Does nothing: Redis removes tokens that have expired."""

    async def _run(self, script: str, keys: tuple[str, ...], *values: str | int) -> Any:
        return await self._do("EVAL", script, len(keys), *keys, *values)

    async def _do(self, *command: str | int) -> Any:
        if self._client is None:
            raise Internal("the account database is closed")
        try:
            async with within(TIMEOUT_S):
                return await self._client.execute_command(*command)
        except self._failures as error:
            raise Internal("the account database cannot be reached") from error


def _new_generation() -> str:
    return secrets.token_hex(16)


def _stored(username: str, roles: str, created: str, password_hash: str) -> StoredAccount:
    return StoredAccount(username, _roles.decode(roles), float(created), password_hash)


def _encoded(texts: Sequence[str]) -> str:
    return msgspec.json.encode(texts).decode()
