"""The system clock is set while a server runs or is stopped: nothing that was reported good is lost by that."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest
from tests.server.linked import Sender
from tests.server.peers import Stage, hello, result, result_of, stage, to
from tests.waiting import until

from bester.clock import MAX_STOP_S
from bester.store.ports import Remembered
from bester.testing import PASSWORD

DAY_S = 86_400.0
YEARS_S = 30 * 365 * DAY_S
SETTINGS = (-YEARS_S, YEARS_S)


class SystemClock:
    """What the operator, or a time server, sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offset_s = 0.0
        self._monkeypatch = monkeypatch
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + self.offset_s)

    def boot(self, id: str = "another") -> None:
        """The machine is started anew: only its system clock tells for how long it was off."""
        self._monkeypatch.setattr("bester.clock.boot_id", lambda: id)

    def set(self, by_s: float) -> None:
        self.offset_s += by_s


@pytest.fixture
def system_clock(monkeypatch: pytest.MonkeyPatch) -> SystemClock:
    return SystemClock(monkeypatch)


def kept_in(folder: Path) -> dict[str, Any]:
    """Returns the configuration of a server that can be started again."""
    return {"storage": {"path": str(folder / "bester.db"), "receipts": str(folder / "receipts.db")}}


def told(caplog: pytest.LogCaptureFixture, name: str) -> list[str]:
    """Returns what the log of one part says."""
    return [record.getMessage() for record in caplog.records if record.name == name]


async def store(play: Stage, data: str = "hello") -> None:
    """Lets a message be reported ``stored`` for the account g."""
    if not await play.server.accounts.store.exists(["g"]):
        await play.server.accounts.add("g", PASSWORD)
    handler, sender = await play.attach("chat"), await play.login()
    sender.ask("chat", "1")
    handler.answer(await handler.get(), to("g"), data=data)
    assert result_of(await sender.good("1")) == [("g", "stored", None)]
    await handler.leave()
    await sender.leave()


async def mail_of_g(play: Stage) -> Any:
    """Returns the first message in the mailbox of g."""
    session = await play.login("g")
    found = await session.get()
    await session.leave()
    return found["payload"]["data"]


@pytest.mark.parametrize("by_s", SETTINGS)
async def test_mail_stays_when_the_clock_is_set(system_clock: SystemClock, by_s: float) -> None:
    async with stage() as play:
        await store(play)
        system_clock.set(by_s)
        await play.server.mailboxes.expire()
        assert await mail_of_g(play) == "hello"


@pytest.mark.parametrize("by_s", [*SETTINGS, 31 * DAY_S])
@pytest.mark.parametrize("boots", [False, True])
async def test_mail_stays_when_the_clock_is_set_while_the_server_is_stopped(
    system_clock: SystemClock, tmp_path: Path, by_s: float, boots: bool
) -> None:
    async with stage(kept_in(tmp_path)) as play:
        await store(play)
    if boots:
        system_clock.boot()
    system_clock.set(by_s)
    async with stage(kept_in(tmp_path)) as play:
        await play.server.mailboxes.expire()
        assert await mail_of_g(play) == "hello"


async def test_mail_ends_by_the_time_that_passes(system_clock: SystemClock, tmp_path: Path) -> None:
    """It is not kept forever either: stops count, each up to a day, and so does the time in which a server runs."""
    over = kept_in(tmp_path) | {"limits": {"mailboxDays": 2}}
    async with stage(over) as play:
        await store(play)
    for boot in range(2):
        system_clock.set(MAX_STOP_S)
        system_clock.boot(f"boot {boot}")
        async with stage(over) as play:
            left = await play.server.messages.mailbox_size("g")
            await play.server.mailboxes.expire()
    assert left.messages == 1
    async with stage(over) as play:
        assert (await play.server.messages.mailbox_size("g")).messages == 0


