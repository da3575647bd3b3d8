"""Many who log in at once: as many are checked as one after the other would be, and they take turns (section 5.4)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from tests.server.peers import Stage, Wire, hello, stage
from tests.waiting import until

from bester.errors import AuthenticationFailed, BesterError, ShuttingDown, Throttled
from bester.net.peers import Remote
from bester.protocol.messages import Authentication
from bester.server.accounts.attempts import MAX_WAITING, Attempts
from bester.server.accounts.throttle import FAILURES, Throttle
from bester.store.passwords import THREADS
from bester.testing import PASSWORD

FAR = Remote("203.0.113.5", False)
NEAR = Remote("198.51.100.7", False)


def open_stage() -> Any:
    return stage({"accounts": {"registration": "open"}})


def counted(play: Stage, monkeypatch: pytest.MonkeyPatch, begin: asyncio.Event | None = None) -> list[str]:
    """Notes each password that is checked or hashed; nothing is done before it may ``begin``."""
    passwords = play.server.accounts.passwords
    checked: list[str] = []
    verify, hash = passwords.verify, passwords.hash

    async def noted(password: str, stored: str | None) -> bool:
        checked.append(password)
        if begin is not None:
            await begin.wait()
        return await verify(password, stored)

    async def hashed(password: str) -> str:
        checked.append(password)
        if begin is not None:
            await begin.wait()
        return await hash(password)

    monkeypatch.setattr(passwords, "verify", noted)
    monkeypatch.setattr(passwords, "hash", hashed)
    return checked


async def tried(play: Stage, name: str, remote: Remote = FAR, **proof: str) -> str:
    """Proves an account as a first message does; returns what comes of it."""
    accounts = play.server.accounts
    with accounts.checking() as login:
        try:
            await accounts.authenticate(Authentication(name, **proof), remote, login)
        except BesterError as error:
            return error.code
    return "good"


@pytest.mark.parametrize("name", [lambda number: "t", lambda number: f"account{number}"])
async def test_wrong_passwords_at_once(name: Callable[[int], str], monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_stage() as play:
        await play.server.accounts.add("t", PASSWORD)
        checked = counted(play, monkeypatch)
        codes = await asyncio.gather(*(tried(play, name(number), password="wrong") for number in range(200)))
        assert Counter(codes) == {"authenticationFailed": FAILURES, "throttled": 200 - FAILURES}
        assert len(checked) == FAILURES
        assert await tried(play, "t", NEAR, password=PASSWORD) == "good"
        play.later(1.5)  # the pause is over: one more, however many come
        codes = await asyncio.gather(*(tried(play, name(number), password="wrong") for number in range(20)))
        assert Counter(codes) == {"authenticationFailed": 1, "throttled": 19}


async def test_wrong_tokens_at_once() -> None:
    async with open_stage() as play:
        await play.server.accounts.add("t", PASSWORD)
        token = await play.server.accounts.new_token("t")
        codes = await asyncio.gather(*(tried(play, "t", token="wrong") for _ in range(50)))
        assert Counter(codes) == {"authenticationFailed": FAILURES, "throttled": 50 - FAILURES}
        codes = await asyncio.gather(*(tried(play, "t", NEAR, token=token) for _ in range(100)))
        assert set(codes) == {"good"}


async def test_wrong_old_passwords_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage() as play:
        wires = [await play.login() for _ in range(8)]
        checked = counted(play, monkeypatch)
        for wire in wires:
            wire.command("changePassword", old="wrong", new="new")
        codes = [await wire.bad("b") for wire in wires]
        assert Counter(codes) == {"authenticationFailed": FAILURES, "throttled": len(wires) - FAILURES}
        assert checked == ["wrong"] * FAILURES


async def test_nobody_waits_for_the_many_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_stage() as play:
        for name in ("t", "g", "h"):
            await play.server.accounts.add(name, f"password of {name}")
        begin = asyncio.Event()
        checked = counted(play, monkeypatch, begin)
        line = play.server.accounts._attempts._costly
        many = [asyncio.ensure_future(tried(play, "t", password="password of t")) for _ in range(100)]
        await until(lambda: len(line) == len(many) - THREADS)
        others = [
            asyncio.ensure_future(tried(play, "g", password="password of g")),
            asyncio.ensure_future(tried(play, "h", NEAR, password="password of h")),
        ]
        await until(lambda: len(line) == len(many) + len(others) - THREADS)
        begin.set()
        assert await asyncio.gather(*others) == ["good", "good"]
        assert {"password of g", "password of h"} < set(checked[: THREADS + 4])
        assert set(await asyncio.gather(*many)) == {"good"}


async def test_registering_takes_turns_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_stage() as play:
        begin = asyncio.Event()
        checked = counted(play, monkeypatch, begin)
        wires: list[Wire] = [await play.connect() for _ in range(30)]
        for number, wire in enumerate(wires):
            data = {"command": {"type": "register", "args": {"username": f"u{number}", "password": PASSWORD}}}
            wire.send({"header": {"scope": "client"}, "payload": {"type": "builtin", "id": "b", "data": data}})
        line = play.server.accounts._attempts._costly
        await until(lambda: len(line) == len(wires) - THREADS)
        adding = asyncio.ensure_future(play.server.accounts.add("operators", "their own"))
        await until(lambda: len(line) > len(wires) - THREADS)
        begin.set()
        assert await adding == "operators"
        assert checked.index("their own") <= THREADS + 1
        for wire in wires:
            await wire.good("auth_special")


async def test_clients_at_once_over_real_connections() -> None:
    async with open_stage() as play:
        wires = [await play.connect() for _ in range(30)]
        for wire in wires:
            wire.send(hello("t", "wrong"))
        codes = Counter([await wire.bad("auth_special") for wire in wires])
        assert codes == {"authenticationFailed": FAILURES, "throttled": 30 - FAILURES}


async def test_a_waiting_login_can_give_up_and_is_turned_away_at_the_end() -> None:
    attempts = Attempts(Throttle(), lambda: 0.0)
    holding = asyncio.Event()
    began: list[str] = []

    async def attempt(account: str) -> None:
        async with attempts.permit("a", account):
            began.append(account)
            await holding.wait()

    first, second, third, fourth = (asyncio.ensure_future(attempt(name)) for name in ("1", "2", "3", "4"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert began == ["1", "2"]
    third.cancel()
    await asyncio.wait([third])
    second.cancel()
    await asyncio.wait([second])
    await asyncio.sleep(0)
    assert began == ["1", "2", "4"]
    waiting = asyncio.ensure_future(attempt("5"))
    await asyncio.sleep(0)
    attempts.close()
    with pytest.raises(ShuttingDown):
        await waiting
    with pytest.raises(ShuttingDown):
        await attempt("6")
    holding.set()
    await asyncio.gather(first, fourth)


async def test_all_who_wait_give_up_at_once() -> None:
    attempts = Attempts(Throttle(), lambda: 0.0)

    async def attempt(number: int) -> None:
        async with attempts.permit("a", str(number)):
            await asyncio.Event().wait()

    tasks = [asyncio.ensure_future(attempt(number)) for number in range(10)]
    await asyncio.sleep(0)
    for one in tasks:
        one.cancel()
    assert all(isinstance(one, asyncio.CancelledError) for one in await asyncio.gather(*tasks, return_exceptions=True))
    async with attempts.permit("a", "t"):
        pass


async def test_a_turn_that_is_given_while_its_owner_gives_up_is_given_back() -> None:
    attempts = Attempts(Throttle(), lambda: 0.0)

    async def attempt() -> None:
        async with attempts.permit("a", "t"):
            raise AuthenticationFailed

    for _ in range(20):
        one = asyncio.ensure_future(attempt())
        await asyncio.sleep(0)
        one.cancel()
        await asyncio.wait([one])
    with pytest.raises(AuthenticationFailed):
        await attempt()


async def test_the_line_is_bounded() -> None:
    attempts = Attempts(Throttle(), lambda: 0.0)
    holding = asyncio.Event()

    async def attempt(address: str) -> bool:
        try:
            async with attempts.permit(address, "t"):
                await holding.wait()
        except Throttled:
            return False
        return True

    tasks = [asyncio.ensure_future(attempt(str(number))) for number in range(MAX_WAITING + 10)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sum(one.done() for one in tasks) == 8  # two have their turns
    holding.set()
    assert Counter(await asyncio.gather(*tasks)) == {True: MAX_WAITING + 2, False: 8}
