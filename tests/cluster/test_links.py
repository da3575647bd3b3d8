"""Links to other servers: one node at a time sends to each of them, and another one takes over."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import msgspec
import pytest
from tests.certificates import self_signed
from tests.cluster.nodes import joined, node, nodes, serves
from tests.nats import NatsServer
from tests.server.linked import QUICK, Sender, bad, good, grant, hello, send_on
from tests.server.peers import Listening, Stage, Wire, attaching, result, to
from tests.server.peers import hello as login
from tests.server.test_identity import named, pin
from tests.waiting import PATIENCE_S, until

from bester.server import server as daemon
from bester.server.cluster import leases, membership, relays
from bester.server.federation import federation as federation
from bester.server.federation.destination import Destination
from bester.server.federation.relay import Relay
from bester.store.ports import Outgoing

SLOW = {"retryMin": 3600, "retryMax": 3600}


@pytest.fixture(autouse=True)
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases end, and are looked at, so soon that tests can wait for it."""
    monkeypatch.setattr(leases, "LEASE_S", 3)
    monkeypatch.setattr(leases, "LOOK_S", 0.1)
    monkeypatch.setattr(federation, "TAKE_OVER_S", 0.05)
    monkeypatch.setattr(daemon, "ACK_GRACE_S", 0.05)


async def listening(stage: Stage) -> tuple[Listening, str]:
    """Returns another server, played by hand, that all nodes reach, and its address."""
    return await stage.listen("other"), away(stage)


def away(stage: Stage) -> str:
    """The address of that server, as long as it is not there."""
    return f"unix:{stage.folder / 'other'}"


async def took(there: Wire, count: int) -> list[Any]:
    """Reads messages from a link, and reports each good; returns their data."""
    found = []
    for _ in range(count):
        message = await there.get()
        found.append(message["payload"]["data"])
        good(there, message)
    return found


async def emptied(stage: Stage) -> None:
    """Waits until nothing is in the outbox."""
    await until(stage.server.messages.queue_sizes, lambda sizes: not sizes)


async def holds(stage: Stage, to: str) -> None:
    """Waits until a node has the lease of another server."""
    await until(lambda: joined(stage).leases.has(to))


async def seen(stage: Stage, to: str, node: str) -> None:
    """Waits until a node has seen who has the lease."""
    await until(lambda: joined(stage).leases.seen.get(to), lambda holder: holder == node)


def open_destination(stage: Stage, to: str) -> Destination:
    return stage.server.federation.destinations[to]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[NatsServer]:
    """A NATS server that may be killed."""
    made = NatsServer(tmp_path / "nats")
    yield made
    made.kill()


# -- one link for all nodes --------------------------------------------------------------------------------------------


async def test_messages_from_all_nodes_go_over_one_link_in_order(nats: NatsServer) -> None:
    async with nodes(nats, federation=QUICK, limits={"maxInFlight": 4096}) as (a, b):
        other, to = await listening(a)
        one, two = await Sender.on(a), await Sender.on(b)
        await one.send("first", to=to)
        there = await grant(other)
        assert await took(there, 1) == ["first"]
        await one.outcomes(1)
        for number in range(300):
            await one.send(f"a{number}", to=to)
            await two.send(f"b{number}", to=to)
        seen = await took(there, 600)
        assert [id for id in seen if id[0] == "a"] == [f"a{number}" for number in range(300)]
        assert [id for id in seen if id[0] == "b"] == [f"b{number}" for number in range(300)]
        assert await one.outcomes(300) == [(f"a{number}", "sent") for number in range(300)]
        assert await two.outcomes(300) == [(f"b{number}", "sent") for number in range(300)]
        assert len(other.wires) == 1
        assert (a.server.federation.sent, b.server.federation.sent) == (301, 300)
        for stage in (a, b):
            rows = await result(await stage.connect("control"), "listServers")
            assert [(row["name"], row["holder"]) for row in rows] == [(to, "n0")]


async def dry_handler(play: Stage) -> Wire:
    handler = await play.connect("handlers")
    handler.send(attaching("chat") | {"header": {"scope": "handler", "features": ["dryRun"]}})
    await handler.good("a")
    return handler


