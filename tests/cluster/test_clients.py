"""Clients on any node: an account's sessions are reached wherever they are."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.cluster.nodes import joined, nodes, others, serves, shared
from tests.nats import NatsServer
from tests.server.peers import Stage, Wire, hello, result, to
from tests.waiting import until

from bester.bus.connection import Fault
from bester.bus.errors import NoResponders
from bester.cluster.items import Kind, unpack
from bester.errors import Overloaded
from bester.server.accounts import service as accounts
from bester.server.cluster import membership, remote_delivery
from bester.store.jetstream.errors import NoLeader
from bester.store.tokens import token_hash
from bester.testing import PASSWORD


class Chat:
    """A handler on one node, and a client on it that sends."""

    def __init__(self, handler: Wire, t: Wire) -> None:
        self.handler = handler
        self.t = t
        self._last = 0

    async def send(self, *names: str, data: Any = None, **more: Any) -> str:
        """Sends to accounts, and returns the id whose report is still to come."""
        self._last += 1
        id = str(self._last)
        self.t.ask("chat", id)
        self.handler.answer(await self.handler.get(), to(*names, **more), data=data)
        return id

    async def statuses(self, id: str) -> list[str]:
        return [one["status"] for one in (await self.t.report(id))["results"]]


async def chat(stage: Stage) -> Chat:
    handler = await stage.attach("chat")
    return Chat(handler, await stage.login("t"))


async def acknowledge(wire: Wire, *ids: str) -> None:
    wire.send({"header": {"messageType": "ack"}, "payload": {"ids": ids}})


async def test_a_message_reaches_a_session_on_another_node(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        talk = await chat(a)
        g = await b.login("g")
        id = await talk.send("g", data=["hello", 1.0])
        assert (await g.get())["payload"] == {"type": "chat", "data": ["hello", 1.0]}
        assert await talk.statuses(id) == ["delivered"]


async def test_all_sessions_of_an_account_on_all_nodes_have_it_once(nats: NatsServer) -> None:
    async with nodes(nats, 3) as (a, b, c):
        talk = await chat(a)
        sessions = [await stage.login("g") for stage in (a, b, c, b)]
        for stage in (a, b, c):
            await shared(stage, "g")
        for number in range(3):
            id = await talk.send("g", data=number)
            assert await talk.statuses(id) == ["delivered"]
        for session in sessions:
            assert [(await session.get())["payload"]["data"] for _ in range(3)] == [0, 1, 2]


async def test_where_an_account_was_found_is_a_guess_that_may_be_wrong(nats: NatsServer) -> None:
    async with nodes(nats, 3) as (a, b, c):
        talk = await chat(a)
        first = await b.login("g")
        places = joined(a).remote_delivery._places
        assert await talk.statuses(await talk.send("g", data=0)) == ["delivered"]
        assert places == {"g": joined(b).name}
        second = await c.login("g")
        for stage in (b, c):
            await shared(stage, "g")
        # Handed to the one node, which tells the other.
        assert await talk.statuses(await talk.send("g", data=1)) == ["delivered"]
        assert [(await first.get())["payload"]["data"] for _ in range(2)] == [0, 1]
        assert (await second.get())["payload"]["data"] == 1
        await first.leave()
        await shared(c, "g", wanted=False)
        assert await talk.statuses(await talk.send("g", data=2)) == ["delivered"]
        assert (await second.get())["payload"]["data"] == 2
        assert places == {"g": joined(c).name}
        await second.leave()
        assert await talk.statuses(await talk.send("g", data=3)) == ["stored"]
        assert places == {}


async def test_a_node_that_has_it_no_more_does_not_speak_for_the_others(nats: NatsServer) -> None:
    async with nodes(nats, 3) as (a, b, c):
        talk = await chat(a)
        g = await c.login("g")
        left = joined(b)
        left.bus.subscribe(left.batcher.subjects.account("g"), left._heard)  # as a node whose session has just gone
        for number in range(20):
            joined(a).remote_delivery._places.clear()
            assert await talk.statuses(await talk.send("g", data=number)) == ["delivered"]
        assert [(await g.get())["payload"]["data"] for _ in range(20)] == list(range(20))


async def test_what_nobody_took_keeps_its_place_before_what_came_after_it(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        talk = await chat(a)
        await (await b.login("g")).leave()
        lost: list[bytes] = []
        bus, subjects = joined(b).bus, joined(b).batcher.subjects
        await until(lambda: not joined(b).interest._listening)
        listening = bus.subscribe(subjects.account("g"), lambda subject, reply, headers, data: lost.append(data))
        await bus.request(subjects.node(joined(b).name), b"")  # NATS has heard it when this is answered
        first = await talk.send("g", data=1)
        await until(lambda: lost)
        bus.unsubscribe(listening)
        await bus.request(subjects.node(joined(b).name), b"")
        later = [await talk.send("g", data=number) for number in (2, 3)]
        for id in (first, *later):
            assert await talk.statuses(id) == ["stored"]
        g = await b.login("g")
        assert [(await g.get())["payload"]["data"] for _ in range(3)] == [1, 2, 3]
        assert joined(a).remote_delivery._lines == {}
        assert joined(a).remote_delivery._falling == set()


async def test_an_account_that_left_the_other_node_costs_no_copies(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        here, there = await a.login("g"), await b.login("g")
        await shared(a, "g")
        await there.leave()
        await shared(a, "g", wanted=False)
        assert a.runtime.exchange.presence.find("g").direct  # type: ignore[union-attr]
        await here.leave()


async def test_an_acknowledging_session_elsewhere_is_waited_for(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        talk = await chat(a)
        g = await b.login("g", features=["ack"])
        id = await talk.send("g", data=1)
        delivery = (await g.get())["payload"]["deliveryId"]
        await until(lambda: a.runtime.exchange.reports.under_way == 1)
        await acknowledge(g, delivery)
        assert await talk.statuses(id) == ["delivered"]


async def test_what_was_not_acknowledged_elsewhere_is_kept_when_the_session_ends(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        talk = await chat(a)
        g = await b.login("g", features=["ack"])
        id = await talk.send("g", data=1)
        delivery = (await g.get())["payload"]["deliveryId"]
        await g.leave()
        assert await talk.statuses(id) == ["stored"]
        again = await a.login("g", features=["ack"])
        assert (await again.get())["payload"] == {"type": "chat", "data": 1, "deliveryId": delivery}


async def test_nobody_anywhere_is_the_mailbox_and_it_is_found_on_any_node(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        talk = await chat(a)
        await b.away("g")
        for number in range(5):
            assert await talk.statuses(await talk.send("g", data=number)) == ["stored"]
        g = await b.login("g")
        assert [(await g.get())["payload"]["data"] for _ in range(5)] == list(range(5))
        id = await talk.send("g", data="now")
        assert (await g.get())["payload"]["data"] == "now"
        assert await talk.statuses(id) in (["delivered"], ["stored"])  # it may still have been catching up


async def test_what_is_transient_reaches_other_nodes_and_is_not_kept(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        talk = await chat(a)
        g = await b.login("g")
        id = await talk.send("g", data=1, transient=True)
        assert (await g.get())["payload"]["data"] == 1
        assert await talk.statuses(id) == ["delivered"]
        await g.leave()
        await b.gone("g")
        assert await talk.statuses(await talk.send("g", data=2, transient=True)) == ["skipped"]


async def test_an_account_that_is_nowhere_is_unknown(nats: NatsServer) -> None:
    async with nodes(nats) as (a, _):
        talk = await chat(a)
        report = await talk.t.report(await talk.send("nobody"))
        assert report["results"][0]["error"]["code"] == "unknownAccount"


async def test_many_messages_come_in_their_order(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        handler = await a.attach("chat", concurrency=1000)
        await serves(b, "chat")
        t, g = await a.login("t"), await b.login("g")

        async def answer() -> None:
            for _ in range(500):
                request = await handler.get()
                handler.answer(request, to("g"), data=request["payload"]["id"])

        answering = asyncio.ensure_future(answer())
        for number in range(500):
            t.ask("chat", str(number))
        assert [(await g.get())["payload"]["data"] for _ in range(500)] == [str(number) for number in range(500)]
        for _ in range(500):
            await t.good()
        await answering


async def test_a_changed_password_ends_sessions_everywhere(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        g = await b.login("g")
        await a.login("t")
        await a.server.accounts.set_password("g", "another password")
        message = await g.get()
        assert message["payload"]["error"]["code"] == "sessionEnded"
        await g.closed()


async def test_new_roles_count_at_once_everywhere(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        await b.login("g")
        await a.server.accounts.set_roles("g", ("baker",))
        await until(lambda: b.runtime.exchange.presence.sessions("g")[0].roles == ("baker",))


async def test_what_nobody_takes_in_time_is_brought_again_then_kept(
    nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_delivery, "TAKE_S", 0.1)
    async with nodes(nats) as (a, b):
        talk = await chat(a)
        await a.away("g")
        heard = await silent_listener(b, "g")
        assert await talk.statuses(await talk.send("g", data=1)) == ["stored"]
        assert len(heard) >= remote_delivery.TRIES


async def test_a_node_that_may_come_back_to_nats_is_waited_for(
    nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others may have lost the same NATS server: that nobody listens says little then."""
    monkeypatch.setattr(remote_delivery, "JOINING_S", 60.0)
    async with nodes(nats) as (a, b):
        talk = await chat(a)
        await b.away("g")
        monkeypatch.setattr(remote_delivery, "TRIES", 1000)
        joined(a).remote_delivery.bus_up()
        id = await talk.send("g", data=1)
        await until(lambda: [one.tries for one in joined(a).remote_delivery._under_way.values()] > [1])
        g = await b.login("g")
        assert (await g.get())["payload"]["data"] == 1
        assert await talk.statuses(id) == ["delivered"]
        monkeypatch.setattr(remote_delivery, "TRIES", 2)
        await g.leave()
        await b.gone("g")
        assert await talk.statuses(await talk.send("g", data=2)) == ["stored"]


