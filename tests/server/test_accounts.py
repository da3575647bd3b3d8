"""What happens to accounts while somebody uses them (docs/protocol.md, sections 4.4 and 5)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.server.peers import Stage, Wire, hello, refused, result, result_of, stage, to

from bester.errors import AccountExists, Internal, SessionEnded
from bester.testing import PASSWORD

ONCE = {"header": {"once": True}, "payload": {"type": "chat", "id": "7", "data": 1}}


class Held:
    """The first call of a method, which has its result and does not return it yet."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: object, method: str) -> None:
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        call: Callable[..., Awaitable[Any]] = getattr(owner, method)

        async def held(*args: Any) -> Any:
            done = await call(*args)
            if not self.reached.is_set():
                self.reached.set()
                await self.go_on.wait()
            return done

        monkeypatch.setattr(owner, method, held)


async def code_of(play: Stage, message: Any) -> str:
    """Returns why a first message is refused; ``good`` if it is not."""
    wire = await play.connect()
    wire.send(message)
    payload = await wire.report("auth_special")
    await wire.leave()
    return str(payload["error"]["code"]) if "error" in payload else "good"


# -- a change while a login is checked ---------------------------------------------------------------------------------

CHANGES: dict[str, Any] = {
    "setPassword": {"username": "t", "password": "new"},
    "removeAccount": {"username": "t"},
    "setRoles": {"username": "t", "roles": []},
    "changePassword": {"old": PASSWORD, "new": "new"},
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("proof", ["password", "token", "login"])
@pytest.mark.parametrize("where", ["find", "has_mail"])
async def test_a_login_does_not_outlive_what_it_was_checked_against(
    change: str, proof: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage() as play:
        accounts = play.server.accounts
        admin, t = await play.admin(), await play.connect()
        t.send(hello(features=["token"]))
        first: dict[str, Any] = {
            "password": hello(),
            "token": {
                "header": {
                    "scope": "client",
                    "authentication": {"username": "T", "token": (await t.good())["token"]},
                }
            },
            "login": {
                "header": {"scope": "client"},
                "payload": {
                    "type": "builtin",
                    "id": "1",
                    "data": {"command": {"type": "login", "args": {"username": "t", "password": PASSWORD}}},
                },
            },
        }
        if where == "has_mail":
            held = Held(monkeypatch, play.server.messages, where)
        else:
            held = Held(monkeypatch, accounts.store, "find_token" if proof == "token" else where)
        late, other = await play.connect(), await play.connect()
        late.send(first[proof])
        await held.reached.wait()
        await result(t if change == "changePassword" else admin, change, **CHANGES[change])
        held.go_on.set()
        assert await late.fatal() == SessionEnded.code
        other.send(hello("another"))
        await other.good("auth_special")
        stays = change in ("setRoles", "changePassword")
        assert len(play.runtime.exchange.presence.sessions("t")) == stays
        assert not accounts._logins
        assert not accounts._changes


async def test_a_login_is_ended_by_changes_of_its_own_account_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage() as play:
        admin = await play.admin()
        for name in ("t", "g"):
            await play.server.accounts.add(name, PASSWORD)
        held = Held(monkeypatch, play.server.accounts.store, "find")
        wire = await play.connect()
        wire.send(hello())
        await held.reached.wait()
        await result(admin, "setPassword", username="g", password="new")
        held.go_on.set()
        await wire.good("auth_special")


async def test_a_password_set_by_the_operator_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage() as play:
        admin, t = await play.admin(), await play.login()
        held = Held(monkeypatch, play.server.accounts.passwords, "verify")
        t.command("changePassword", old=PASSWORD, new="of t")
        await held.reached.wait()
        setting = asyncio.create_task(result(admin, "setPassword", username="t", password="of root"))
        await asyncio.wait([setting], timeout=0.3)  # it may not be done before the other, which has begun
        held.go_on.set()
        await setting
        assert await code_of(play, hello(password="of t")) == "authenticationFailed"
        assert await code_of(play, hello(password="of root")) == "good"


async def test_a_name_is_given_once() -> None:
    async with stage() as play:
        made = await asyncio.gather(
            *[play.server.accounts.add("g", PASSWORD) for _ in range(5)], return_exceptions=True
        )
        assert made[0] == "g"
        assert all(isinstance(one, AccountExists) for one in made[1:])


# -- a name's next owner -----------------------------------------------------------------------------------------------


async def send_once(sender: Wire, handler: Wire, receiver: Wire) -> tuple[str, list[tuple[str, str, str | None]]]:
    """Sends a ``once`` message that must be handled, and returns its delivery id and its results."""
    sender.send(ONCE)
    request = await handler.get()
    handler.answer(request, to("g"), data=request["payload"]["data"])
    id: str = (await receiver.get())["payload"]["deliveryId"]
    receiver.send({"header": {"messageType": "ack"}, "payload": {"ids": [id]}})
    return id, result_of(await sender.good("7"))


async def test_what_an_account_sent_once_is_not_its_successors() -> None:
    async with stage() as play:
        admin, handler, g = await play.admin(), await play.attach("chat"), await play.login("g", features=["ack"])
        t = await play.login()  # which makes the account
        id, results = await send_once(t, handler, g)
        assert results == [("g", "delivered", None)]
        again = await play.login()  # which finds it
        again.send(ONCE)
        assert result_of(await again.good("7")) == results
        await result(admin, "removeAccount", username="t")
        t = await play.login()
        other_id, results = await send_once(t, handler, g)
        assert results == [("g", "delivered", None)]
        assert other_id != id
        await result(admin, "removeAccount", username="t")
        await result(admin, "addAccount", username="t", password=PASSWORD)
        t = await play.login()
        t.send({"header": {"once": True}, "payload": {"type": "chat", "id": "7", "data": "something else"}})
        handler.answer(await handler.get())
        await t.good("7")


async def leave_mail(play: Stage, monkeypatch: pytest.MonkeyPatch) -> Wire:
    """Removes the account ``g`` so that its mail stays, and returns an operator."""
    admin, handler, t = await play.admin(), await play.attach("chat"), await play.login()
    await play.server.accounts.add("g", PASSWORD)
    t.ask("chat", "1", "for the first g")
    handler.answer(await handler.get(), to("g"))
    assert result_of(await t.good("1")) == [("g", "stored", None)]

    async def fail(username: str) -> int:
        raise Internal

    with monkeypatch.context() as broken:
        broken.setattr(play.server.messages, "clear_mailbox", fail)
        assert await refused(admin, "removeAccount", username="g") == "internal"
    assert not await play.server.accounts.exists("g")
    assert (await play.server.messages.mailbox_size("g")).messages == 1
    return admin


@pytest.mark.parametrize("how", ["addAccount", "register", "firstUse"])
async def test_a_new_account_has_no_mail(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage() as play:
        admin = await leave_mail(play, monkeypatch)
        g = await play.connect()
        if how == "addAccount":
            await result(admin, how, username="g", password=PASSWORD)
        if how == "register":
            data = {"command": {"type": how, "args": {"username": "g", "password": PASSWORD}}}
            g.send({"header": {"scope": "client"}, "payload": {"type": "builtin", "id": "1", "data": data}})
        else:
            g.send(hello("g"))
        await g.good("auth_special")
        g.ask("dummy", "p")
        assert (await g.get())["payload"]["type"] == "dummy"
        assert (await play.server.messages.mailbox_size("g")).messages == 0


async def test_a_removal_that_was_cut_off_is_finished_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage() as play:
        admin = await leave_mail(play, monkeypatch)
        await result(admin, "removeAccount", username="g")
        assert (await play.server.messages.mailbox_size("g")).messages == 0
        assert await refused(admin, "removeAccount", username="g") == "unknownAccount"
