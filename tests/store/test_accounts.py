"""The contract of every account store, over each driver."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.ports import free_port

from bester.bus.connection import Bus
from bester.bus.options import BusOptions
from bester.errors import AccountExists, BadConfiguration, Internal, UnknownAccount
from bester.store.jetstream.accounts import JetStreamAccounts
from bester.store.jetstream.names import Names
from bester.store.jetstream.partitions import Layout
from bester.store.ports import MAX_TOKENS, Account, AccountStore, StoredAccount
from bester.store.redis import RedisAccounts
from bester.store.sqlite import SqliteAccounts

NOW = float(int(time.time()))
LATER = NOW + 1000
TOKEN = bytes(range(32))


class RedisServer:
    """A real redis-server on a free port, which keeps nothing."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.port = free_port()
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        command += ["--dir", str(self.folder), *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if "eady to accept connections" in line:
                return
        raise AssertionError("".join(lines))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    _need_redis()
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    _need_redis()
    server = RedisServer(tmp_path)
    yield server
    server.stop()


def _need_redis() -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not on PATH")


@pytest.fixture(params=["sqlite", "redis", "jetstream"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AccountStore]:
    made: AccountStore
    bus: Bus | None = None
    if request.param == "sqlite":
        made = SqliteAccounts(tmp_path / "bester.db")
    elif request.param == "jetstream":
        bus = Bus(BusOptions((request.getfixturevalue("nats").url,)), "test")
        await bus.open()
        made = JetStreamAccounts(bus, Names(str(tmp_path)), Layout(partitions=3))
    else:
        server: RedisServer = request.getfixturevalue("shared_redis")
        made = RedisAccounts("127.0.0.1", server.port, prefix=f"test:{tmp_path}")
    await made.open()
    yield made
    await made.close()
    await made.close()
    if bus is not None:
        await bus.close()


# -- the contract -----------------------------------------------------------------------------------------------------


async def test_what_was_added_is_found(store: AccountStore) -> None:
    await store.add("alice", "$hash", ("admin", "baker"), 1234.5)
    assert await store.find("alice") == StoredAccount("alice", ("admin", "baker"), 1234.5, "$hash")
    assert await store.find("bob") is None


async def test_an_account_is_created_now_and_without_roles_unless_said_otherwise(store: AccountStore) -> None:
    await store.add("alice", "$hash")
    found = await store.find("alice")
    assert found is not None
    assert found.roles == ()
    assert NOW <= found.created <= time.time()


async def test_a_name_is_taken_once(store: AccountStore) -> None:
    await store.add("alice", "$first", (), NOW)
    with pytest.raises(AccountExists):
        await store.add("alice", "$second", ("admin",), NOW)
    assert await store.find("alice") == StoredAccount("alice", (), NOW, "$first")
    assert await store.count() == 1


async def test_of_many_who_add_one_name_at_once_one_succeeds(store: AccountStore) -> None:
    results = await asyncio.gather(*(store.add("alice", f"${n}") for n in range(40)), return_exceptions=True)
    assert results.count(None) == 1
    assert sum(isinstance(result, AccountExists) for result in results) == 39
    found = await store.find("alice")
    assert found is not None
    assert found.password_hash == f"${results.index(None)}"


async def test_many_are_looked_up_in_one_query(store: AccountStore) -> None:
    await asyncio.gather(*(store.add(name, "$hash") for name in ("alice", "bob", "山田", "o'hara")))
    assert await store.exists(["bob", "nobody", "山田", "o'hara", "bob"]) == {"bob", "山田", "o'hara"}
    assert await store.exists([]) == set()
    assert await store.exists([f"nobody{number}" for number in range(10_000)] + ["alice"]) == {"alice"}


async def test_a_password_is_replaced_and_ends_the_tokens_of_this_account(store: AccountStore) -> None:
    await store.add("alice", "$old", ("admin",), NOW)
    await store.add("bob", "$bob", (), NOW)
    await store.add_token("alice", TOKEN, LATER, NOW)
    await store.add_token("bob", b"b" * 32, LATER, NOW)
    await store.set_password("alice", "$new")
    assert await store.find("alice") == StoredAccount("alice", ("admin",), NOW, "$new")
    assert await store.find_token(TOKEN, NOW) is None
    assert await store.find_token(b"b" * 32, NOW) is not None
    await store.add_token("alice", b"n" * 32, LATER, NOW)
    assert await store.find_token(b"n" * 32, NOW) is not None


async def test_roles_are_replaced_and_tokens_stay(store: AccountStore) -> None:
    await store.add("alice", "$hash", ("admin",), NOW)
    await store.add_token("alice", TOKEN, LATER, NOW)
    await store.set_roles("alice", ("baker", "rôle"))
    expected = StoredAccount("alice", ("baker", "rôle"), NOW, "$hash")
    assert await store.find("alice") == expected
    assert await store.find_token(TOKEN, NOW) == expected


async def test_a_removed_account_is_gone_with_its_tokens(store: AccountStore) -> None:
    await store.add("alice", "$hash", (), NOW)
    await store.add_token("alice", TOKEN, LATER, NOW)
    await store.remove("alice")
    assert await store.find("alice") is None
    assert await store.exists(["alice"]) == set()
    assert await store.list() == []
    assert await store.count() == 0
    assert await store.find_token(TOKEN, NOW) is None
    await store.add("alice", "$another", (), NOW)
    assert await store.find_token(TOKEN, NOW) is None


async def test_changes_to_an_unknown_account_are_refused(store: AccountStore) -> None:
    for change in (
        store.set_password("nobody", "$hash"),
        store.set_roles("nobody", ("admin",)),
        store.remove("nobody"),
        store.add_token("nobody", TOKEN, LATER, NOW),
    ):
        with pytest.raises(UnknownAccount):
            await change
    assert await store.count() == 0
    assert await store.find("nobody") is None


async def test_accounts_are_listed_by_code_points_and_by_pages(store: AccountStore) -> None:
    names = ["a", "a.b", "ab", "b", "z", "é", "דוד", "山田", "𐐨"]
    assert names == sorted(names)
    await asyncio.gather(*(store.add(name, "$hash", ("r",), NOW) for name in reversed(names)))
    assert await store.list() == [Account(name, ("r",), NOW) for name in names]
    assert await store.count() == len(names)
    paged: list[str] = []
    while page := await store.list(paged[-1] if paged else "", 2):
        paged += [account.username for account in page]
    assert paged == names
    assert [account.username for account in await store.list("aa", 1)] == ["ab"]
    assert await store.list("𐐨") == []


async def test_a_token_is_good_until_it_expires(store: AccountStore) -> None:
    await store.add("alice", "$hash", ("r",), NOW)
    await store.add_token("alice", TOKEN, LATER, NOW)
    assert await store.find_token(TOKEN, LATER - 0.5) == StoredAccount("alice", ("r",), NOW, "$hash")
    assert await store.find_token(TOKEN, LATER) is None
    assert await store.find_token(b"x" * 32, NOW) is None


async def test_a_token_can_be_ended(store: AccountStore) -> None:
    await store.add("alice", "$hash")
    await store.add_token("alice", TOKEN, LATER, NOW)
    await store.add_token("alice", b"o" * 32, LATER, NOW)
    await store.remove_token(TOKEN)
    await store.remove_token(TOKEN)
    assert await store.find_token(TOKEN, NOW) is None
    assert await store.find_token(b"o" * 32, NOW) is not None


async def test_purging_drops_what_has_expired_and_nothing_else(store: AccountStore) -> None:
    await store.add("alice", "$hash")
    await store.add_token("alice", TOKEN, NOW - 10, NOW)
    await store.add_token("alice", b"o" * 32, LATER, NOW)
    await store.purge_tokens(NOW)
    assert await store.find_token(TOKEN, NOW - 20) is None
    assert await store.find_token(b"o" * 32, NOW) is not None


async def test_the_oldest_tokens_make_room_for_new_ones(store: AccountStore) -> None:
    await store.add("alice", "$hash")
    await store.add("bob", "$hash")
    await store.add_token("bob", b"bob's", LATER, NOW)
    tokens = [bytes([number]) * 32 for number in range(MAX_TOKENS + 5)]
    for number, token in enumerate(tokens[:MAX_TOKENS]):
        await store.add_token("alice", token, LATER - number, NOW)  # what expires first is not what is oldest
    await store.remove_token(tokens[50])
    await store.add_token("alice", tokens[MAX_TOKENS], LATER, NOW)
    assert await store.find_token(tokens[0], NOW) is not None
    for token in tokens[MAX_TOKENS + 1 :]:
        await store.add_token("alice", token, LATER, NOW)
    good = [await store.find_token(token, NOW) is not None for token in tokens]
    assert good == [False] * 4 + [True] * 46 + [False] + [True] * (MAX_TOKENS - 46)
    assert await store.find_token(b"bob's", NOW) is not None


async def test_tokens_of_an_old_password_do_not_cost_new_ones_their_place(store: AccountStore) -> None:
    await store.add("alice", "$hash")
    await asyncio.gather(*(store.add_token("alice", bytes([n]) * 32, LATER, NOW) for n in range(MAX_TOKENS)))
    await store.set_password("alice", "$new")
    await asyncio.gather(*(store.add_token("alice", bytes([n]) * 31, LATER, NOW) for n in range(MAX_TOKENS)))
    assert all([await store.find_token(bytes([n]) * 31, NOW) for n in range(MAX_TOKENS)])


async def test_a_closed_store_says_so(store: AccountStore) -> None:
    await store.close()
    with pytest.raises(Internal, match="closed"):
        await store.find("alice")


# -- Redis alone ------------------------------------------------------------------------------------------------------


async def test_redis_that_comes_back_is_used_again(own_redis: RedisServer) -> None:
    store = RedisAccounts("127.0.0.1", own_redis.port)
    await store.open()
    await asyncio.gather(*(store.add(f"user{number}", "$hash") for number in range(40)))
    own_redis.stop()
    with pytest.raises(Internal, match="cannot be reached") as caught:
        await store.find("user1")
    assert caught.value.__cause__ is not None
    own_redis.start()
    assert await asyncio.gather(*(store.find(f"user{number}") for number in range(40))) == [None] * 40
    await store.close()


async def test_redis_that_is_not_there_is_told_at_the_start() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        store = RedisAccounts("127.0.0.1", probe.getsockname()[1])
        with pytest.raises(Internal, match="cannot be reached"):
            await store.open()


async def test_redis_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bester.store.redis.TIMEOUT_S", 0.05)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        store = RedisAccounts("127.0.0.1", mute.getsockname()[1])
        with pytest.raises(Internal, match="cannot be reached"):
            await store.open()


async def test_redis_with_a_password_wants_the_right_one(tmp_path: Path) -> None:
    _need_redis()
    server = RedisServer(tmp_path, "--requirepass", "sesame")
    try:
        with pytest.raises(BadConfiguration, match=r"database\.redis\.password"):
            await RedisAccounts("127.0.0.1", server.port).open()
        with pytest.raises(BadConfiguration, match=r"database\.redis\.password"):
            await RedisAccounts("127.0.0.1", server.port, password="wrong").open()
        store = RedisAccounts("127.0.0.1", server.port, password="sesame", database=3)
        await store.open()
        assert await store.count() == 0
        await store.close()
    finally:
        server.stop()


async def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(BadConfiguration, match="-m pip install 'redis"):
        await RedisAccounts("127.0.0.1", 1).open()


async def test_stores_with_other_prefixes_do_not_meet(shared_redis: RedisServer) -> None:
    one, other = (RedisAccounts("127.0.0.1", shared_redis.port, prefix=prefix) for prefix in ("one", "other"))
    await one.open()
    await other.open()
    await one.add("alice", "$hash")
    assert await other.find("alice") is None
    assert await other.count() == 0
    await one.close()
    await other.close()