async def silent_listener(stage: Stage, username: str) -> list[bytes]:
    """Lets somebody listen for an account who answers nothing, as a node that has just died; returns what is heard."""
    heard: list[bytes] = []
    bus = joined(stage).bus
    bus.subscribe(joined(stage).batcher.subjects.account(username), lambda *message: heard.append(message[3]))
    with pytest.raises(NoResponders):
        await bus.request("nobody", b"")  # NATS knows that it listens
    return heard


def brought(heard: list[bytes]) -> int:
    return sum(item[0] == Kind.BRING for message in heard for item in unpack(message)[1])


async def test_what_nobody_has_answered_for_is_brought_again_when_a_node_is_gone(
    nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_delivery, "TAKE_S", 600.0)
    async with nodes(nats) as (a, b):
        talk = await chat(a)
        await b.away("g")
        heard = await silent_listener(b, "g")
        id = await talk.send("g", data=1)
        await until(lambda: brought(heard) == 1)
        joined(a).remote_delivery.node_gone("n2")
        await until(lambda: brought(heard) == 2)
        g = await a.login("g")
        joined(a).remote_delivery.node_gone("n2")
        assert (await g.get())["payload"]["data"] == 1  # from the mailbox, and nobody was asked any more
        assert await talk.statuses(id) == ["stored"]
        assert brought(heard) == 2