async def test_a_route_and_a_plan_come_back_from_the_node_with_the_link(nats: NatsServer, tmp_path: Path) -> None:
    ours, theirs = self_signed(tmp_path, "s.example"), self_signed(tmp_path, "c.example")
    federation = {"policy": "verified", "servers": {"s.example": pin(ours)}}
    async with AsyncExitStack() as stack:
        c = await stack.enter_async_context(named("c.example", theirs, **federation))
        servers = {"c.example": pin(theirs, address=f"127.0.0.1:{c.port_of('tls')}")}
        more = {"network": ours.network, "federation": {"policy": "verified", "servers": servers}}
        a = await stack.enter_async_context(node(nats.url, "s.example", "n0", **more))
        b = await stack.enter_async_context(node(nats.url, "s.example", "n1", **more))
        receiver = await dry_handler(c)
        await c.login("g")
        await (await Sender.on(a)).send("first", to="c.example")
        receiver.answer(await receiver.get(), to("g"))
        await holds(a, "c.example")
        handler = await dry_handler(b)
        t = await b.login("t", features=["route"])
        for header, delivered, sent in (
            ({"route": True}, "delivered", "sent"),
            ({"dryRun": True}, "planned", "planned"),
        ):
            t.send({"header": header, "payload": {"type": "chat", "id": "r", "data": 1}})
            handler.answer(await handler.get(), send_on("c.example"), data=1)
            receiver.answer(await receiver.get(), to("g"), data=1)
            here, there = (await t.report("r"))["route"]
            assert (here["server"], here["step"], here["status"]) == ("s.example", "handler", "good")
            assert (there["server"], there["step"], there["status"]) == ("s.example", "server", sent)
            assert [(one["server"], one["step"], one["status"]) for one in there["route"]] == [
                ("c.example", "handler", "good"),
                ("c.example", "clients", delivered),
            ]
        assert joined(a).leases.has("c.example")


async def test_what_the_other_server_refuses_is_told_where_the_sender_is(nats: NatsServer) -> None:
    async with nodes(nats, federation=QUICK) as (a, b):
        other, address = await listening(a)
        one, two = await Sender.on(a), await Sender.on(b)
        await one.send(1, to=address)
        there = await grant(other)
        await took(there, 1)
        await two.send(2, to=address)
        bad(there, await there.get(), "noHandler", temporary=False)
        [entry] = (await two.wire.report("2"))["results"]
        assert (entry["status"], entry["error"]["code"]) == ("failed", "serverRefused")
        await two.send(3, to=address)
        bad(there, await there.get(), "noHandler", temporary=True)
        assert await two.outcomes(1) == [("3", "queued")]
        assert await took(there, 1) == [3]
        await emptied(b)


async def test_a_link_with_nothing_to_carry_lets_others_have_the_lease(nats: NatsServer) -> None:
    async with nodes(nats, federation={**QUICK, "idleTimeout": 0.05}) as (a, b):
        other, address = await listening(a)
        one, two = await Sender.on(a), await Sender.on(b)
        for sender, play in ((one, a), (two, b), (one, a)):
            await sender.send(1, to=address)
            there = await grant(other)
            assert joined(play).leases.has(address)
            await took(there, 1)
            assert await sender.outcomes(1) == [("1", "sent")]
            await there.closed()
            await until(joined(b).leases.store.list, lambda leases: not leases)


async def test_a_stale_relay_leads_on_to_the_node_with_the_lease(nats: NatsServer) -> None:
    async with nodes(nats, 3) as (a, b, c):
        other, address = await listening(a)
        one, two, three = [await Sender.on(play) for play in (a, b, c)]
        await one.send(1, to=address)
        await took(await grant(other), 1)
        await two.send(2, to=address)
        await took(other.wires[0], 1)
        assert await two.outcomes(1) == [("2", "sent")]
        joined(a).leases.give_back(address)
        open_destination(a, address).sender.end_lease()
        await three.send(3, to=address)
        there = await grant(other)
        await took(there, 1)
        await two.send(4, to=address)  # by way of a, which has the lease no longer
        await took(there, 1)
        assert await two.outcomes(1) == [("4", "sent")]
        await two.send(5, to=address)
        await took(there, 1)
        assert await two.outcomes(1) == [("5", "sent")]
        relay = open_destination(b, address).sender.transport
        assert isinstance(relay, Relay)
        assert relay.node == "n2"
        assert len(other.wires) == 2


