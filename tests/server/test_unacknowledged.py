"""What sessions leave unacknowledged, on a real server (docs/protocol.md, section 4.3)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.peers import Stage, Wire, refused, result, stage, to
from tests.server.test_mailboxes import ACK, ack, mail, pass_on, ping
from tests.waiting import until

from bester.core.redelivery import ACK_S, PAUSE_S, TRIES
from bester.core.window import WINDOW_MESSAGES
from bester.server import mailboxes
from bester.server.admin import problems


async def sent(play: Stage, handler: Wire, t: Wire, *data: Any) -> None:
    for one in data:
        t.ask("chat", str(one)[:9], one)
        await pass_on(handler, "g")


async def next_message(wire: Wire) -> Any:
    return (await wire.get())["payload"]


async def test_one_message_that_is_not_acknowledged_stops_nothing() -> None:
    async with stage() as play:
        handler, t = await play.attach("chat"), await play.login()
        g = await play.login("g", features=ACK)
        await sent(play, handler, t, 0, 1, 2)
        left, *others = [await g.get() for _ in range(3)]
        ack(g, *others)
        await ping(g)
        play.later(ACK_S)
        assert await g.get() == left
        await sent(play, handler, t, 3)
        third = await g.get()
        assert third["payload"]["data"] == 3
        ack(g, third)
        await ping(g)
        play.later(2 * ACK_S)
        assert await g.get() == left
        ack(g, left)
        await ping(g)
        await until(lambda: not play.runtime.exchange.redelivery.unacknowledged)
        await until(lambda: not play.server.mailboxes._working)
        assert await mail(play, "g") == 0


async def test_it_is_told_as_long_as_it_lasts() -> None:
    async with stage() as play:
        handler, t, root = await play.attach("chat"), await play.login(), await play.admin()
        g = await play.login("g", features=ACK)
        await sent(play, handler, t, 0)
        left = await g.get()
        for _ in range(2):
            assert problems._unacknowledged(play.server.admin) == []
            play.later(2 * ACK_S)
            assert await g.get() == left
        play.later(ACK_S)
        await until(lambda: problems._unacknowledged(play.server.admin))
        (problem,) = await result(root, "problems")
        assert (problem["what"], problem["name"]) == ("unacknowledged", "g")
        assert (await result(root, "status"))["messages"]["givenAgain"] == 2
        ack(g, left)
        await ping(g)
        assert await result(root, "problems") == []


async def test_what_is_never_acknowledged_is_a_dead_letter_that_operators_have() -> None:
    async with stage() as play:
        handler, t, root = await play.attach("chat"), await play.login(), await play.admin()
        g = await play.login("g", features=ACK)
        await sent(play, handler, t, "poison", "good")
        poison, good = [await g.get() for _ in range(2)]
        ack(g, good)
        await ping(g)
        for _ in range(TRIES - 1):
            play.later(PAUSE_S)
            assert await g.get() == poison
        play.later(ACK_S)

        async def rows(**args: Any) -> Any:
            return await result(root, "listQueue", **args)

        while not (found := await rows()):
            await ping(g)
        (row,) = found
        assert (row["server"], row["type"], row["tries"], row["dead"]) == ("@g", "chat", TRIES, True)
        assert row["messageId"] == poison["payload"]["deliveryId"]
        assert row["lastError"].startswith("unacknowledged: ")
        assert await mail(play, "g") == 0
        assert await rows(server="@G") == found
        assert await rows(server="@h") == await rows(dead=False) == []
        assert await refused(root, "listQueue", server="@ ") == "badArguments"
        assert (await result(root, "showQueue", id=row["id"]))["data"] == '"poison"'
        (problem,) = await result(root, "problems")
        assert (problem["what"], problem["name"]) == ("deadLetters", "@g")
        assert [one["name"] for one in await result(root, "listServers")] == []

        assert await result(root, "retryQueue", ids=[row["id"]]) == {"messages": 1}
        assert await g.get() == poison
        assert await rows() == []
        ack(g, poison)
        await ping(g)
        await until(lambda: not play.server.mailboxes._working)
        assert await mail(play, "g") == 0


async def test_what_is_given_up_is_not_given_once_more_with_what_is_due_then() -> None:
    async with stage() as play:
        handler, t = await play.attach("chat"), await play.login()
        g = await play.login("g", features=ACK)
        await sent(play, handler, t, "poison")
        poison = await g.get()
        for _ in range(TRIES - 1):
            play.later(PAUSE_S)
            assert await g.get() == poison
        await sent(play, handler, t, "due")
        due = await g.get()
        play.later(ACK_S)
        assert await g.get() == due
        assert play.runtime.exchange.batch.counters.drops.by_what()["letter"] == {"unacknowledged": 1}


async def test_dead_letters_are_bounded_and_go_with_their_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailboxes, "DEAD_LETTERS", 2)
    async with stage() as play:
        handler, t, root = await play.attach("chat"), await play.login(), await play.admin()
        g = await play.login("g", features=ACK)
        await sent(play, handler, t, 0, 1, 2, 3)
        first = [await g.get() for _ in range(4)]
        ack(g, first[3])
        for _ in range(TRIES - 1):
            await sent(play, handler, t, "newer")
            newer = await g.get()
            play.later(1)
            await sent(play, handler, t, "newest")
            ack(g, newer, await g.get())
            await ping(g)
            play.later(PAUSE_S)
            assert [await g.get() for _ in range(3)] == first[:3]
        await sent(play, handler, t, "newest")
        ack(g, await g.get())
        play.later(ACK_S)
        counts = play.runtime.exchange.batch.counters.drops.by_what
        await until(lambda: counts().get("letter", {}).get("share"))
        assert counts()["letter"] == {"share": 1, "unacknowledged": 3}
        rows = await result(root, "listQueue")
        assert [row["messageId"] for row in rows] == [one["payload"]["deliveryId"] for one in first[1:3]]
        assert await result(root, "dropQueue", ids=[rows[0]["id"]]) == {"messages": 1}
        await result(root, "removeAccount", username="g")
        assert await result(root, "listQueue") == []


async def test_the_oldest_unacknowledged_comes_first_after_a_login() -> None:
    async with stage() as play:
        handler, t = await play.attach("chat"), await play.login()
        g = await play.login("g", features=ACK)
        data = [f"{number}:" + "x" * 50_000 for number in range(60)]
        await sent(play, handler, t, *data)
        assert (await next_message(g))["data"] == data[0]
        await until(lambda: not play.runtime.exchange.dispatcher.handlers[0].outstanding)
        await g.leave()
        reports = [await t.report() for _ in range(60)]
        assert len(reports) == 60
        g = await play.login("g", features=ACK)
        got = []
        for _ in range(60):
            message = await g.get()
            got.append(message["payload"]["data"])
            ack(g, message)
        assert got == data


async def test_what_waits_behind_a_full_window_is_reported_soon() -> None:
    async with stage() as play:
        handler, t = await play.attach("chat"), await play.login()
        g = await play.login("g", features=ACK)
        for number in range(WINDOW_MESSAGES + 1):
            handler.send(
                {
                    "header": {"messageType": "push", "id": str(number), "command": to("g")},
                    "payload": {"data": number},
                }
            )
        first = [await g.get() for _ in range(WINDOW_MESSAGES)]
        play.later(2)
        for _ in range(WINDOW_MESSAGES + 1):
            assert (await handler.report())["results"] == [{"to": "g", "status": "stored"}]
        ack(g, *first)
        assert (await next_message(g))["data"] == WINDOW_MESSAGES
        await ping(t)
