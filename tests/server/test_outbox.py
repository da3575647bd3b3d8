"""Messages that wait for other servers (docs/protocol.md, section 4.5)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from tests.server.linked import QUICK, Sender, bad, forwarded, good, grant, hello, send_on, settled_on
from tests.server.peers import Listening, Stage, Wire, refused, result, stage
from tests.waiting import until

from bester.config import parse
from bester.server.server import Server
from bester.store.ports import Outgoing

DESTINATION = "unix:other"


async def emptied(play: Stage) -> None:
    """Waits until nothing is in the outbox."""
    await until(play.server.messages.queue_sizes, lambda sizes: not sizes)


async def take(there: Wire, count: int) -> list[Any]:
    """Reads messages from a link, and reports each good; returns their data."""
    found = []
    for _ in range(count):
        message = await there.get()
        found.append(message["payload"]["data"])
        good(there, message)
    return found


async def waiting(play: Stage, **args: Any) -> list[Any]:
    """Returns the data of what is in the outbox, in order."""
    control = await play.connect("control")
    rows = await result(control, "listQueue", **args)
    return [msgspec.json.decode((await result(control, "showQueue", id=row["id"]))["data"]) for row in rows]


# -- a server that is away ---------------------------------------------------------------------------------------------


async def test_a_server_that_comes_back_gets_each_once_and_in_order() -> None:
    async with stage({"federation": QUICK}) as play:
        sender = await Sender.on(play)
        assert set(await sender.send_and_see(*range(300))) == {"queued"}
        other = await play.listen("other")
        there = await grant(other)
        assert await take(there, 100) == list(range(100))
        await sender.send(*range(300, 400))  # behind those that wait
        assert await take(there, 300) == list(range(100, 400))
        assert {status for _, status in await sender.outcomes(100)} <= {"queued", "sent"}
        await emptied(play)
        await sender.send("direct")
        assert await take(there, 1) == ["direct"]
        assert await sender.outcomes(1) == [("direct", "sent")]
        assert len(other.wires) == 1


async def test_what_comes_while_something_waits_goes_behind_it() -> None:
    async with stage({"federation": {"retryMin": 3600, "retryMax": 3600}}) as play:
        sender = await Sender.on(play)
        assert await sender.send_and_see(1) == ["queued"]
        await play.listen("other")
        assert await sender.send_and_see(2) == ["queued"]
        assert await sender.send_and_see(3, transient=True) == ["skipped"]
        assert await waiting(play) == [1, 2]


async def test_it_is_tried_at_once_when_that_server_connects() -> None:
    servers = {"k.example": {"address": DESTINATION}}
    slow = {"retryMin": 3600, "retryMax": 3600, "servers": servers}
    async with stage({"federation": slow}) as play:
        sender = await Sender.on(play)
        assert await sender.send_and_see(1) == ["queued"]
        assert await sender.send_and_see(2, to="k.example") == ["queued"]
        other = await play.listen("other")
        wire = await play.connect()
        wire.send(hello("K.example"))
        await wire.good("h")
        links = [await grant(other), await grant(other)]
        assert sorted([(await take(there, 1))[0] for there in links]) == [1, 2]
        await emptied(play)


async def test_a_server_that_flaps() -> None:
    async with stage({"federation": QUICK}) as play:
        other = await play.listen("other")
        sender = await Sender.on(play)
        await sender.send(*range(20))
        seen: dict[str, Any] = {}
        order: list[Any] = []
        for had in range(20):  # one more each time, and then it is gone
            there = await grant(other)
            message = await there.get()
            if message["payload"]["id"] not in seen:
                seen[message["payload"]["id"]] = message
                order.append(message["payload"]["data"])
            if had % 2:
                good(there, message)
                await there.writer.drain()
                await there.leave()
            else:
                there.reset()
        there = await grant(other)
        while len(order) < 20:
            message = await there.get()
            if message["payload"]["id"] not in seen:
                seen[message["payload"]["id"]] = message
                order.append(message["payload"]["data"])
            good(there, message)
        assert order == list(range(20))
        await emptied(play)


async def test_there_is_one_dial_per_pause() -> None:
    async with stage({"federation": {"retryMin": 3600, "retryMax": 3600}}) as play:
        other = await play.listen("other")
        sender = await Sender.on(play)
        await sender.send(1)
        there = await other.accept()
        bad(there, await there.get(), "shuttingDown", True)
        assert await sender.outcomes(1) == [("1", "queued")]
        assert set(await sender.send_and_see(*range(50))) == {"queued"}
        assert len(other.wires) == 1


async def test_a_classic_server_gets_what_waited() -> None:
    async with stage({"federation": QUICK}) as play:
        sender = await Sender.on(play)
        assert set(await sender.send_and_see(*range(10))) == {"queued"}
        other = await play.listen("other")
        there = await other.accept()
        await there.get()
        await there.leave()
        for id in range(10):
            there = await other.accept()
            message = await there.get()
            assert message["header"] == {"scope": "server", "hops": 1}
            assert message["payload"]["data"] == id
            await there.leave()
        await emptied(play)


async def test_a_classic_server_that_does_not_report_is_not_sent_it_again() -> None:
    async with stage({"federation": {**QUICK, "reportTimeout": 0.05}}) as play:
        sender = await Sender.on(play)
        assert await sender.send_and_see(1) == ["queued"]
        other = await play.listen("other")
        there = await other.accept()
        await there.get()
        await there.leave()
        await (await other.accept()).get()
        await until(lambda: play.server.federation.destinations[DESTINATION].last_error.endswith("within 0.05 s"))
        assert await waiting(play, dead=True) == [1]
        assert len(other.wires) == 2


# -- what the other server refuses -------------------------------------------------------------------------------------


async def backlog(play: Stage, sender: Sender, *ids: object) -> Wire:
    """Lets messages wait, and then opens the link that they go over."""
    assert set(await sender.send_and_see(*ids)) == {"queued"}
    return await grant(await play.listen("other"))


async def test_one_that_is_refused_for_good_blocks_nobody() -> None:
    async with stage({"federation": QUICK}) as play:
        sender = await Sender.on(play)
        there = await backlog(play, sender, *range(5))
        messages = [await there.get() for _ in range(5)]
        bad(there, messages[2], "noHandler", False)
        good(there, *messages[:2], *messages[3:])
        control = await play.connect("control")
        rows = await until(lambda: result(control, "listQueue"), lambda rows: len(rows) == 1 and rows[0]["dead"])
        assert rows[0]["lastError"] == "noHandler: no"
        assert await waiting(play, dead=True) == [2]
        await sender.send("next")
        assert await take(there, 1) == ["next"]
        assert await sender.outcomes(1) == [("next", "sent")]


@pytest.mark.parametrize("code", ["overloaded", "shuttingDown", "storageFull", "throttled"])
async def test_a_server_that_takes_nothing_now_is_left_in_peace(code: str) -> None:
    async with stage({"federation": QUICK}) as play:
        sender = await Sender.on(play)
        there = await backlog(play, sender, 0, 1, 2)
        for _ in range(5):  # far more often than a message of its own would be tried
            messages = [await there.get() for _ in range(3)]
            assert [one["payload"]["data"] for one in messages] == [0, 1, 2]
            for message in messages:
                bad(there, message, code, True)
        assert await take(there, 3) == [0, 1, 2]
        await emptied(play)


async def test_one_that_cannot_be_had_now_steps_aside() -> None:
    async with stage({"federation": {"retryMin": 0.02, "retryMax": 0.2}}) as play:
        sender = await Sender.on(play)
        there = await backlog(play, sender, 0, 1, 2)
        tries = [await there.get() for _ in range(3)]
        bad(there, tries[0], "handlerUnavailable", True)
        good(there, *tries[1:])
        for _ in range(2):
            assert await there.get() == tries[0]
            bad(there, tries[0], "handlerUnavailable", True)
        control = await play.connect("control")
        [row] = await until(lambda: result(control, "listQueue"), lambda rows: rows[0]["tries"] >= 3)
        assert row["nextTry"] > 0
        assert row["lastError"] == "handlerUnavailable: no"
        await sender.send("next")  # is not held up
        found = []
        for _ in range(2):  # each is reported as it comes: the first one may wait for the outcome of the next
            found.append(await there.get())
            good(there, found[-1])
        assert sorted(str(one["payload"]["data"]) for one in found) == ["0", "next"]
        await emptied(play)


async def test_a_message_too_large_for_the_other_server_is_given_up() -> None:
    async with stage({"federation": QUICK}) as play:
        sender = await Sender.on(play)
        assert await sender.send_and_see("first") == ["queued"]
        sender.wire.ask("chat", "big")
        sender.handler.answer(await sender.handler.get(), send_on(DESTINATION), data="x" * 66_560)
        assert await sender.outcomes(1) == [("big", "queued")]
        assert await sender.send_and_see("last") == ["queued"]
        there = await grant(await play.listen("other"), maxMessage=1024)
        assert await take(there, 2) == ["first", "last"]
        # What was taken is being removed.
        [row] = await until(play.server.messages.list_queue, lambda rows: len(rows) == 1)
        assert row.dead
        assert row.message.data == b'"' + b"x" * 66_560 + b'"'
        assert row.last_error.startswith("serverRefused: the message takes 66")


async def test_a_dead_letter_that_comes_again_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage({"federation": QUICK}) as play:
        settled = settled_on(play, monkeypatch)
        federation, messages = play.server.federation, play.server.messages
        for id in ("dead", "next"):
            federation.send(forwarded(id, id, to=id))
        await until(lambda: len(settled) == 2)
        [row, _] = await messages.list_queue()
        await messages.bury([(row.position, "no")])
        there = await grant(await play.listen("other"), maxInFlight=1)
        following = await there.get()
        assert following["payload"]["data"] == "next"  # and what is before it has been read
        destination = federation.destinations[DESTINATION]
        destination.backlog.active = True
        federation.send(forwarded("dead", "dead", to="again"))
        await until(lambda: len(settled) == 3)
        assert settled[2] == ("again", "queued", None)
        good(there, following)
        assert await take(there, 1) == ["dead"]
        await emptied(play)


async def test_given_up_after_its_time() -> None:
    async with stage({"federation": {**QUICK, "retryFor": 1}}) as play:
        sender = await Sender.on(play)
        assert await sender.send_and_see(1) == ["queued"]
        control = await play.connect("control")
        rows = await until(lambda: result(control, "listQueue"), lambda rows: rows[0]["dead"])
        assert rows[0]["lastError"] == "gave up after 1 s"
        await result(control, "retryQueue", ids=[rows[0]["id"]])
        assert await take(await grant(await play.listen("other")), 1) == [1]
        await emptied(play)


async def test_nothing_is_kept_where_nothing_is_to_be_tried_again() -> None:
    async with stage({"federation": {**QUICK, "retryFor": 0}}) as play:
        sender = await Sender.on(play)
        assert await sender.send_and_see(1) == ["failed"]
        assert await play.server.messages.queue_sizes() == []


async def test_no_more_than_so_many_wait_for_a_server() -> None:
    async with stage({"federation": {"retryMin": 3600, "retryMax": 3600, "maxQueued": 2}}) as play:
        sender = await Sender.on(play)
        await sender.send(1, 2, 3)
        assert sorted(await sender.outcomes(3)) == [("1", "queued"), ("2", "queued"), ("3", "failed")]
        assert await sender.send_and_see(4, to="unix:another") == ["queued"]
        control = await play.connect("control")
        assert await result(control, "dropQueue", server=DESTINATION) == {"messages": 2}
        assert await sender.send_and_see(5) == ["queued"]
        assert await waiting(play, server=DESTINATION) == [5]


# -- what goes wrong here ----------------------------------------------------------------------------------------------


async def test_an_unforeseen_failure_of_the_store_is_contained(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage({"federation": QUICK}) as play:
        sender = await Sender.on(play)

        def fail(*args: Any) -> None:
            raise RuntimeError

        with monkeypatch.context() as broken:
            broken.setattr(play.server.messages, "enqueue", fail)
            assert set(await sender.send_and_see(0, 1)) == {"failed"}
        assert set(await sender.send_and_see(2, 3)) == {"queued"}
        with monkeypatch.context() as broken:
            broken.setattr(play.server.messages, "read_outbox", fail)
            there = await grant(await play.listen("other"))
            destination = play.server.federation.destinations[DESTINATION]
            await until(lambda: destination.last_error.startswith("internal: "))
        assert await take(there, 2) == [2, 3]
        with monkeypatch.context() as broken:
            broken.setattr(play.server.messages, "remove_sent", fail)
            await until(lambda: not destination.in_flight)
        assert await sender.send_and_see(4, to="unix:another") == ["queued"]


async def test_an_unforeseen_failure_of_a_route_is_contained(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage({"federation": QUICK}) as play:
        sender = await Sender.on(play)
        other = await play.listen("other")

        def fail(*args: Any) -> None:
            raise RuntimeError

        with monkeypatch.context() as broken:
            broken.setattr("bester.server.federation.peer_route.connect_peer", fail)
            assert await sender.send_and_see(0) == ["queued"]
        there = await grant(other)
        assert await take(there, 1) == [0]
        await emptied(play)
        await until(lambda: not play.server.federation.destinations[DESTINATION].backlog.active)
        with monkeypatch.context() as broken:
            broken.setattr("bester.server.federation.link.link.message", fail)
            assert await sender.send_and_see(1) == ["failed"]
        await sender.send(2)
        assert await take(there, 1) == [2]
        assert await sender.outcomes(1) == [("2", "sent")]
        assert play.server.federation.destinations[DESTINATION].in_flight == 0


async def test_batches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bester.server.batching.MAX_BATCH_BYTES", 2500)
    async with stage({"federation": {"retryMin": 3600, "retryMax": 3600}}) as play:
        settled = settled_on(play, monkeypatch)
        batches: list[list[int]] = []
        enqueue = play.server.messages.enqueue

        async def counted(messages: Any, now: float) -> list[int]:
            batches.append([len(one.data) for one in messages])
            return await enqueue(messages, now)

        monkeypatch.setattr(play.server.messages, "enqueue", counted)
        for number in range(6):
            play.server.federation.send(forwarded(str(number), "x" * (998 if number != 3 else 9998), to=str(number)))
        await until(lambda: settled)
        play.server.federation.send(forwarded("last", to="6"))
        await play.server.federation.outbox.written()
        assert settled == [(str(number), "queued", None) for number in range(7)]
        # Whether the last one is in time for the batch before it is a matter of speed.
        assert batches[:3] == [[1000, 1000], [1000], [10000]]
        assert [size for batch in batches for size in batch] == [1000] * 3 + [10000] + [1000, 1000, 4]
        assert all(sum(batch) <= 2500 for batch in batches[3:])
        rows = await play.server.messages.list_queue()
        assert [row.message.message_id for row in rows] == [*"012345", "last"]


# -- stopping and starting ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(folder: Path, **federation: Any) -> AsyncIterator[Server]:
    """Runs a server in a folder that outlives it."""
    tree = {
        "server": {"name": "test.example"},
        "network": {"unix": {"address": "clients"}},
        "accounts": {"registration": "firstUse"},
        "federation": {**QUICK, **federation},
        "limits": {"drainTimeout": 0.3},
    }
    server = Server(parse(msgspec.json.encode(tree).decode(), folder))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def test_what_is_under_way_when_the_server_stops_is_sent_by_the_next_one() -> None:
    from bester import Client, Handler, Request, Response, SendServers

    with TemporaryDirectory(prefix="bester-") as name:
        folder = Path(name)
        other = Listening()
        await other.open(folder / "other")
        async with serving(folder) as server:
            handler = Handler(str(folder / "besterHandlers"))

            @handler.on("chat")
            def chat(message: Request) -> Response:
                return SendServers([DESTINATION], message.data)

            async with handler, Client(f"bester+unix://t:secret@{folder}/clients") as client:
                sending = [asyncio.create_task(client.send("chat", id)) for id in range(3)]
                there = await grant(other)
                messages = [await there.get() for _ in range(3)]
                server.runtime.stop_soon()
                await server.stop()
                statuses = [[one.status for one in (await task).results] for task in sending]
        assert statuses == [["queued"]] * 3
        async with serving(folder):
            there = await grant(other)
            again = [await there.get() for _ in range(3)]
            assert again == messages
            good(there, *again)
        await other.close()


# -- operators ---------------------------------------------------------------------------------------------------------


async def test_what_comes_when_the_disk_is_looked_at_goes_behind_what_is_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with stage({"federation": QUICK}) as play:
        found = settled_on(play, monkeypatch)
        other = await play.listen("other")
        federation = play.server.federation
        federation.send(forwarded("a", 1, "a"))
        there = await grant(other)
        await there.get()
        federation.destinations[DESTINATION].look()
        federation.send(forwarded("b", 2, "b"))
        there.reset()
        assert await take(await grant(other), 2) == [1, 2]
        await emptied(play)
        assert found == [("a", "queued", None), ("b", "queued", None)]


async def test_what_comes_when_the_disk_is_looked_at_goes_behind_what_came_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with stage({"federation": QUICK}) as play:
        sender = await Sender.on(play)
        there = await backlog(play, sender, 1)
        stored = await there.get()
        found = settled_on(play, monkeypatch)
        federation = play.server.federation
        destination = federation.destinations[DESTINATION]
        await until(lambda: not destination.backlog.active)
        federation.send(forwarded("b", 2, "b"))
        bad(there, await there.get(), "overloaded", True)
        await until(lambda: destination.recovery.failing_over)
        destination.look()
        federation.send(forwarded("c", 3, "c"))
        good(there, stored)
        assert await take(there, 2) == [2, 3]
        await emptied(play)
        assert found == [("b", "queued", None), ("c", "queued", None)]


async def test_what_is_put_on_disk_while_its_end_is_read_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage({"federation": QUICK}) as play:
        sender = await Sender.on(play)
        assert await sender.send_and_see(1) == ["queued"]
        messages, read = play.server.messages, play.server.messages.read_outbox
        late = [Outgoing(DESTINATION, "late", "chat", b"2", 1)]

        async def read_outbox(*args: Any) -> Any:
            page = await read(*args)
            if not page and late:
                await messages.enqueue([late.pop()], time.time())
                play.server.federation.destinations[DESTINATION].look()
            return page

        monkeypatch.setattr(messages, "read_outbox", read_outbox)
        assert await take(await grant(await play.listen("other")), 2) == [1, 2]
        await emptied(play)


async def test_operators_list_retry_and_drop() -> None:
    async with stage({"federation": {"retryMin": 3600, "retryMax": 3600}}) as play:
        sender = await Sender.on(play)
        for id, address in enumerate(["unix:one", "unix:one", "unix:two"]):
            assert await sender.send_and_see(id, to=address) == ["queued"]
        control = await play.connect("control")
        rows = await result(control, "listQueue")
        assert [(row["server"], row["type"], row["dead"], row["tries"]) for row in rows] == [
            ("unix:one", "chat", False, 1),
            ("unix:one", "chat", False, 1),
            ("unix:two", "chat", False, 1),
        ]
        ids = [row["id"] for row in rows]
        assert [row["id"] for row in await result(control, "listQueue", server="unix:one", limit=1)] == ids[:1]
        assert [row["id"] for row in await result(control, "listQueue", after=ids[0])] == ids[1:]
        assert await result(control, "listQueue", dead=True) == []
        shown = await result(control, "showQueue", id=ids[2])
        assert (shown["data"], shown["hops"], shown["cut"]) == ("2", 1, False)
        servers = {row["name"]: row for row in await result(control, "listServers")}
        assert (servers["unix:one"]["waiting"], servers["unix:one"]["link"]) == (2, "down")
        assert servers["unix:one"]["retryIn"] > 60
        assert servers["unix:one"]["lastError"].startswith("serverUnreachable: ")
        one = await play.listen("one")
        await result(control, "retryQueue", server="unix:one")
        assert await take(await grant(one), 2) == [0, 1]
        two = await play.listen("two")
        await result(control, "retryQueue", all=True)
        there = await grant(two)
        assert await take(there, 1) == [2]
        await emptied(play)
        servers = {row["name"]: row for row in await result(control, "listServers")}
        assert (servers["unix:two"]["waiting"], servers["unix:two"]["link"]) == (0, "up")


async def test_dropping_takes_out_what_is_named() -> None:
    async with stage({"federation": {"retryMin": 3600, "retryMax": 3600}}) as play:
        sender = await Sender.on(play)
        assert set(await sender.send_and_see(0, 1, 2)) == {"queued"}
        control = await play.connect("control")
        ids = [row["id"] for row in await result(control, "listQueue")]
        assert await result(control, "dropQueue", ids=[ids[1], 10**9]) == {"messages": 1, "unknown": [10**9]}
        assert await waiting(play) == [0, 2]
        assert await result(control, "dropQueue", server=DESTINATION, dead=True) == {"messages": 0}
        assert await result(control, "dropQueue", dead=False) == {"messages": 2}
        await emptied(play)


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("listQueue", {"limit": 0}),
        ("listQueue", {"after": -1}),
        ("listQueue", {"server": "a b"}),
        ("showQueue", {"id": 7}),
        ("showQueue", {}),
        ("retryQueue", {}),
        ("retryQueue", {"ids": [1], "all": True}),
        ("retryQueue", {"ids": ["1"]}),
        ("dropQueue", {}),
        ("dropQueue", {"ids": [1], "server": "a"}),
        ("dropQueue", {"ids": [2**70]}),
    ],
)
async def test_wrong_arguments(command: str, args: Any) -> None:
    async with stage() as play:
        assert await refused(await play.connect("control"), command, **args) == "badArguments"
