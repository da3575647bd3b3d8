"""Those who do not read: they hold up nobody but themselves, and take no more than a bounded part of the memory."""

from __future__ import annotations

import asyncio
from typing import cast

from tests.server.peers import Stage, Wire, attaching, hello, stage, to
from tests.waiting import PATIENCE_S, until

from bester.server.connections.connection import Connection

DONE = {"type": "done"}


async def unread(play: Stage, where: str = "unix") -> Wire:
    """Returns a connection whose other end is not read, for its buffer here takes only this much."""
    if where == "handlers":
        pair = await asyncio.open_unix_connection(play.running.handlers_path, limit=1024)
    else:
        pair = await asyncio.open_unix_connection(play.folder / "clients", limit=1024)
    return play.keep(Wire(*pair))


def carrier(play: Stage, user: str) -> Connection:
    """Returns the server's end of an account's only session."""
    (session,) = play.runtime.exchange.presence.sessions(user)
    return cast(Connection, session.writer)


async def test_what_a_client_does_not_read_goes_to_its_mailbox() -> None:
    count = 80
    data = "x" * 50_000
    async with stage({"limits": {"maxMessage": 65_536}}) as play:
        handler = await play.attach("chat")
        slow = await unread(play)
        slow.send(hello("silent"))
        await slow.good()
        sender, other = await play.login(), await play.login("g")
        connection = carrier(play, "silent")
        most = 0
        for number in range(count):
            sender.ask("chat", str(number), data)
            handler.answer(await handler.get(), to("silent", "g"), data=[number, data])
            # The others never notice.
            assert (await other.get())["payload"]["data"][0] == number
            most = max(most, connection.transport.get_write_buffer_size())
        assert most < 512 * 1024
        for _ in range(count):
            results = (await sender.report())["results"]
            assert [result["to"] for result in results] == ["silent", "g"]
            assert results[0]["status"] in ("delivered", "stored")
        assert [(await slow.get())["payload"]["data"][0] for _ in range(count)] == list(range(count))
        assert play.runtime.counts.slow_consumers == 0


async def test_a_client_that_never_reads_and_never_gets_much_stays() -> None:
    async with stage() as play:
        handler = await play.attach("chat")
        slow = await unread(play)
        slow.send(hello("slow"))
        await slow.good()
        for id in range(20):
            handler.send(
                {"header": {"messageType": "push", "id": str(id), "command": to("slow")}, "data": "x" * 100_000}
            )
            await handler.good(str(id))
        for _ in range(20):
            assert (await slow.get())["payload"]["type"] == "chat"
        assert play.runtime.counts.slow_consumers == 0


async def test_a_handler_that_never_reads_slows_down_its_senders_only() -> None:
    count = 300
    data = "x" * 20_000
    async with stage({"handlers": {"typeMap": {"slow": {"timeout": 1000}}}}) as play:
        slow = await unread(play, "handlers")
        slow.send(attaching("slow", concurrency=65_536))
        await slow.good()
        healthy = await play.attach("chat")
        sender, other = await play.login(), await play.login("g")
        sender.send(*[{"payload": {"type": "slow", "id": str(id), "data": data}} for id in range(count)])
        (session,) = play.runtime.exchange.presence.sessions("t")
        await until(lambda: session.paused)
        (kind,) = (handler for handler in play.runtime.exchange.dispatcher.handlers if handler.name == "slow")
        buffered = kind.writer.transport.get_write_buffer_size()
        assert buffered < 1024 * 1024
        assert session.held_bytes < 1024 * 1024
        assert play.runtime.exchange.reports.under_way < count
        for id in range(20):
            other.ask("chat", str(id))
            healthy.answer(await healthy.get(), DONE)
            await other.good(str(id))
        # Its answers are still read, and once it reads nothing was lost.
        slow.send({"header": {"messageType": "push", "id": "push", "command": to("g")}})
        assert (await other.get())["payload"]["type"] == "slow"
        seen: list[str] = []
        while len(seen) < count:
            message = await slow.get()
            if message["header"]["messageType"] == "request":
                seen.append(message["payload"]["id"])
                slow.answer(message, DONE)
        assert seen == list(map(str, range(count)))
        for id in range(count):
            await sender.good(str(id))
        assert play.runtime.counts.slow_consumers == 0


async def test_a_client_that_sends_without_reading_its_reports() -> None:
    """It is not read from either, and loses nothing."""
    count = 3000
    async with stage() as play:
        sender, other = await unread(play), await play.login("g")
        sender.send(hello())
        await sender.good()
        text = "x" * 2000
        for id in range(count):
            type = ("dummy", "none", "builtin")[id % 3]
            sender.send({"payload": {"type": type, "id": f"{id} {text}"}})
        connection = carrier(play, "t")
        await until(lambda: connection.stopped)
        assert connection.transport.get_write_buffer_size() < 2 * 1024 * 1024
        other.ask("dummy")
        await other.get()
        ids = set()
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(count):
                ids.add(int((await sender.get())["payload"]["id"].split()[0]))
        assert ids == set(range(count))
        assert play.runtime.counts.slow_consumers == 0


async def test_a_server_that_never_reads_its_report() -> None:
    """It has one message, and so costs one report."""
    async with stage() as play:
        handler = await play.attach("chat")
        before = len(play.server.connections.all)
        wire = await unread(play)
        wire.send({"header": {"scope": "server"}, "payload": {"type": "chat", "id": "1"}})
        handler.answer(await handler.get(), {"type": "reply"}, data="x" * 1_000_000)
        await until(lambda: play.server.connections.lingering)
        play.later(3)
        await until(lambda: len(play.server.connections.all) == before)
