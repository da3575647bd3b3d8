"""What is thrown away is counted by what it was and why, and operators are told (docs/metrics.md)."""

from __future__ import annotations

from typing import Any

from tests.server import linked
from tests.server.linked import grant, send_on
from tests.server.peers import Stage, classic, result, result_of, stage, to
from tests.waiting import until

from bester.server.admin import numbers
from bester.server.connections.connection import LINGER_S

ACK = ("ack",)


def dropped(play: Stage, what: str) -> dict[str, int]:
    return numbers.dropped(play.server.admin).get(what, {})


async def test_recipients_that_do_not_get_it() -> None:
    async with stage({"limits": {"maxRecipients": 3}}) as play:
        handler, sender = await play.attach("chat"), await play.login()
        await play.server.accounts.add("away", "secret")
        sender.ask("chat", "1")
        handler.answer(await handler.get(), to("nobody", "\0", "t"), to("away", transient=True), send_on("no address"))
        assert len((await sender.get())["payload"]) == 2
        assert await sender.bad("1") == "unknownAccount"
        assert dropped(play, "recipient") == {"badAddress": 1, "nobodyThere": 1, "unknownAccount": 2}
        sender.ask("chat", "2")
        handler.answer(await handler.get(), to("a", "b", "c", "d"))
        assert await sender.bad("2") == "badResponse"
        assert dropped(play, "recipient")["badResponse"] == 4
        control = await play.connect("control")
        assert (await result(control, "status"))["dropped"]["recipient"] == dropped(play, "recipient")


async def test_letters() -> None:
    async with stage({"limits": {"mailboxMessages": 1}}) as play:
        handler, sender = await play.attach("chat"), await play.login()
        g = await play.login("g", features=ACK)
        for number in range(2):
            g.ask("chat", str(number))
            handler.answer(await handler.get(), {"type": "reply"}, data=number)
            await g.get()
            await g.good(str(number))
        await g.leave()  # with two replies that it does not acknowledge, and room for one
        await until(lambda: dropped(play, "letter") == {"mailboxFull": 1})
        sender.ask("chat", "3")
        handler.answer(await handler.get(), to("g"))
        assert await sender.bad("3") == "mailboxFull"
        control = await play.connect("control")
        await result(control, "removeAccount", username="g")
        assert dropped(play, "letter") == {"accountGone": 1, "mailboxFull": 1}


async def test_letters_that_expire() -> None:
    async with stage() as play:
        handler, sender = await play.attach("chat"), await play.login()
        await play.server.accounts.add("away", "secret")
        sender.ask("chat", "1")
        handler.answer(await handler.get(), to("away"))
        await sender.good("1")

        def expire(connection: Any) -> None:
            connection.execute("UPDATE letter SET expires = 1")

        store: Any = play.server.messages
        await store.database.write(expire)
        play.later(120)
        await until(lambda: dropped(play, "letter") == {"expired": 1})


async def test_answers_and_reports_that_come_too_late() -> None:
    async with stage({"limits": {"handlerTimeout": 1}}) as play:
        handler, sender = await play.attach("chat"), await play.login()
        sender.ask("chat", "1")
        late = await handler.get()
        play.later(2)
        assert await sender.bad("1") == "handlerTimeout"
        handler.answer(late, to("t"))
        sender.ask("chat", "2")
        asked = await handler.get()
        sender.send(b"no JSON")
        assert await sender.fatal() == "malformed"
        handler.answer(asked, {"type": "reply"})
        await until(lambda: dropped(play, "report") == {"senderGone": 1})
        assert dropped(play, "answer") == {"unmatched": 1}
        assert dropped(play, "reply") == {"senderGone": 1}


async def test_frames() -> None:
    async with stage() as play:
        half, broken = await play.login("a"), await play.login("b")
        half.writer.write(b"\x10\x00\x00\x00half")
        half.end_input()
        await half.closed()
        await until(lambda: dropped(play, "frame") == {"incomplete": 1})
        broken.send({"payload": {"type": "dummy", "id": "p"}}, b"no JSON", b"one", b"two")
        assert (await broken.get())["payload"]["id"] == "p"
        assert await broken.fatal() == "malformed"
        assert dropped(play, "frame") == {"afterEnd": 2, "incomplete": 1}
        broken.send(b"more")
        await until(lambda: play.runtime.counts.discarded_in == 8)
        play.later(LINGER_S)


