"""All that the exchange may ask for is carried out."""

from __future__ import annotations

from typing import get_args

from tests.server.peers import stage

from bester.core.effects import Effect


async def test_every_effect_is_carried_out() -> None:
    async with stage() as play:
        assert set(play.server.effects._methods) == set(get_args(Effect))