async def test_two_nodes_that_take_each_other_for_the_one_with_the_lease(nats: NatsServer) -> None:
    async with nodes(nats, federation=QUICK) as (a, b):
        other, address = await listening(a)
        one, two = await Sender.on(a), await Sender.on(b)
        await one.send(1, to=address)
        await took(await grant(other), 1)
        await one.outcomes(1)
        await two.send(2, to=address)
        await took(other.wires[0], 1)
        await two.outcomes(1)
        joined(a).leases.give_back(address)
        await until(lambda: joined(b).leases.take(address), lambda node: node == "n1")  # beside what it sends over
        open_destination(a, address).sender.end_lease()
        await one.send(3, to=address)
        there = await grant(other)
        assert await took(there, 1) == [3]


async def test_a_message_that_goes_in_circles_ends(nats: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "MAX_PASSED", 0)
    async with nodes(nats) as (a, b):
        other, address = await listening(a)
        one, two = await Sender.on(a), await Sender.on(b)
        await one.send(1, to=address)
        await took(await grant(other), 1)
        await two.send(2, to=address)
        [entry] = (await two.wire.report("2"))["results"]
        assert (entry["status"], entry["error"]["code"]) == ("failed", "overloaded")


async def test_two_servers_of_two_nodes_each(nats: NatsServer, tmp_path: Path) -> None:
    ours, theirs = self_signed(tmp_path, "left.example"), self_signed(tmp_path, "right.example")
    async with AsyncExitStack() as stack:
        there = {"network": theirs.network, "federation": {"servers": {"left.example": pin(ours)}}}
        c, d = [await stack.enter_async_context(node(nats.url, "right.example", n, **there)) for n in ("n0", "n1")]
        servers = {"right.example": pin(theirs, address=f"127.0.0.1:{c.port_of('tls')}")}
        here = {"network": ours.network, "federation": {**QUICK, "servers": servers}}
        a, b = [await stack.enter_async_context(node(nats.url, "left.example", n, **here)) for n in ("n0", "n1")]
        address = "right.example"
        receiver, g = await d.attach("chat", concurrency=4096), await d.login("g", features=["ack"])
        await serves(c, "chat")

        async def receive() -> None:
            while True:
                request = await receiver.get()
                receiver.answer(request, to("g"), data=request["payload"]["data"])

        seen: dict[str, Any] = {}

        async def read() -> None:
            while len(seen) < 251:
                payload = (await g.get())["payload"]
                g.send({"header": {"messageType": "ack"}, "payload": {"ids": [payload["deliveryId"]]}})
                seen.setdefault(payload["deliveryId"], payload["data"])

        receiving, reading = asyncio.ensure_future(receive()), asyncio.ensure_future(read())
        async with node(nats.url, "left.example", "leaver", **here) as leaver:
            first, *others = [await Sender.on(play) for play in (leaver, a, b)]
            for number in range(100):
                if number < 51:
                    await first.send(f"0-{number}", to=address)
                for at, sender in enumerate(others, start=1):
                    await sender.send(f"{at}-{number}", to=address)
                if number == 50:
                    stopping = asyncio.ensure_future(leaver.running.daemon.stop())
                    assert {status for _, status in await first.outcomes(51)} <= {"sent", "queued"}
            await stopping
        for sender in others:
            assert {status for _, status in await sender.outcomes(100)} <= {"sent", "queued"}
        await reading
        receiving.cancel()
        assert len(set(seen.values())) == 251
        for at, count in enumerate((51, 100, 100)):
            own = [id for id in seen.values() if id.startswith(f"{at}-")]
            assert own == [f"{at}-{number}" for number in range(count)]
        await emptied(a)


