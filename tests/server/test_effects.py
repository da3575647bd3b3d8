"""All that the exchange may ask for is carried out, and all that it writes."""

from __future__ import annotations

from typing import get_args

import pytest
from tests.server.peers import stage, to
from tests.waiting import until

from bester.core.effects import Effect


async def test_every_effect_is_carried_out() -> None:
    async with stage() as play:
        assert set(play.server.effects._methods) == set(get_args(Effect))


async def test_one_that_cannot_be_written_to_keeps_nothing_from_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with stage() as play:
        handler, t = await play.attach("chat"), await play.login("t")
        await play.login("a")
        b = await play.login("b")
        (broken,) = play.runtime.exchange.presence.sessions("a")

        def fails(out: list[bytes]) -> None:
            raise RuntimeError("a fault of ours")

        monkeypatch.setattr(broken.writer, "write", fails)
        t.ask("chat", "1")
        handler.answer(await handler.get(), to("a", "b"), data="x")
        assert (await b.get())["payload"]["data"] == "x"
        results = (await t.report("1"))["results"]
        assert [result["status"] for result in results] == ["stored", "delivered"]
        await until(lambda: not play.runtime.exchange.presence.sessions("a"))
