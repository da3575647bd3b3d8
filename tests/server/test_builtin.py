"""Built-in commands, accounts and their sessions (docs/protocol.md, section 5)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.server.peers import Stage, hello, refused, result, result_of, stage, to

from bester import AuthenticationError, Client
from bester.errors import Throttled
from bester.net.peers import Remote
from bester.protocol.messages import decode_message
from bester.server.accounts.service import Login
from bester.server.admin.commands import COMMANDS
from bester.testing import PASSWORD

FAR = Remote("203.0.113.5", False)


def opening(name: str, user: str, password: str = PASSWORD, **header: Any) -> Any:
    """Returns a first message with ``login`` or ``register`` in place of authentication."""
    data = {"command": {"type": name, "args": {"username": user, "password": password}}}
    return {"header": {"scope": "client", **header}, "payload": {"type": "builtin", "id": "1", "data": data}}


async def login_code(play: Stage, message: Any, where: str = "unix") -> str:
    """Returns why a first message is refused; ``good`` if it is not."""
    wire = await play.connect(where)
    wire.send(message)
    payload = await wire.report("auth_special")
    if "error" in payload:
        await wire.closed()
    await wire.leave()
    return payload["error"]["code"] if "error" in payload else "good"


# -- the form ----------------------------------------------------------------------------------------------------------


async def test_the_form_of_commands() -> None:
    async with stage() as play:
        wire = await play.login()
        cases: list[tuple[Any, str]] = [
            (None, "badArguments"),
            ([], "badArguments"),
            ({}, "badArguments"),
            ({"command": "serverInfo"}, "badArguments"),
            ({"command": {}}, "badArguments"),
            ({"command": {"type": 5}}, "badArguments"),
            ({"command": {"type": "serverInfo", "args": 5}}, "badArguments"),
            ({"command": {"type": "changePassword"}}, "badArguments"),
            ({"command": {"type": "changePassword", "args": {"old": 1, "new": "x"}}}, "badArguments"),
            ({"command": {"type": "Close"}}, "unknownCommand"),
            ({"command": {"type": ""}}, "unknownCommand"),
        ]
        for index, (data, code) in enumerate(cases):
            wire.ask("builtin", str(index), data)
            assert (data, await wire.bad(str(index))) == (data, code)
        wire.send({"payload": {"type": "builtin"}})
        assert await wire.bad("") == "badArguments"
        wire.ask("builtin", "c", {"command": {"type": "changePassword", "command": {"old": PASSWORD, "new": "new"}}})
        await wire.good("c")


async def test_an_unknown_command_tells_those_that_there_are() -> None:
    async with stage() as play:
        wire, admin = await play.login(), await play.admin()
        for who, names in ((wire, [n for n, c in COMMANDS.items() if not c.admin]), (admin, list(COMMANDS))):
            who.command("help")
            error = (await who.report("b"))["error"]
            assert error["code"] == "unknownCommand"
            assert error["message"].endswith(", ".join(sorted(names)))


async def test_commands_are_executed_in_order_and_limited() -> None:
    async with stage({"limits": {"maxInFlight": 5}}) as play:
        wire = await play.login()
        asked = {"payload": {"type": "builtin", "id": "c", "data": {"command": {"type": "listTypes"}}}}
        wire.send(*[asked] * 8)
        codes = [(await wire.report("c")).get("error", {}).get("code") for _ in range(8)]
        assert sorted(map(str, codes)) == ["None"] * 5 + ["throttled"] * 3


# -- for every client --------------------------------------------------------------------------------------------------


async def test_information() -> None:
    async with stage({"admin": {"info": {"contact": "me"}}}) as play:
        await play.attach("b", "a")
        wire = await play.login()
        await play.login()
        await play.login("g")
        assert await result(wire, "listTypes") == ["a", "b"]
        assert await result(wire, "serverInfo") == {
            "clientCount": 2,
            "adminInfo": {"contact": "me"},
            "listeners": {
                "listener0": {"address": f"unix://{play.folder / 'clients'}"},
                "listener1": {"address": f"tcp4://127.0.0.1:{play.port}"},
            },
        }


@pytest.mark.parametrize("name", ["close", "logout"])
async def test_the_end_waits_for_what_was_sent_before(name: str) -> None:
    async with stage() as play:
        handler = await play.attach("chat")
        wire = await play.login()
        wire.ask("chat", "1")
        wire.command(name, "2")
        wire.send(b"not looked at yet" if name == "close" else opening("login", "t"))
        request = await handler.get()
        handler.answer(request, {"type": "reply"})
        assert (await wire.get())["header"]["messageType"] == "receivedMessage"
        await wire.good("1")
        await wire.good("2")
        if name == "close":
            await wire.closed()
        else:
            await wire.good("auth_special")


async def test_what_comes_behind_a_refused_logout_is_executed_once() -> None:
    async with stage() as play:
        wire = await play.login()
        wrong = {"type": "changePassword", "args": {"old": "wrong", "new": "new"}}
        commands = [{"type": "logout", "args": 5}, wrong, {"type": "listTypes"}]
        wire.send(
            *({"payload": {"type": "builtin", "id": str(n), "data": {"command": c}}} for n, c in enumerate(commands))
        )
        assert await wire.bad("0") == "badArguments"
        assert await wire.bad("1") == "authenticationFailed"
        await wire.good("2")
        assert await refused(wire, "changePassword", old="wrong", new="new") == "authenticationFailed"


async def test_login_again_after_a_logout() -> None:
    async with stage() as play:
        await play.login("g")
        wire = await play.login()
        assert await refused(wire, "login", username="g", password=PASSWORD) == "notAllowed"
        assert await refused(wire, "register", username="n", password=PASSWORD) == "notAllowed"
        assert await result(wire, "logout") is None
        assert play.runtime.exchange.presence.usernames() == ["g"]
        # As at first; the scope may be left out.
        wire.send({"header": {"authentication": {"username": "g", "password": PASSWORD}}, "payload": {"type": "x"}})
        await wire.good("auth_special")
        assert await wire.bad("") == "noHandler"
        assert len(play.runtime.exchange.presence.sessions("g")) == 2
        await result(wire, "logout")
        wire.command("login", "l", username="t", password=PASSWORD)
        await wire.good("auth_special")
        assert await result(wire, "logout") is None
        wire.ask("dummy", "no")
        assert await wire.bad("auth_special") == "authenticationRequired"
        await wire.closed()


@pytest.mark.parametrize("header", [{"scope": "server"}, {"scope": "other"}])
async def test_a_logout_does_not_make_it_a_server(header: Any) -> None:
    async with stage() as play:
        wire = await play.login()
        await result(wire, "logout")
        wire.send({"header": header, "payload": {"type": "x"}})
        assert await wire.fatal() == "badScope"


async def test_after_a_logout_the_size_is_that_of_a_first_message() -> None:
    async with stage() as play:
        wire = await play.login()
        await result(wire, "logout")
        wire.send(b" " * (16 * 1024 + 1))
        assert await wire.fatal() == "tooLarge"


async def test_deliveries_do_not_come_after_a_logout() -> None:
    async with stage() as play:
        handler = await play.attach("chat")
        wire, g = await play.login(), await play.login("g")
        await result(wire, "logout")
        g.ask("chat", "1")
        handler.answer(await handler.get(), to("t"))
        assert result_of(await g.report("1")) == [("t", "stored", None)]
        wire.send(opening("login", "t"))
        await wire.good("auth_special")


async def test_change_password() -> None:
    async with stage() as play:
        wire, other = await play.login(), await play.login(features=["token"])
        await play.login("g")
        token = next(iter(play.server.accounts._tokens.values()))
        assert token
        assert await refused(wire, "changePassword", old="wrong", new="new") == "authenticationFailed"
        assert await refused(wire, "changePassword", old=PASSWORD, new="") == "badArguments"
        assert await refused(wire, "changePassword", old=PASSWORD, new="x" * 1025) == "badArguments"
        assert await result(wire, "changePassword", old=PASSWORD, new="new") is None
        assert await other.fatal() == "sessionEnded"
        assert await login_code(play, hello()) == "authenticationFailed"
        assert await login_code(play, hello(password="new")) == "good"
        assert await result(wire, "listTypes") == []
        assert play.runtime.exchange.presence.usernames() == ["g", "t"]


# -- registration ------------------------------------------------------------------------------------------------------


async def test_registration_closed() -> None:
    async with stage({"accounts": {"registration": "closed"}}) as play:
        await play.server.accounts.add("t", PASSWORD)
        assert await login_code(play, opening("register", "n")) == "notAllowed"
        assert await login_code(play, hello("n")) == "authenticationFailed"
        assert await login_code(play, opening("login", "n")) == "authenticationFailed"
        assert await login_code(play, opening("login", "t")) == "good"


async def test_registration_open() -> None:
    async with stage({"accounts": {"registration": "open"}}) as play:
        wire = await play.connect()
        wire.send(opening("register", "N", features=["token"]))
        welcome = await wire.good("auth_special")
        assert welcome["features"] == ["token"]
        assert welcome["limits"]["maxInFlight"] == 1024
        assert play.runtime.exchange.presence.usernames() == ["n"]
        assert await login_code(play, opening("register", "\uff2e")) == "accountExists"
        assert await login_code(play, opening("register", "a b")) == "invalidName"
        assert await login_code(play, opening("register", "x" * 65)) == "invalidName"
        assert await login_code(play, opening("register", "m", "")) == "badArguments"
        assert await login_code(play, hello("m")) == "authenticationFailed"
        assert await login_code(play, hello("\uff4e")) == "good"


async def test_registration_first_use() -> None:
    async with stage() as play:
        assert await login_code(play, opening("login", "a")) == "good"
        assert await login_code(play, hello("b")) == "good"
        assert await login_code(play, opening("register", "c")) == "good"
        assert await login_code(play, hello("a", "other")) == "authenticationFailed"
        assert await login_code(play, opening("register", "a")) == "accountExists"


async def test_registrations_from_one_remote_address_are_slowed_down() -> None:
    async with stage({"accounts": {"registration": "open"}}) as play:
        buckets = play.server.accounts._registrations
        now = play.runtime.clock()
        assert [buckets.take(FAR.address, now) for _ in range(21)] == [True] * 20 + [False]
        payload = decode_message(json.dumps(opening("register", "n")).encode()).payload
        with pytest.raises(Throttled):
            await play.server.accounts.open_by_command(payload, FAR, Login())
        play.later(5.1)
        account = await play.server.accounts.open_by_command(payload, FAR, Login())
        assert account.username == "n"


# -- tokens and throttling ---------------------------------------------------------------------------------------------


def with_token(user: str, token: str, **more: Any) -> Any:
    return {"header": {"scope": "client", "authentication": {"username": user, "token": token, **more}}}


async def test_tokens() -> None:
    async with stage() as play:
        wire = await play.connect()
        wire.send(hello(features=["token"]))
        token = (await wire.good())["token"]
        assert await login_code(play, with_token("T", token)) == "good"
        assert await login_code(play, with_token("g", token)) == "authenticationFailed"
        assert await login_code(play, with_token("t", token, password="wrong")) == "authenticationFailed"
        assert await login_code(play, with_token("t", "wrong", password=PASSWORD)) == "good"
        await result(wire, "logout")
        assert await login_code(play, with_token("t", token)) == "authenticationFailed"


@pytest.mark.parametrize("how", ["changePassword", "setPassword", "removeAccount"])
async def test_a_token_ends_with_the_password_and_the_account(how: str) -> None:
    async with stage() as play:
        admin = await play.admin()
        client = Client(play.running.url("t"), features=["token"])
        await client.open()
        token = client.token
        await client.close()
        assert token
        async with Client(f"bester://t@127.0.0.1:{play.port}", token=token) as again:
            assert await again.list_types() == []
        if how == "changePassword":
            wire = await play.login()
            await result(wire, how, old=PASSWORD, new="new")
        elif how == "setPassword":
            await result(admin, how, username="t", password="new")
        else:
            await result(admin, how, username="t")
        with pytest.raises(AuthenticationError):
            await Client.connect(f"bester://t@127.0.0.1:{play.port}", token=token)


async def test_guessing_is_slowed_down() -> None:
    async with stage({"accounts": {"registration": "closed"}}) as play:
        for name in ("t", "g"):
            await play.server.accounts.add(name, PASSWORD)
        for _ in range(5):
            assert await login_code(play, hello(password="wrong"), "tcp4") == "authenticationFailed"
        wire = await play.connect("tcp4")
        wire.send(hello())
        error = (await wire.report("auth_special"))["error"]
        assert error["code"] == "throttled"
        assert error["temporary"]
        assert any(character.isdigit() for character in error["message"])
        # From elsewhere the account is open.
        assert await login_code(play, hello(), "unix") == "good"
        play.later(1.1)
        assert await login_code(play, hello(), "tcp4") == "good"
        assert play.runtime.counts.logins_failed == 6


async def test_all_built_in_failures_cost_the_same_code() -> None:
    async with stage({"accounts": {"registration": "closed"}}) as play:
        await play.server.accounts.add("t", PASSWORD)
        texts = set()
        for message in (hello("t", "wrong"), hello("nobody"), hello("\u202e")):
            wire = await play.connect()
            wire.send(message)
            texts.add(json.dumps((await wire.report("auth_special"))["error"]))
        assert len(texts) == 1
