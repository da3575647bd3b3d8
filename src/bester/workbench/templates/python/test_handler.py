"""The handler without a server, and on one that runs in the test (bester.testing).

What it does when servers, disks and networks fail is tested by bester.testing.lab: docs/handlers.md, section 9.
"""

from __future__ import annotations

import asyncio

from bester import Client, Handler, Reply
from bester.testing import call, server

from handler import TYPE, answer, handler


def test_it_answers_with_the_data() -> None:
    [command] = call(handler, TYPE, {"text": "Hello"})
    assert isinstance(command, Reply)
    assert bytes(command.data) == b'{"text":"Hello"}'


def test_it_serves() -> None:
    async def play() -> None:
        async with server() as running:
            attached = Handler(running.handlers_path)
            attached.on(TYPE)(answer)
            async with attached, Client(running.url("t")) as t:
                assert (await t.ask(TYPE, [1, "two", None])).data == [1, "two", None]

    asyncio.run(play())
