"""What is about to go wrong: told to the log once when it begins and once when it is over (docs/operating.md)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.certificates import Papers, self_signed
from tests.server.logged import as_before
from tests.server.peers import classic, result, stage, to
from tests.server.reloading import reloading
from tests.waiting import until

from bester.server.admin import problems
from bester.server.admin.watch import LOOK_S


@pytest.fixture
def log_as_before() -> Iterator[None]:
    with as_before():
        yield


@contextmanager
def watched(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.WARNING, "bester.problems"):
        yield caplog


async def test_the_log_is_told_once_of_a_problem_and_once_of_its_end(caplog: pytest.LogCaptureFixture) -> None:
    with watched(caplog):
        async with stage({"limits": {"mailboxMessages": 2}}) as play:
            told: list[str] = []
            play.server.watch.changed.append(told.append)
            handler, sender = await play.attach("chat"), await play.login()
            await play.server.accounts.add("away", "secret")
            for id in ("1", "2"):
                sender.ask("chat", id)
                handler.answer(await handler.get(), to("away"))
                await sender.good(id)
            for _ in range(2):
                play.server.storage.expire()  # as if ten seconds had passed
                play.server.watch.look_soon()
                await until(lambda: caplog.messages)
            assert caplog.messages == ["mailbox: away: 2 of at most 2 messages, 0 of 64 MiB"]
            assert told[-1].endswith("is ready, 1 problem: mailbox: away: 2 of at most 2 messages, 0 of 64 MiB")
            assert await result(await play.admin(), "problems") == await problems.find(play.server.admin)
            await play.server.mailboxes.clear("away")
            play.server.storage.expire()  # as if ten seconds had passed
            play.server.watch.look_soon()
            await until(lambda: len(caplog.messages) > 1)
            assert caplog.messages[1:] == ["no longer a problem: mailbox: away"]
            assert told[-1].endswith("is ready, no problems")


async def test_what_lasts_is_told_every_day(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bester.server.admin.watch.REMIND_S", 0.0)
    papers = self_signed(tmp_path, "localhost", 9)
    with watched(caplog):
        async with stage({"network": papers.network}) as play:
            await until(lambda: caplog.messages)
            play.server.watch.look_soon()
            await until(lambda: len(caplog.messages) == 2)
            first, second = caplog.messages
            assert first == second
            assert first.startswith("certificate: this server's own certificate localhost.pem: ends in 8 days")


async def test_a_handler_that_ends_again_and_again(tmp_path: Path) -> None:
    program = tmp_path / "ends.sh"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    kinds = {"work": {"handlerBinary": str(program), "unixDomainSocketPath": "work"}}
    async with stage({"handlers": {"typeMap": kinds}}) as play:
        await until(lambda: play.server.supervisor.is_down("work"))
        (problem,) = await problems.find(play.server.admin)
        assert problem["what"] == "handler"
        assert problem["name"] == "work"
        assert "ended with 3" in problem["detail"]
        await play.server.supervisor.stop_type("work")
        assert await problems.find(play.server.admin) == []


@pytest.mark.usefixtures("log_as_before")
async def test_a_reload_looks_at_the_handlers_that_it_started(tmp_path: Path) -> None:
    program = tmp_path / "broken.sh"
    program.write_text("#!/there/is/no/interpreter\n")
    program.chmod(0o755)
    kinds = {"work": {"handlerBinary": str(program), "unixDomainSocketPath": "work"}}
    async with reloading() as play:
        watch = play.server.watch
        await play.reload(handlers={"typeMap": kinds})
        await until(lambda: watch.counts()["handler"] == 1, within_s=LOOK_S / 2)
        await play.reload()
        await until(lambda: watch.counts()["handler"] == 0, within_s=LOOK_S / 2)


async def test_a_look_that_fails_is_not_the_last(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with watched(caplog):
        async with stage() as play:
            told: list[str] = []
            play.server.watch.changed.append(told.append)
            with monkeypatch.context() as broken:
                broken.setattr(problems, "_disk", None)
                play.server.watch.look_soon()
                await until(lambda: caplog.messages == ["problems could not be looked for"])
            play.server.watch._before = ""
            told.clear()
            play.server.watch.look_soon()
            await until(lambda: told)


@pytest.mark.usefixtures("log_as_before")
async def test_a_server_that_is_another_one(tmp_path: Path) -> None:
    """It is a problem at once, everywhere that problems are told, and what waits says why; and it ends when it ends."""
    b, other = self_signed(tmp_path, "b.example"), self_signed(tmp_path, "other.example")
    async with reloading(network={"unix": {"address": "clients"}, "tls": b.network["tls"]}) as there:
        address = f"127.0.0.1:{there.port_of('tls')}"

        def known(papers: Papers) -> Any:
            pinned = {"address": address, "fingerprint": papers.fingerprints.key}
            return {"servers": {"b.example": pinned}, "retryMin": 0.05, "retryMax": 0.1}

        async with reloading(federation=known(b)) as here:
            control, handler, wire = await here.connect("control"), await here.attach("chat"), await here.login()

            async def sent(id: str) -> str:
                wire.ask("chat", id)
                handler.answer(await handler.get(), {"type": "sendServers", "data": ["b.example"]})
                payload = await wire.report(id)
                return str(payload["results"][0]["status"])

            assert await sent("1") == "failed"  # there is no handler there
            assert await result(control, "problems") == []
            before = time.time()
            await here.reload(federation=known(other))
            (problem,) = await result(control, "problems")  # though nothing was sent
            assert (problem["what"], problem["name"]) == ("identity", "b.example")
            assert "does not prove its name: its certificate has another key" in problem["detail"]
            assert before <= problem["since"] <= time.time()
            await until(lambda: here.server.watch.counts()["identity"] == 1)
            assert await sent("2") == "queued"
            (row,) = await result(control, "listQueue")
            assert row["tries"] >= 1
            assert row["lastError"].startswith("serverUnverified: b.example does not prove its name")
            assert (await result(control, "why"))["problems"] == await result(control, "problems") != []
            await here.reload(federation=known(b))
            assert await result(control, "problems") == []
            await until(
                lambda: here.runtime.exchange.batch.counters.drops.by_what().get("outgoing")
            )  # it is sent, and refused
            (row,) = await result(control, "listQueue")
            assert row["lastError"].startswith("noHandler: ")


async def test_a_classic_handler_that_is_not_there() -> None:
    async with stage(classic("work", timeout=0.2)) as play:
        wire = await play.login()

        async def problem() -> str:
            return "; ".join(one["detail"] for one in await problems.find(play.server.admin))

        assert await problem() == ""  # it may be starting, as this server is
        play.later(LOOK_S + 1)
        assert (await problem()).endswith("work: there is no such socket")
        first = await play.listen("work")
        assert await problem() == ""
        await first.close()  # the file stays
        assert await problem() == ""
        wire.ask("work", "1")
        assert await wire.bad("1") == "handlerUnavailable"
        assert (await problem()).endswith("work: Connection refused")
        await play.server.supervisor.stop_type("work")
        assert await problem() == ""
        await play.server.supervisor.start_type("work")
        assert (await problem()).endswith("work: Connection refused")
        attached = await play.attach("work")
        assert await problem() == ""
        await attached.leave()
        await until(lambda: not play.runtime.exchange.dispatcher.types["work"].attached)
        (play.folder / "work").unlink()
        await play.listen("work")
        assert await problem() == ""