# -- another node takes over -------------------------------------------------------------------------------------------


async def test_a_node_that_stops_leaves_what_it_has_to_another_one(nats: NatsServer) -> None:
    async with nodes(nats, federation=QUICK) as (b, c):
        name = b.runtime.config.server.name
        other, address = await listening(b)
        two = await Sender.on(b)
        async with node(nats.url, name, "leaver", federation=QUICK) as a:
            one = await Sender.on(a)
            await one.send(*range(5), to=address)
            there = await grant(other)
            assert [(await there.get())["payload"]["data"] for _ in range(5)] == list(range(5))
            await two.send(*range(5, 10), to=address)
            assert [(await there.get())["payload"]["data"] for _ in range(5)] == list(range(5, 10))
            stopping = asyncio.ensure_future(a.running.daemon.stop())
            assert await one.outcomes(5) == [(str(id), "queued") for id in range(5)]
            await stopping
        assert await two.outcomes(5) == [(str(id), "queued") for id in range(5, 10)]
        there = await grant(other)
        assert sorted(await took(there, 10)) == list(range(10))
        await emptied(c)
        await two.send("next", to=address)
        assert await took(there, 1) == ["next"]
        assert await two.outcomes(1) == [("next", "sent")]
        assert len(other.wires) == 2


KILLED = """
from bester.cli.besterd import main
from bester.server.cluster import leases

leases.LEASE_S = 1
main()
"""


class Killed:
    """A node in a process of its own, to be killed."""

    def __init__(self, nats: NatsServer, folder: Path, server: str, **more: Any) -> None:
        config = {
            "server": {"name": server},
            "network": {"types": ["unix"], "unix": {"address": "clients"}},
            "accounts": {"registration": "firstUse"},
            "cluster": {"nats": [nats.url], "node": "killed"},
            **more,
        }
        self.folder = folder
        self.wires: list[Wire] = []
        (folder / "server.conf").write_bytes(msgspec.json.encode(config))
        command = [sys.executable, "-c", KILLED, str(folder / "server.conf")]
        self.process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    async def sender(self) -> Sender:
        """Returns a client there whose messages a handler there sends on, when it is ready."""
        assert self.process.stdout is not None
        while b"is ready" not in (line := await asyncio.to_thread(self.process.stdout.readline)):
            assert line, "it ended before it was ready"
        wire, handler = [await self._connect(name) for name in ("clients", "besterHandlers")]
        wire.send(login("k"))
        await wire.good("auth_special")
        handler.send(attaching("chat", concurrency=4096))
        await handler.good("a")
        return Sender(cast(Any, None), wire, handler)

    async def _connect(self, name: str) -> Wire:
        wire = Wire(*await asyncio.open_unix_connection(self.folder / name))
        self.wires.append(wire)
        return wire

    async def kill(self) -> None:
        self.process.kill()
        await asyncio.to_thread(self.process.wait)
        assert self.process.stdout is not None
        self.process.stdout.close()
        for wire in self.wires:
            wire.writer.transport.abort()


@pytest.fixture
async def folder() -> AsyncIterator[Path]:
    """A folder with a path that is short enough for Unix sockets."""
    with TemporaryDirectory(prefix="bester-") as name:
        yield Path(name)