async def test_what_comes_back_to_its_own_node_waits_for_nobody(
    nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node listens for an account itself while its session is being made, so NATS does not say that nobody does."""
    monkeypatch.setattr(remote_delivery, "TAKE_S", 600.0)
    async with nodes(nats) as (a, b):
        talk = await chat(a)
        await b.away("g")
        with joined(a).interest.arriving("g"):
            assert await talk.statuses(await talk.send("g", data=1)) == ["stored"]


async def without_leader(stage: Stage, type: str = "accounts") -> None:
    """Lets a node find out that a kind of stream does not answer, which it believes for a moment."""

    async def nothing(*_: object) -> None:
        raise NoLeader

    for stream in getattr(stage.server.accounts.store, type).streams:
        with pytest.raises(Overloaded):
            await stream.api.leader.try_once(nothing)


async def test_a_login_that_was_believed_without_a_leader_is_looked_at_again(
    nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "DOUBT_S", 0.05)
    async with nodes(nats) as (a, b):
        for name in ("g", "h"):
            await (await a.login(name)).leave()
        await without_leader(b)
        g, h = await b.login("g"), await b.login("h")
        wrong = await b.connect()
        wrong.send(hello("g", password="wrong"))
        assert (await wrong.report("auth_special"))["error"]["code"] == "overloaded"  # it may be a new one
        await a.server.accounts.store.set_password("g", "$new")  # and nobody has told the other node
        await a.server.accounts.store.set_roles("h", ("cook",))
        assert (await g.get())["payload"]["error"]["code"] == "sessionEnded"
        (session,) = b.runtime.exchange.presence.sessions("h")
        await until(lambda: session.roles == ("cook",))
        talk = await chat(b)
        assert await talk.statuses(await talk.send("h", data=1)) == ["delivered"]
        assert (await h.get())["payload"]["data"] == 1


async def test_a_token_that_was_believed_without_a_leader_is_looked_at_again(
    nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "DOUBT_S", 0.05)
    async with nodes(nats) as (a, b):
        first = await a.connect()
        first.send(hello("g", features=["token"]))
        token = (await first.good("auth_special"))["token"]
        await without_leader(b, "tokens")
        g = await b.connect()
        g.send({"header": {"scope": "client", "authentication": {"username": "g", "token": token}}})
        await g.good("auth_special")
        await a.server.accounts.store.remove_token(token_hash(token))
        assert (await g.get())["payload"]["error"]["code"] == "sessionEnded"


async def test_a_login_does_without_what_a_stream_without_a_leader_would_keep(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        first = await a.connect()
        first.send(hello("g", features=["token"]))
        assert (await first.good("auth_special"))["token"]
        await without_leader(b)
        second = await b.connect()
        second.send(hello("g", features=["token", "ack"]))
        report = await second.good("auth_special")
        assert report["features"] == ["ack"]
        assert "token" not in report


async def test_a_node_that_stops_is_left_out_and_its_clients_are_found_where_they_go(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        talk = await chat(a)
        g = await b.login("g")
        assert list(others(a)) == ["n1"]
        joined(b).leave()
        await g.leave()
        await until(lambda: others(a)["n1"].hello.types == {})
        g = await a.login("g")
        id = await talk.send("g", data=1)
        assert (await g.get())["payload"]["data"] == 1
        assert await talk.statuses(id) == ["delivered"]


async def test_a_mailbox_may_be_divided(nats: NatsServer) -> None:
    async with nodes(nats, cluster={"partitions": 3}) as (a, b):
        talk = await chat(a)
        names = [f"user{number}" for number in range(6)]
        for name in names:
            await (await b.login(name)).leave()
        assert await talk.statuses(await talk.send(*names, data="hello")) == ["stored"] * 6
        for name in names:
            assert (await (await b.login(name)).get())["payload"]["data"] == "hello"


async def test_a_session_that_takes_no_mail_keeps_nothing_from_other_nodes(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        talk = await chat(a)
        quiet, elsewhere = await a.login("g", mail=False), await b.login("g", mail=False)
        assert await talk.statuses(await talk.send("g", data=1)) == ["stored"]
        session = await b.login("g")
        assert (await session.get())["payload"]["data"] == 1
        await until(lambda: not b.server.mailboxes.waiting)
        id = await talk.send("g", data=2)
        assert (await session.get())["payload"]["data"] == 2
        await talk.statuses(id)
        # A handler of the other node replies to the session that asked.
        handler = await b.attach("far")
        await serves(a, "far")
        asking = await a.login("g", mail=False, features=["replyTo"])
        asking.ask("far", "7")
        handler.answer(await handler.get(), to("g"), {"type": "reply"}, data="answer")
        assert (await asking.get())["payload"] == {"type": "far", "data": "answer", "replyTo": "7"}
        assert (await session.get())["payload"]["data"] == "answer"
        await asking.good("7")
        # It ends with its account, at whatever node.
        assert await result(await a.admin(), "setPassword", username="g", password="new") is None
        for wire in (quiet, elsewhere, session, asking):
            assert await wire.fatal() == "sessionEnded"


async def test_types_that_no_session_of_any_node_takes_are_kept(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        talk = await chat(a)
        news = await b.login("g", mail=["news"])
        for number, type in enumerate(("chat", "news", "chat")):
            talk.t.ask("chat", str(number))
            talk.handler.answer(await talk.handler.get(), to("g"), type=type, data=number)
            (status,) = await talk.statuses(str(number))
            assert status == ("stored" if type == "chat" else "delivered")
        assert (await news.get())["payload"]["data"] == 1
        everything = await a.login("g")
        assert [(await everything.get())["payload"]["data"] for _ in range(2)] == [0, 2]


async def test_types_that_a_session_of_another_node_takes_are_brought_there(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        talk = await chat(a)
        news, everything = await a.login("g", mail=["news"]), await b.login("g")
        for stage in (a, b):
            await shared(stage, "g")
        for number, type in enumerate(("chat", "news", "chat")):
            talk.t.ask("chat", str(number))
            talk.handler.answer(await talk.handler.get(), to("g", transient=True), type=type, data=number)
            assert await talk.statuses(str(number)) == ["delivered"]
        assert (await news.get())["payload"]["data"] == 1
        assert sorted([(await everything.get())["payload"]["data"] for _ in range(3)]) == [0, 1, 2]


async def test_whoever_logs_in_anywhere_is_known_everywhere_before_it_is_told(nats: NatsServer) -> None:
    async with nodes(nats, 3) as stages:
        talks = [await chat(stage) for stage in stages]
        for number in range(30):
            sessions: list[Wire] = []
            name = f"user{number}"
            for at in (0, 1, 2):
                sessions.append(await stages[(number + at) % 3].login(name))
                for talk in talks[number % 2 :: 2]:
                    id = await talk.send(name, data=[number, at])
                    assert await talk.statuses(id) == ["delivered"]
                    for session in sessions:
                        assert (await session.get())["payload"]["data"] == [number, at]
            for session in sessions:
                await session.leave()


async def test_a_login_at_two_nodes_at_once_is_known_at_both(nats: NatsServer) -> None:
    async with nodes(nats) as stages:
        talks = [await chat(stage) for stage in stages]
        for number in range(20):
            name = f"user{number}"
            await stages[0].server.accounts.add(name, PASSWORD, ())
            sessions = await asyncio.gather(*(stage.login(name) for stage in stages))
            id = await talks[number % 2].send(name, data=number)
            for session in sessions:
                assert (await session.get())["payload"]["data"] == number
            assert await talks[number % 2].statuses(id) == ["delivered"]


async def test_messages_wait_for_a_silent_node_once_and_not_one_after_another(
    nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PING_S": 0.1, "HELLO_S": 0.2, "QUIET_S": 0.4, "SILENT_S": 0.8}.items():
        monkeypatch.setattr(membership, name, value)
    monkeypatch.setattr(remote_delivery, "TAKE_S", 0.5)
    async with nodes(nats, 3) as (a, b, c):
        talk = await chat(a)
        g = await b.login("g")
        assert await talk.statuses(await talk.send("g", data=0)) == ["delivered"]
        await joined(b).bus.fail(Fault.SILENT)
        brought: list[str] = []
        bring = joined(a).remote_delivery._send

        def counting(one: Any) -> None:
            brought.append(one.delivery.id)
            bring(one)

        monkeypatch.setattr(joined(a).remote_delivery, "_send", counting)
        assert await talk.statuses(await talk.send("g", data=1)) == ["stored"]
        assert len(brought) == 1
        await until(lambda: list(others(a)) == ["n2"])
        for number in range(2, 6):
            assert await talk.statuses(await talk.send("g", data=number)) == ["stored"]
        assert len(brought) <= 2
        # Whoever goes on elsewhere is reached there.
        await until(lambda: joined(c).membership.some_silent)
        again = await c.login("g")
        id = await talk.send("g", data=6, transient=True)
        assert await talk.statuses(id) == ["delivered"]
        assert sorted([(await again.get())["payload"]["data"] for _ in range(6)]) == [1, 2, 3, 4, 5, 6]
        joined(b).bus.recover()
        await until(lambda: sorted(others(a)) == ["n1", "n2"])
        assert not joined(a).membership.some_silent
        del g
