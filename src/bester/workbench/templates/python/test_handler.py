"""The handler without a server, and on one that runs in the test (bester.testing).

What it does when servers, disks and networks fail is tested by bester.testing.lab: docs/handlers.md, section 9.
"""

from __future__ import annotations

import asyncio

import pytest
from bester import Client, Handler, Refuse, Reply
from bester.testing import call, server

from handler import TYPE, Answer, answer, handler


def test_it_answers_with_the_text() -> None:
    assert call(handler, TYPE, {"text": "Hello"}) == [Reply(Answer("Hello", "t"))]


@pytest.mark.parametrize("data", [{"text": ""}, {"text": 5}, {}, "Hello", None])
def test_it_refuses(data: object) -> None:
    with pytest.raises(Refuse):
        call(handler, TYPE, data)


def test_it_serves() -> None:
    async def play() -> None:
        async with server() as running:
            attached = Handler(running.handlers_path)
            attached.on(TYPE)(answer)
            async with attached, Client(running.url("t")) as t:
                assert (await t.ask(TYPE, {"text": "Hello"})).data == {"text": "Hello", "user": "t"}

    asyncio.run(play())
