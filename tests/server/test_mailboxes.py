"""Accounts that are away, acknowledgements and ``once``, on a real server (docs/protocol.md, section 4)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests import forking
from tests.server.peers import Stage, Wire, attaching, body_of, hello, result, result_of, stage, to
from tests.waiting import PATIENCE_S, until

from bester.protocol.framing import frame
from bester.store.messages import SqliteMessages

ACK = ("ack",)


async def pass_on(handler: Wire, *names: str, **more: Any) -> Any:
    """Answers the next request with its data for these accounts, and returns the data."""
    request = await handler.get()
    data = request["payload"]["data"]
    handler.answer(request, to(*names, **more), data=data)
    return data


def ack(wire: Wire, *messages: Any) -> None:
    wire.send(
        {"header": {"messageType": "ack"}, "payload": {"ids": [one["payload"]["deliveryId"] for one in messages]}}
    )


async def ping(wire: Wire) -> None:
    """Returns when the server has looked at all that was sent before, and there is nothing else from it."""
    wire.ask("dummy", "p")
    assert (await wire.get())["payload"]["type"] == "dummy"


async def mail(play: Stage, user: str) -> int:
    return (await play.server.messages.mailbox_size(user)).messages


async def test_an_account_that_was_away_finds_its_messages() -> None:
    async with stage() as play:
        handler, t = await play.attach("chat"), await play.login()
        await play.away("g")
        for number in range(5):
            t.ask("chat", str(number), number)
            await pass_on(handler, "g", "nobody")
            assert result_of(await t.report(str(number))) == [
                ("g", "stored", None),
                ("nobody", "failed", "unknownAccount"),
            ]
        assert await mail(play, "g") == 5
        g = await play.login("g")
        received = [await g.get() for _ in range(5)]
        assert [one["payload"] for one in received] == [{"type": "chat", "data": number} for number in range(5)]
        t.ask("chat", "live", "live")
        await pass_on(handler, "g")
        assert (await g.get())["payload"]["data"] == "live"
        await t.good("live")
        again = await play.login("g")
        await ping(again)
        assert await mail(play, "g") == 0


async def test_mail_comes_again_until_it_is_acknowledged() -> None:
    async with stage() as play:
        handler, t = await play.attach("chat"), await play.login()
        g = await play.login("g", features=ACK)
        for number in range(3):
            t.ask("chat", str(number), number)
            await pass_on(handler, "g")
        first = [await g.get() for _ in range(3)]
        await ping(t)
        ack(g, first[1])
        assert result_of(await t.report("1")) == [("g", "delivered", None)]
        await g.leave()
        assert result_of(await t.report("0")) == result_of(await t.report("2")) == [("g", "stored", None)]
        g = await play.login("g", features=ACK)
        second = [await g.get() for _ in range(2)]
        assert second == [first[0], first[2]]
        await g.leave()
        g = await play.login("g", features=ACK)
        third = [await g.get() for _ in range(2)]
        assert third == second
        ack(g, *third)
        await ping(g)
        await g.leave()
        g = await play.login("g", features=ACK)
        await ping(g)


async def test_a_mailbox_is_bounded() -> None:
    async with stage({"limits": {"mailboxMessages": 2}}) as play:
        handler, t = await play.attach("chat"), await play.login()
        await play.away("g")
        for number in range(3):
            t.ask("chat", str(number))
            await pass_on(handler, "g")
        assert [result_of(await t.report())[0][1:] for _ in range(3)] == [
            ("stored", None),
            ("stored", None),
            ("failed", "mailboxFull"),
        ]


async def test_the_mailbox_goes_with_its_account() -> None:
    async with stage() as play:
        handler, t, root = await play.attach("chat"), await play.login(), await play.admin()
        await play.away("g")
        t.ask("chat", "1")
        await pass_on(handler, "g")
        await t.good("1")
        await result(root, "removeAccount", username="g")
        assert await mail(play, "g") == 0
        t.ask("chat", "2")
        await pass_on(handler, "g")
        assert result_of(await t.report("2")) == [("g", "failed", "unknownAccount")]


async def test_messages_that_need_no_disk_are_not_reported_before_older_ones() -> None:
    async with stage() as play:
        handler, t = await play.attach("chat"), await play.login()
        await play.away("g")
        t.ask("chat", "first")
        await pass_on(handler, "g")
        await t.good("first")
        disk_goes_on = threading.Event()
        assert isinstance(play.server.messages, SqliteMessages)
        blocked = play.server.messages.database.read(lambda _: disk_goes_on.wait(PATIENCE_S))
        t.ask("chat", "kept")
        await pass_on(handler, "g")
        await until(lambda: play.server.mailboxes._depositing and not play.server.mailboxes.waiting)
        t.ask("chat", "transient")
        await pass_on(handler, "g", transient=True)
        await until(lambda: play.server.mailboxes.waiting == 1)
        disk_goes_on.set()
        assert await blocked
        assert result_of(await t.report("kept")) == [("g", "stored", None)]
        assert result_of(await t.report("transient")) == [("g", "skipped", None)]


async def test_a_transient_message_is_not_kept() -> None:
    async with stage() as play:
        handler, t = await play.attach("chat"), await play.login()
        await play.away("g")
        t.ask("chat", "1")
        await pass_on(handler, "g", transient=True)
        assert result_of(await t.good("1")) == [("g", "skipped", None)]
        assert await mail(play, "g") == 0


async def test_a_client_that_does_not_acknowledge_in_time() -> None:
    async with stage() as play:
        handler, t = await play.attach("chat"), await play.login()
        g = await play.login("g", features=ACK)
        t.ask("chat", "1", 1)
        await pass_on(handler, "g")
        message = await g.get()
        play.later(31)
        assert result_of(await t.good("1")) == [("g", "stored", None)]
        assert await g.get() == message
        ack(g, message)
        await ping(g)
        t.ask("chat", "3", 3)
        await pass_on(handler, "g")
        third = await g.get()
        ack(g, third)
        await t.good("3")
        await until(lambda: mail(play, "g"), lambda found: not found)


async def test_a_large_mailbox_comes_in_pieces_and_in_order() -> None:
    count = 2000
    async with stage() as play:
        handler, t = await play.attach("chat", concurrency=4096), await play.login()
        await play.away("g")
        t.send(*[{"payload": {"type": "chat", "id": str(number), "data": number}} for number in range(count)])
        for _ in range(count):
            await pass_on(handler, "g")
        for _ in range(count):
            await t.good()
        g = await play.login("g", features=ACK)
        got: list[int] = []
        while len(got) < count:
            message = await g.get()
            got.append(message["payload"]["data"])
            ack(g, message)
            if len(got) == 1000:
                t.ask("chat", "new", count)  # comes behind the old ones
                await pass_on(handler, "g")
        assert got == list(range(count))
        assert (await g.get())["payload"]["data"] == count


async def test_a_repeat_is_not_handled_again() -> None:
    async with stage() as play:
        handler, t = await play.attach("chat"), await play.login()
        message = {"header": {"once": True}, "payload": {"type": "chat", "id": "7", "data": 1}}
        t.send(message)
        await pass_on(handler, "t")
        assert (await t.get())["payload"]["data"] == 1
        first = await t.good("7")
        again = await play.login()
        again.send(message, message | {"payload": {"type": "chat", "id": "7", "data": 2}})
        assert await again.good("7") == first
        assert await again.bad("7") == "idConflict"
        again.ask("chat", "8")
        assert (await handler.get())["payload"]["id"] == "8"


async def test_a_connection_that_is_gone_takes_nothing() -> None:
    async with stage() as play:
        handler, t, _ = await play.attach("chat"), await play.login(), await play.login("g")
        t.ask("chat", "1", 5)
        request = await handler.get()
        (session,) = play.runtime.exchange.presence.sessions("g")
        (attached,) = play.runtime.exchange.dispatcher.handlers
        answer = {"header": {"id": request["header"]["id"], "status": "0", "command": to("g")}, "data": 5}
        session.writer.transport.abort()  # as if the peer had reset it: the loop has yet to tell
        attached.writer.data_received(frame(body_of(answer)))
        assert result_of(await t.good("1")) == [("g", "stored", None)]
        assert (await (await play.login("g")).get())["payload"]["data"] == 5


async def test_a_half_closed_client_gets_the_reports_that_wait_for_others() -> None:
    async with stage() as play:
        handler, t = await play.attach("chat"), await play.login()
        g = await play.login("g", features=ACK)
        t.ask("chat", "1")
        t.end_input()
        await pass_on(handler, "g")
        ack(g, await g.get())
        assert result_of(await t.good("1")) == [("g", "delivered", None)]
        await t.closed()


async def test_a_store_that_fails_loses_no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage() as play:
        handler, t = await play.attach("chat"), await play.login()
        await play.away("g")

        async def fail(*args: Any) -> Any:
            raise MemoryError

        with monkeypatch.context() as patched:
            patched.setattr(play.server.messages, "deposit", fail)
            t.ask("chat", "1")
            await pass_on(handler, "g")
            assert result_of(await t.report("1")) == [("g", "failed", "internal")]
        g = await play.login("g")
        t.ask("chat", "2", 2)
        await pass_on(handler, "g")
        assert (await g.get())["payload"]["data"] == 2
        assert result_of(await t.good("2")) == [("g", "delivered", None)]


async def test_a_malformed_ack_is_fatal() -> None:
    async with stage() as play:
        g = await play.login("g", features=ACK)
        g.send({"header": {"messageType": "ack"}, "payload": {"ids": 5}})
        assert await g.fatal() == "malformed"


# -- a server that dies -------------------------------------------------------------------------------------------

CONFIG = {
    "server": {"name": "j.example"},
    "network": {"unix": {"address": "clients"}},
    "accounts": {"registration": "firstUse"},
}
ONCE = {"header": {"once": True}, "payload": {"type": "chat", "id": "7", "data": 1}}


class Daemons:
    """One besterd after the other on the same folder, and all connections to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: forking.Running | None = None
        self.wires: list[Wire] = []
        (folder / "server.conf").write_text(json.dumps(CONFIG))

    def start(self, **environment: str) -> None:
        command = [str(Path(sys.executable).with_name("besterd")), "server.conf"]
        self.process = forking.start(command, self.folder, os.environ | environment)
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if line.endswith(b"is ready\n"):
                return
        raise AssertionError(b"".join(lines).decode())

    def send_signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """Returns how the process ended."""
        assert self.process is not None
        assert self.process.stdout is not None
        code = self.process.wait(PATIENCE_S)
        self.process.stdout.close()
        self.process = None
        return code

    def kill(self) -> None:
        if self.process is not None:
            self.send_signal(signal.SIGKILL)
            self.wait()

    async def connect(self, where: str, message: Any) -> Wire:
        wire = Wire(*await asyncio.open_unix_connection(self.folder / where))
        self.wires.append(wire)
        wire.send(message)
        await wire.good()
        return wire

    async def client(self, user: str, **header: Any) -> Wire:
        return await self.connect("clients", hello(user, **header))

    async def handler(self) -> Wire:
        return await self.connect("besterHandlers", attaching("chat"))