@pytest.mark.parametrize("by_s", SETTINGS)
async def test_tokens_stay_good(system_clock: SystemClock, tmp_path: Path, by_s: float) -> None:
    async with stage(kept_in(tmp_path)) as play:
        session = await play.connect()
        session.send(hello(features=["token"]))
        token = (await session.good())["token"]
        await session.leave()
        system_clock.set(by_s)
        await by_token(play, token)
    system_clock.set(by_s)
    async with stage(kept_in(tmp_path)) as play:
        await by_token(play, token)


async def by_token(play: Stage, token: str) -> None:
    session = await play.connect()
    session.send({"header": {"scope": "client", "authentication": {"username": "t", "token": token}}})
    await session.good()
    await session.leave()


@pytest.mark.parametrize("by_s", SETTINGS)
async def test_once_messages_stay_known(system_clock: SystemClock, by_s: float) -> None:
    async with stage() as play:
        record = Remembered(b"k" * 16, b"d" * 16, b"report")
        await play.server.messages.remember([record], play.runtime.steady.now())
        system_clock.set(by_s)
        await play.server.mailboxes.expire()
        assert await play.server.messages.recall(record.key) == record


@pytest.mark.parametrize("by_s", SETTINGS)
async def test_what_waits_for_another_server_goes_on_waiting(system_clock: SystemClock, by_s: float) -> None:
    async with stage({"federation": {"retryFor": 3600, "retryMin": 3600, "retryMax": 3600}}) as play:
        assert await (await Sender.on(play)).send_and_see(1) == ["queued"]
        system_clock.set(by_s)
        before = play.runtime.steady.now() - 3600
        assert await play.server.messages.give_up_before(before, "too old", 100) == 0
        admin = await play.admin()
        (row,) = await result(admin, "listQueue")
        assert abs(row["created"] - time.time()) < 60
        assert "queue" not in {one["what"] for one in await result(admin, "problems")}


@pytest.mark.parametrize("by_s", SETTINGS)
async def test_a_clock_that_was_set_is_a_problem_and_one_line(
    system_clock: SystemClock, caplog: pytest.LogCaptureFixture, by_s: float
) -> None:
    with caplog.at_level(logging.WARNING, "bester.problems"):
        async with stage() as play:
            admin = await play.admin()
            assert await result(admin, "problems") == []
            system_clock.set(by_s)
            await until(lambda: told(caplog, "bester.problems"))
            (problem,) = await result(admin, "problems")
            assert (problem["what"], problem["name"]) == ("clock", "set back" if by_s < 0 else "set forward")
            assert problem["detail"].startswith("by 30 years while the server ran; ")
            assert told(caplog, "bester.problems") == [f"clock: {problem['name']}: {problem['detail']}"]
            status = await result(admin, "status")
            assert 0 <= status["uptime"] < 60


async def test_a_start_with_a_clock_that_is_behind_is_a_problem(system_clock: SystemClock, tmp_path: Path) -> None:
    async with stage(kept_in(tmp_path)):
        pass
    system_clock.set(-DAY_S)
    async with stage(kept_in(tmp_path)) as play:
        (problem,) = await result(await play.admin(), "problems")
        assert problem["name"] == "set back"
        assert problem["detail"].startswith("by 24 hours while the server was stopped; ")


async def test_a_long_stop_is_told(system_clock: SystemClock, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with stage(kept_in(tmp_path)):
        pass
    system_clock.set(61 * DAY_S)
    system_clock.boot()
    with caplog.at_level(logging.WARNING, "bester.clock"):
        async with stage(kept_in(tmp_path)) as play:
            assert await result(await play.admin(), "problems") == []
    assert told(caplog, "bester.clock") == [
        "this server was stopped for 61.0 days, as far as this machine can tell; what it keeps has aged by 1 day"
    ]


async def test_receipts_stay_when_the_clock_is_set_forward(system_clock: SystemClock) -> None:
    async with stage() as play:
        receipts = play.server.receipts
        for _ in range(2):
            await store(play)
            receipts.flush()
            await receipts.store.settle()
            system_clock.set(YEARS_S)
            receipts.store._pruned = float("-inf")  # type: ignore[attr-defined]  # as if a minute had passed
        assert [one.type for one in await receipts.store.find()] == ["chat", "chat"]
