"""What sessions leave unacknowledged, in a cluster (docs/protocol.md, section 4.3)."""

from __future__ import annotations

from tests.cluster.nodes import nodes
from tests.cluster.test_clients import acknowledge, chat
from tests.nats import NatsServer
from tests.server.peers import result
from tests.server.test_mailboxes import ping
from tests.waiting import until

from bester.core.redelivery import ACK_S, PAUSE_S, TRIES


async def test_a_message_that_is_never_acknowledged_becomes_a_dead_letter(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        talk, g, root = await chat(a), await b.login("g", features=["ack"]), await a.admin()
        poison_id = await talk.send("g", data="poison")
        poison = await g.get()
        good_id = await talk.send("g", data="good")
        await acknowledge(g, (await g.get())["payload"]["deliveryId"])
        assert await talk.statuses(good_id) == ["delivered"]
        b.later(ACK_S)
        assert await g.get() == poison
        assert await talk.statuses(poison_id) == ["stored"]
        for _ in range(TRIES - 2):
            b.later(PAUSE_S)
            assert await g.get() == poison
        b.later(ACK_S)
        while not (rows := await result(root, "listQueue", server="@g")) or not rows[0]["tries"]:
            await ping(g)
        (row,) = rows
        assert (row["tries"], row["dead"], row["type"]) == (TRIES, True, "chat")
        assert await a.server.messages.read_mailbox("g", 0, 1, 1, 0.0) == []
        assert await result(root, "retryQueue", ids=[row["id"]]) == {"messages": 1}  # at another node
        assert await g.get() == poison
        await acknowledge(g, poison["payload"]["deliveryId"])
        await ping(g)
        await until(lambda: not b.server.mailboxes._working)
        assert not await a.server.messages.has_mail("g")


async def test_the_oldest_unacknowledged_comes_first_at_another_node(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        talk, g = await chat(a), await b.login("g", features=["ack"])
        data = [f"{number}:" + "x" * 60_000 for number in range(30)]
        sent = [await talk.send("g", data=one) for one in data]
        await until(lambda: b.runtime.exchange.batch.counters.for_nodes == 30)
        await g.leave()
        assert [await talk.statuses(id) for id in sent] == [["stored"]] * 30
        g = await a.login("g", features=["ack"])
        for one in data:
            message = await g.get()
            assert message["payload"]["data"] == one
            await acknowledge(g, message["payload"]["deliveryId"])
