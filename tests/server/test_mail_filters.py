"""Sessions that take no mail, or some types of it, on a real server (docs/protocol.md, section 2.2)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.peers import Stage, Wire, hello, result, result_of, stage, to
from tests.waiting import until

from bester import Client, Informer
from bester.core.session import Phase
from bester.testing import PASSWORD


async def keep(play: Stage, handler: Wire, sender: Wire, type: str, data: Any, status: str = "stored") -> None:
    """Sends to g."""
    sender.ask("chat", "k", data)
    handler.answer(await handler.get(), to("g"), type=type, data=data)
    assert result_of(await sender.report("k")) == [("g", status, None)]


async def mail(play: Stage, user: str = "g") -> int:
    return (await play.server.messages.mailbox_size(user)).messages


async def prepared(play: Stage) -> tuple[Wire, Wire]:
    """Returns a handler and a client, where the account g is away, and one message of each of two types is kept."""
    handler, t = await play.attach("chat"), await play.login()
    await play.away("g")
    for type in ("chat", "news"):
        await keep(play, handler, t, type, type)
    return handler, t


async def test_no_mail() -> None:
    async with stage() as play:
        handler, t = await prepared(play)
        admin = await play.admin()
        g = await play.connect()
        g.send(hello("g", mail=False, features=["ack", "route", "replyTo"]))
        assert (await g.get())["payload"]["features"] == ["route", "replyTo"]
        g.ask("chat", "7", "question")
        handler.answer(await handler.get(), to("g"), {"type": "reply"}, data="answer")
        assert (await g.get())["payload"] == {"type": "chat", "data": "answer", "replyTo": "7"}
        assert result_of(await g.report("7")) == [("g", "stored", None)]
        await keep(play, handler, t, "chat", "while it is there")
        assert await mail(play) == 4
        # Nobody is told that the account is there; operators are told of the session.
        async with Informer(play.running.informer_path) as informer:
            assert await informer.list_clients() == ["root", "t"]
            assert not await informer.is_client("g")
        rows = await result(admin, "listClients")
        assert [(row["username"], [one["mail"] for one in row["sessions"]]) for row in rows] == [
            ("g", [False]),
            ("root", [True]),
            ("t", [True]),
        ]
        sessions = {row["username"]: row["sessions"] for row in await result(admin, "listAccounts")}
        assert sessions == {"g": 1, "root": 1, "t": 1}
        assert await result(admin, "kick", username="g") == {"sessions": 1}
        assert await g.fatal() == "sessionEnded"
        assert await mail(play) == 4


@pytest.mark.parametrize("change", ["setPassword", "removeAccount", "setRoles"])
async def test_its_session_is_the_accounts_all_the_same(change: str) -> None:
    async with stage({"limits": {"maxSessionsPerAccount": 1}}) as play:
        admin = await play.admin()
        g = await play.login("g", mail=False)
        second = await play.connect()
        second.send(hello("g"))
        assert await second.bad("auth_special") == "throttled"
        args: dict[str, dict[str, Any]] = {"setPassword": {"password": "new"}, "setRoles": {"roles": ["cook"]}}
        await result(admin, change, username="g", **args.get(change, {}))
        if change == "setRoles":
            (session,) = play.runtime.exchange.presence.all_sessions("g")
            assert session.roles == ("cook",)
        else:
            assert await g.fatal() == "sessionEnded"


async def test_some_types() -> None:
    async with stage() as play:
        handler, t = await prepared(play)
        g = await play.login("g", mail=["news"])
        assert (await g.get())["payload"] == {"type": "news", "data": "news"}
        await keep(play, handler, t, "chat", "more")
        (session,) = play.runtime.exchange.presence.sessions("g")
        await until(lambda: session.phase is Phase.LIVE)
        await keep(play, handler, t, "news", "later", "delivered")
        assert (await g.get())["payload"] == {"type": "news", "data": "later"}
        rows = await result(await play.admin(), "listClients")
        assert rows[0]["sessions"][0]["mail"] == ["news"]
        await g.leave()
        await play.gone("g")
        assert await mail(play) == 2
        everything = await play.login("g")
        assert [(await everything.get())["payload"]["data"] for _ in range(2)] == ["chat", "more"]


async def test_a_long_mailbox_is_read_to_its_end() -> None:
    async with stage() as play:
        handler, t = await prepared(play)
        for _ in range(300):
            t.ask("chat", "many")
            handler.answer(await handler.get(), to("g"), type="chat", data=1)
            await t.report("many")
        await keep(play, handler, t, "news", "last")
        for features in ([], ["ack"]):
            g = await play.login("g", mail=["news"], features=features)
            assert (await g.get())["payload"]["data"] == ("news" if not features else "last")
            await g.leave()
            await play.gone("g")
            await keep(play, handler, t, "news", "last")


async def test_what_mail_may_be() -> None:
    async with stage() as play:
        for wrong, code in (([str(number) for number in range(257)], "badArguments"), ("chat", "malformed")):
            g = await play.connect()
            g.send(hello("g", mail=wrong))
            answer = await g.get()
            assert answer["payload"]["error"]["code"] == code
            await g.closed()
        g = await play.login("g", mail=[str(number) for number in range(256)])
        t = await play.login("t", mail=[])
        presence = play.runtime.exchange.presence
        assert (presence.usernames(), presence.all_usernames()) == (["g"], ["g", "t"])
        # After a logout it is said anew.
        t.command("logout")
        await t.good("b")
        t.send(hello("t"))
        await t.good("auth_special")
        assert presence.usernames() == ["g", "t"]


async def test_the_library_says_it_again_after_a_logout() -> None:
    async with stage() as play:
        presence = play.runtime.exchange.presence
        async with Client(play.running.url("t"), mail=False, features=["route"]) as client:
            await client.logout()
            await client.login("t", PASSWORD)
            assert client.features == ("route", "replyTo", "parts")
            assert (presence.usernames(), presence.all_usernames()) == ([], ["t"])
        with pytest.raises(TypeError, match="not the string"):
            Client(play.running.url("t"), mail="chat")
