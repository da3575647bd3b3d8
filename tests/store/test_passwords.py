"""Passwords and tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import HashingError

from bester.errors import BadArguments, Internal, ShuttingDown
from bester.store import passwords as module
from bester.store.passwords import Passwords
from bester.store.tokens import TOKEN_LIFETIME_S, new_token, token_hash


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    made = Passwords()
    yield made
    made.close()


async def test_the_right_password_and_only_it_is_right(passwords: Passwords) -> None:
    stored = await passwords.hash("sésame")
    assert await passwords.verify("sésame", stored)
    assert not await passwords.verify("sesame", stored)
    assert await passwords.hash("sésame") != stored
    assert not passwords.needs_rehash(stored)


async def test_hashes_are_argon2id_of_20_mib_and_2_passes(real_work: None, passwords: Passwords) -> None:
    stored = await passwords.hash("p")
    assert stored.startswith("$argon2id$")
    parameters = extract_parameters(stored)
    assert (parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (19_456, 2, 1)
    assert extract_parameters(passwords._dummy_hash) == parameters  # an unknown account takes as long


async def test_a_hash_of_other_parameters_is_right_and_due_for_renewal(passwords: Passwords) -> None:
    old = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("p")
    assert await passwords.verify("p", old)
    assert passwords.needs_rehash(old)


@pytest.mark.parametrize("password", ["", "x" * 1025, "é" * 513, "\ud800"])
async def test_what_cannot_be_a_password_is_refused_or_wrong(passwords: Passwords, password: str) -> None:
    with pytest.raises(BadArguments, match="1 to 1024 bytes"):
        await passwords.hash(password)
    assert not await passwords.verify(password, await passwords.hash("-"))


@pytest.mark.parametrize("password", ["x", "x" * 1024, "é" * 512, "a\x00b", " "])
async def test_everything_else_can_be_a_password(passwords: Passwords, password: str) -> None:
    stored = await passwords.hash(password)
    assert await passwords.verify(password, stored)
    assert not await passwords.verify(password + "x", stored)


async def test_every_wrong_try_does_the_same_work(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = await passwords.hash("p")
    checked: list[str] = []
    check = passwords._check

    def counted(secret: bytes, stored_hash: str) -> bool:
        checked.append(stored_hash)
        return check(secret, stored_hash)

    monkeypatch.setattr(passwords, "_check", counted)
    for password, known in [("wrong", stored), ("p", None), ("", None), ("", stored), ("x" * 2000, stored)]:
        assert not await passwords.verify(password, known)
    assert len(checked) == 5
    assert {repr(extract_parameters(one)) for one in checked} == {repr(extract_parameters(stored))}


async def test_a_broken_hash_is_our_fault_and_not_a_wrong_password(passwords: Passwords) -> None:
    with pytest.raises(Internal) as caught:
        await passwords.verify("p", "not a hash")
    assert caught.value.__cause__ is not None


async def test_no_memory_is_told_as_such(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: Any) -> str:
        raise HashingError("Memory allocation error")

    monkeypatch.setattr(PasswordHasher, "hash", no_memory)
    with pytest.raises(Internal):
        await passwords.hash("p")


class Held:
    """Occupies all threads until it is released."""

    def __init__(self, passwords: Passwords) -> None:
        self.started = asyncio.Event()
        self.release = Event()
        loop = asyncio.get_running_loop()

        def hold() -> None:
            loop.call_soon_threadsafe(self.started.set)
            self.release.wait()

        self.tasks = [asyncio.ensure_future(passwords._run(hold)) for _ in range(module.THREADS)]

    async def end(self) -> None:
        self.release.set()
        await asyncio.gather(*self.tasks)


async def test_closing_refuses_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    passwords = Passwords()
    held = Held(passwords)
    await held.started.wait()
    waiting = asyncio.ensure_future(passwords.hash("p"))
    await asyncio.sleep(0)
    shutdown = passwords._executor.shutdown

    def shut_down_and_release(wait: bool, cancel_futures: bool) -> None:
        shutdown(wait=False, cancel_futures=cancel_futures)
        held.release.set()
        shutdown(wait=wait)

    monkeypatch.setattr(passwords._executor, "shutdown", shut_down_and_release)
    passwords.close()
    passwords.close()
    with pytest.raises(ShuttingDown):
        await waiting
    await held.end()
    with pytest.raises(ShuttingDown):
        await passwords.verify("p", None)


def test_tokens_are_256_random_bits_and_kept_as_a_hash() -> None:
    text, hashed = new_token()
    other, _ = new_token()
    assert text != other
    assert len(text) == 43
    assert text.isascii()
    assert token_hash(text) == hashed
    assert len(hashed) == 32
    assert len(token_hash("\ud800")) == 32
    assert TOKEN_LIFETIME_S == 30 * 24 * 3600
