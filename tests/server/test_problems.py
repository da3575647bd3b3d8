"""What is about to go wrong: told to the log once when it begins and once when it is over (docs/operating.md)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.certificates import self_signed
from tests.server.peers import result, stage, to, until

from bester.server import problems


@contextmanager
def watched(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.WARNING, "bester.problems"):
        yield caplog


async def test_the_log_is_told_once_of_a_problem_and_once_of_its_end(caplog: pytest.LogCaptureFixture) -> None:
    with watched(caplog):
        async with stage({"limits": {"mailboxMessages": 2}}) as play:
            told: list[str] = []
            play.hall.watch.told = told.append
            handler, sender = await play.attach("chat"), await play.login()
            await play.hall.accounts.add("away", "secret")
            for id in ("1", "2"):
                sender.ask("chat", id)
                handler.answer(await handler.get(), to("away"))
                await sender.good(id)
            for _ in range(2):
                play.hall.sampler._totals_at = float("-inf")  # as if ten seconds had passed
                play.hall.watch.look_soon()
                await until(lambda: caplog.messages)
            assert caplog.messages == ["mailbox: away: 2 of at most 2 messages, 0 of 64 MiB"]
            assert told[-1].endswith("is ready, 1 problem: mailbox: away: 2 of at most 2 messages, 0 of 64 MiB")
            assert await result(await play.admin(), "problems") == await problems.find(play.hall)
            await play.hall.mailboxes.clear("away")
            play.hall.sampler._totals_at = float("-inf")  # as if ten seconds had passed
            play.hall.watch.look_soon()
            await until(lambda: len(caplog.messages) > 1)
            assert caplog.messages[1:] == ["no longer a problem: mailbox: away"]
            assert told[-1].endswith("is ready, no problems")


async def test_what_lasts_is_told_every_day(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bester.server.problems.REMIND_S", 0.0)
    papers = self_signed(tmp_path, "localhost", 9)
    with watched(caplog):
        async with stage({"network": papers.network}) as play:
            await until(lambda: caplog.messages)
            play.hall.watch.look_soon()
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
        await until(lambda: play.hall.supervisor.is_down("work"))
        (problem,) = await problems.find(play.hall)
        assert problem["what"] == "handler"
        assert problem["name"] == "work"
        assert "ended with 3" in problem["detail"]
        await play.hall.supervisor.stop_type("work")
        assert await problems.find(play.hall) == []


async def test_a_look_that_fails_is_not_the_last(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with watched(caplog):
        async with stage() as play:
            told: list[str] = []
            play.hall.watch.told = told.append
            with monkeypatch.context() as broken:
                broken.setattr(problems, "_disk", None)
                play.hall.watch.look_soon()
                await until(lambda: caplog.messages == ["problems could not be looked for"])
            play.hall.watch._before = ""
            told.clear()
            play.hall.watch.look_soon()
            await until(lambda: told)