async def test_messages_that_are_refused_at_the_door() -> None:
    async with stage() as play:
        sender = await play.login()
        sender.send({"header": {"route": True}, "payload": {"type": "chat", "id": "1"}})
        assert await sender.bad("1") == "notAllowed"
        for data in (1, 2):
            sender.send({"header": {"once": True}, "payload": {"type": "chat", "id": "2", "data": data}})
        assert [await sender.bad("2"), await sender.bad("2")] == ["noHandler", "idConflict"]
        peer = await play.connect()
        peer.send(linked.hello())
        await peer.good("h")
        peer.send(linked.linked("builtin", "b"))
        assert await peer.bad("b") == "notAllowed"
        assert dropped(play, "message") == {"idConflict": 1, "notAllowed": 2}


async def test_the_outbox() -> None:
    async with stage({"federation": linked.QUICK}) as play:
        other = await play.listen("other")
        handler, sender = await play.attach("chat"), await play.login()
        for number in range(3):
            sender.ask("chat", str(number))
            handler.answer(await handler.get(), send_on("unix:other"))
        there = await grant(other)
        asked = [await there.get() for _ in range(3)]
        linked.good(there, *asked[:1], {"payload": {"id": "nobody's"}})
        linked.bad(there, asked[1], "handlerTimeout", temporary=True)
        linked.bad(there, asked[2], "noHandler", temporary=False)
        reports = [result_of(await sender.report()) for _ in range(3)]
        assert sorted(status for ((_, status, _),) in reports) == ["failed", "queued", "sent"]
        await until(lambda: dropped(play, "report") == {"unmatched": 1})
        assert dropped(play, "recipient") == {"serverRefused": 1}
        linked.bad(there, await there.get(), "noHandler", temporary=False)
        await until(lambda: dropped(play, "outgoing") == {"serverRefused": 1})
        control = await play.connect("control")
        assert (await result(control, "dropQueue", dead=True)) is not None
        assert dropped(play, "outgoing") == {"operator": 1, "serverRefused": 1}


async def test_what_the_outbox_gives_up() -> None:
    async with stage({"federation": {"retryFor": 0.2} | linked.QUICK}) as play:
        handler, sender = await play.attach("chat"), await play.login()
        sender.ask("chat", "1")
        handler.answer(await handler.get(), send_on("unix:nobody"))
        assert result_of(await sender.good("1")) == [("unix:nobody", "queued", None)]
        await until(lambda: dropped(play, "outgoing") == {"expired": 1})


async def test_receipts_beyond_the_share() -> None:
    async with stage() as play:
        sender = await play.login()
        play.runtime.exchange.reports.receipts.bad_left = 1
        for id in ("1", "2", "3"):
            sender.ask("nothing", id)
        for id in ("1", "2", "3"):
            assert await sender.bad(id) == "noHandler"
        assert dropped(play, "receipt") == {"share": 2}


async def test_what_a_stop_leaves_undone() -> None:
    async with stage(classic() | {"limits": {"drainTimeout": 0}}) as play:
        handler, sender = await play.listen("classic"), await play.login()
        sender.ask("classic", "1")
        await handler.accept()
        await play.running.daemon.stop()
        assert dropped(play, "message") == {"shutdown": 1}


async def test_commands_whose_sender_is_gone() -> None:
    async with stage() as play:
        informer = await play.connect("informer")
        informer.send(*({"payload": {"type": "isAccount", "data": "t"}} for _ in range(200)))
        informer.reset()
        await until(lambda: not any(one.kind == "informer" for one in play.server.connections.all))
        await play.login()
        told = dropped(play, "command").get("senderGone", 0) + dropped(play, "frame").get("connectionGone", 0)
        assert told > 0


async def test_bytes_by_peer() -> None:
    async with stage() as play:
        await play.attach("chat")
        sender = await play.login()
        before = numbers.traffic(play.server.admin)
        sender.ask("dummy", "p")
        answer = await sender.body()
        after = numbers.traffic(play.server.admin)
        assert after["sent"]["client"] - before["sent"]["client"] == len(answer) + 4
        assert after["received"]["client"] > before["received"]["client"]
        assert after["received"]["handler"] > 50 < after["sent"]["handler"]
        await sender.leave()
        await until(lambda: not play.runtime.exchange.presence.session_count)
        await until(lambda: not any(one.kind == "client" for one in play.server.connections.all))
        assert numbers.traffic(play.server.admin) == after