async def test_a_node_that_is_killed_loses_nothing_and_its_link_is_taken_over(nats: NatsServer, folder: Path) -> None:
    async with nodes(nats, federation=QUICK) as (a, b):
        killed = Killed(nats, folder, a.runtime.config.server.name, federation=QUICK)
        try:
            there_one, here_one = await killed.sender(), await Sender.on(a)
            other, address = await listening(a)
            silent = f"unix:{a.folder / 'silent'}"
            assert await there_one.send_and_see("waits", to=silent) == ["queued"]
            await there_one.send(0, to=address)
            there = await grant(other)
            await took(there, 1)
            assert await there_one.outcomes(1) == [("0", "sent")]
            await there_one.send(*range(1, 4), to=address)
            await here_one.send(*range(4, 8), to=address)
            messages = [await there.get() for _ in range(7)]
            good(there, messages[0])
            assert await there_one.outcomes(1) == [("1", "sent")]
            await seen(b, silent, "killed")
        finally:
            await killed.kill()
        assert await here_one.outcomes(4) == [(str(id), "queued") for id in range(4, 8)]
        assert await here_one.send_and_see(8, to=address) == ["queued"]
        there = await grant(other)
        again = [await there.get() for _ in range(5)]
        assert [one["payload"]["data"] for one in again] == list(range(4, 9))
        assert [one["payload"]["id"] for one in again[:4]] == [one["payload"]["id"] for one in messages[3:]]
        good(there, *again)
        assert await took(await grant(await a.listen("silent")), 1) == ["waits"]
        await emptied(a)
        assert len(other.wires) == 2


async def test_a_node_that_hung_sends_nothing_more_over_its_old_link(
    nats: NatsServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "SILENT_S", 1.5)
    async with nodes(nats, federation=QUICK) as (a, _):
        killed = Killed(nats, folder, a.runtime.config.server.name, federation=QUICK)
        try:
            there_one, here_one = await killed.sender(), await Sender.on(a)
            other, address = await listening(a)
            await there_one.send(0, to=address)
            before = await grant(other)
            await took(before, 1)
            await there_one.outcomes(1)
            await here_one.send(1, to=address)
            await took(before, 1)
            assert await here_one.outcomes(1) == [("1", "sent")]
            killed.process.send_signal(signal.SIGSTOP)
            await here_one.send(2, to=address)
            assert await here_one.outcomes(1) == [("2", "queued")]
            after = await grant(other)
            assert await took(after, 1) == [2]
            there_one.wire.ask("chat", "3")
            killed.process.send_signal(signal.SIGCONT)
            there_one.handler.answer(await there_one.handler.get(), send_on(address), data=3)
            while (message := await after.get())["payload"]["data"] == 2:
                good(after, message)  # it is a repeat: the node that hung had it too, and passed it on
            assert message["payload"]["data"] == 3
            good(after, message)
            assert await there_one.outcomes(1) == [("3", "sent")]
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await before.body()
        finally:
            await killed.kill()


async def test_a_lease_that_was_lost_ends_the_link_and_leads_to_who_has_it(nats: NatsServer) -> None:
    async with nodes(nats, federation=QUICK) as (a, b):
        other, address = await listening(a)
        one, two = await Sender.on(a), await Sender.on(b)
        await one.send(1, to=address)
        there = await grant(other)
        await took(there, 1)
        await one.outcomes(1)
        await one.send(2, to=address)
        await there.get()
        store = joined(b).leases.store
        async with asyncio.timeout(PATIENCE_S):
            while not joined(b).leases.has(address):  # it is renewed at any moment
                [lease] = await store.list()
                await store.give_back(lease)
                await joined(b).leases.take(address)
        assert await one.outcomes(1) == [("2", "queued")]
        there = await grant(other)
        assert await took(there, 1) == [2]
        await emptied(b)
        await one.send(3, to=address)
        assert await took(there, 1) == [3]
        await two.send(4, to=address)
        assert await took(there, 1) == [4]
        assert joined(b).leases.has(address)


async def test_what_comes_while_a_lease_changes_hands_goes_behind_what_is_under_way(nats: NatsServer) -> None:
    async with nodes(nats, federation=QUICK) as (a, b):
        other, address = await listening(a)
        one, two = await Sender.on(a), await Sender.on(b)
        await one.send(0, to=address)
        there = await grant(other)
        await took(there, 1)
        await one.outcomes(1)
        await two.send(1, 2, to=address)
        for _ in range(2):
            await there.get()
        relay = open_destination(b, address).sender.transport
        assert isinstance(relay, Relay)
        joined(a).relays.tell_all(address)
        await until(lambda: relay.ending)
        await two.send(3, 4, to=address)
        there.reset()  # and so 1 and 2 go to the outbox, of a
        assert await two.outcomes(4) == [(str(id), "queued") for id in range(1, 5)]
        assert await took(await grant(other), 4) == [1, 2, 3, 4]
        await emptied(b)