@pytest.fixture
async def daemons(tmp_path: Path) -> AsyncIterator[Daemons]:
    daemons = Daemons(tmp_path)
    yield daemons
    daemons.kill()
    for wire in daemons.wires:
        await wire.leave()


async def test_a_kill_after_the_good_report_loses_nothing(daemons: Daemons) -> None:
    daemons.start()
    handler, g, t = await daemons.handler(), await daemons.client("g", features=ACK), await daemons.client("t")
    t.ask("chat", "1", "given")
    await pass_on(handler, "g")
    given = await g.get()
    await g.leave()
    assert result_of(await t.good("1")) == [("g", "stored", None)]
    t.send(ONCE)
    await pass_on(handler, "g")
    report = await t.good("7")
    daemons.kill()
    daemons.start()
    t = await daemons.client("t")
    t.send(ONCE)  # remembered: no handler is needed
    assert await t.good("7") == report
    g = await daemons.client("g", features=ACK)
    assert await g.get() == given
    assert (await g.get())["payload"]["data"] == 1
    await ping(g)


async def test_a_kill_before_the_report_is_made_good_by_the_resend(daemons: Daemons) -> None:
    daemons.start()
    await daemons.client("g")
    daemons.send_signal(signal.SIGTERM)
    assert daemons.wait() == 0
    for point in ("mailbox.storing", "mailbox.stored", "once.remembered"):
        daemons.start(BESTER_DIE_AT=point)
        handler, t = await daemons.handler(), await daemons.client("t")
        t.send(ONCE)
        await pass_on(handler, "g")
        assert daemons.wait() == -signal.SIGKILL
    daemons.start()
    t = await daemons.client("t")
    t.send(ONCE)
    assert result_of(await t.good("7")) == [("g", "stored", None)]
    g = await daemons.client("g", features=ACK)
    assert (await g.get())["payload"]["data"] == 1
    await ping(g)  # and there is nothing else


async def test_a_stop_keeps_what_is_not_acknowledged(daemons: Daemons) -> None:
    daemons.start()
    handler, g, t = await daemons.handler(), await daemons.client("g", features=ACK), await daemons.client("t")
    t.ask("chat", "1", 5)
    await pass_on(handler, "g")
    given = await g.get()
    daemons.send_signal(signal.SIGTERM)
    assert result_of(await t.good("1")) == [("g", "stored", None)]
    assert daemons.wait() == 0
    daemons.start()
    g = await daemons.client("g", features=ACK)
    assert await g.get() == given