async def test_what_the_nodes_before_have_left_goes_first(nats: NatsServer) -> None:
    async with nodes(nats, federation=QUICK) as (a, b):
        other, address = await listening(a)
        rows = [Outgoing(address, f"id{number}", "chat", b"%d" % number, 1) for number in range(3)]
        await a.server.messages.enqueue(rows, time.time())
        two = await Sender.on(b)
        assert await two.send_and_see(3, to=address) == ["queued"]
        there = await grant(other)
        assert await took(there, 4) == list(range(4))
        await emptied(b)


async def test_nodes_that_start_send_what_is_in_the_outbox(nats: NatsServer) -> None:
    async with nodes(nats, federation=QUICK) as (a, _):
        name = a.runtime.config.server.name
        other, address = await listening(a)
        rows = [Outgoing(address, f"id{number}", "chat", b"%d" % number, 1) for number in range(3)]
        await a.server.messages.enqueue([*rows, Outgoing("no address:x", "id", "chat", b"1", 1)], time.time())
        async with node(nats.url, name, "starts", federation=QUICK):
            assert await took(await grant(other), 3) == list(range(3))


# -- operators, and other servers, at any node -------------------------------------------------------------------------


async def test_an_operator_at_any_node_reaches_the_one_that_sends(nats: NatsServer) -> None:
    async with nodes(nats, federation=SLOW) as (a, b):
        one = await Sender.on(a)
        address = away(a)
        assert await one.send_and_see(1, 2, to=address) == ["queued", "queued"]
        control = await b.connect("control")
        first, second = await result(control, "listQueue")
        await result(control, "dropQueue", ids=[first["id"]])
        other, _ = await listening(a)
        await result(control, "retryQueue", ids=[second["id"]])
        assert await took(await grant(other), 1) == [2]
        await emptied(a)
        assert joined(a).leases.has(address)


async def test_a_server_that_is_there_again_is_tried_at_once(nats: NatsServer, folder: Path) -> None:
    address = f"unix:{folder / 'other'}"
    servers = {"k.example": {"address": address}}
    async with nodes(nats, federation={**SLOW, "servers": servers}) as (a, b):
        one = await Sender.on(a)
        assert await one.send_and_see(1, to=address) == ["queued"]
        await seen(b, address, "n0")
        other = Listening()
        await other.open(folder / "other")
        wire = await b.connect()
        wire.send(hello("K.example"))
        await wire.good("h")
        assert await took(await grant(other), 1) == [1]
        await other.close()


async def test_each_node_gives_up_what_it_sends_itself(nats: NatsServer) -> None:
    async with nodes(nats, federation={**QUICK, "retryFor": 1}) as (a, b):
        one = await Sender.on(a)
        address = away(a)
        assert await one.send_and_see(1, to=address) == ["queued"]
        control = await b.connect("control")
        await until(lambda: result(control, "listQueue"), lambda rows: rows[0]["dead"])
        assert address not in b.server.federation.destinations


# -- without NATS ------------------------------------------------------------------------------------------------------


async def test_without_nats_a_node_sends_as_long_as_it_has_the_lease(
    own: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_S", 1)
    async with nodes(own, federation=QUICK) as (a, b):
        other, address = await listening(a)
        one, two = await Sender.on(a), await Sender.on(b)
        await two.send(1, to=address)
        there = await grant(other)
        await took(there, 1)
        await two.outcomes(1)
        await one.send(2, to=address)
        await there.get()
        own.kill()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await there.body()
        for sender, id in ((one, 2), (one, 3), (two, 4)):
            if id > 2:
                await sender.send(id, to=address)
            [entry] = (await sender.wire.report(str(id)))["results"]
            assert (entry["status"], entry["error"]["code"]) == ("failed", "overloaded")
        own.start()
        await until(lambda: joined(a).bus.up and joined(b).bus.up)
        await one.send(5, to=address)
        await two.send(6, to=address)
        there = await grant(other)
        assert sorted(await took(there, 2)) == [5, 6]
