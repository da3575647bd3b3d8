"""Handlers that attach from other machines, over TLS (docs/protocol.md, section 6.10)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.certificates import Papers, issued, self_signed
from tests.server.peers import Stage, Wire, attaching, refused, result, stage
from tests.server.reloading import reloading
from tests.waiting import PATIENCE_S, until

from bester.config import ConfigError, parse
from bester.protocol.framing import frame
from bester.testing import PASSWORD
from bester.tls import verifying_context


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    return self_signed(tmp_path, "j.example")


class Remote:
    """A server that takes handlers over TLS."""

    def __init__(self, play: Stage, trusting: ssl.SSLContext) -> None:
        self.play = play
        self.trusting = trusting

    @property
    def port(self) -> int:
        return int(self.play.runtime.handler_urls[0].rpartition(":")[2])

    async def connect(self, tls: ssl.SSLContext | None = None) -> Wire:
        context = tls or self.trusting
        async with asyncio.timeout(PATIENCE_S):
            pair = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname="j.example")
        return self.play.keep(Wire(*pair))

    async def account(self, name: str = "billing", *roles: str) -> None:
        await self.play.server.accounts.add(name, PASSWORD, roles or ("handler",))

    async def attach(self, *types: str, name: str = "billing", **claim: Any) -> Wire:
        wire = await self.connect()
        wire.send(claiming(*types, name=name, **claim))
        return wire


def claiming(*types: str, name: str = "billing", **claim: Any) -> Any:
    message = attaching(*types)
    message["header"]["authentication"] = {"username": name} | (claim or {"password": PASSWORD})
    return message


@asynccontextmanager
async def remote(papers: Papers, overrides: Any = None, **tls: Any) -> AsyncIterator[Remote]:
    more = dict(overrides or {})
    listener = {"port": 0, "address": "127.0.0.1", "certificate": papers.certificate, "key": papers.key} | tls
    more["handlers"] = more.get("handlers", {}) | {"tls": listener}
    async with stage(more) as play:
        yield Remote(play, verifying_context(papers.certificate))


async def test_a_handler_with_a_password_is_asked(papers: Papers) -> None:
    async with remote(papers) as far:
        await far.account()
        handler = await far.attach("invoice")
        await handler.good("a")
        client = await far.play.login()
        client.ask("invoice", "1", {"to": "g"})
        request = await handler.get()
        assert request["payload"]["data"] == {"to": "g"}
        handler.answer(request, {"type": "reply"}, data="paid")
        assert (await client.get())["payload"]["data"] == "paid"
        await client.good("1")
        [attached] = far.play.runtime.exchange.dispatcher.handlers
        assert attached.name == "invoice (billing)"
        assert not far.play.server.limits._waiting
        handler.reset()
        await until(lambda: not far.play.runtime.exchange.dispatcher.handlers)
        assert not len(far.play.server.accounts.dependents)


async def test_what_is_sent_behind_the_attach_message_waits_until_it_is_proved(papers: Papers) -> None:
    async with remote(papers) as far:
        await far.account()
        wire = await far.connect()
        push = {"header": {"messageType": "push", "id": "p", "command": {"type": "done"}}, "payload": {"data": 1}}
        wire.send(claiming("invoice"), push, push, {"payload": {"type": "detach", "id": "d"}})
        for id in ("a", "p", "p", "d"):
            await wire.good(id)


CLAIMS: dict[str, tuple[Any, str]] = {
    "none": (attaching("invoice"), "authenticationRequired"),
    "a wrong password": (claiming("invoice", password="wrong"), "authenticationFailed"),
    "a wrong token": (claiming("invoice", token="wrong"), "authenticationFailed"),
    "an unknown account": (claiming("invoice", name="nobody"), "authenticationFailed"),
    "no account's name": (claiming("invoice", name="\0"), "authenticationFailed"),
    "neither password nor token": (
        attaching("invoice") | {"header": {"scope": "handler", "authentication": {"username": "billing"}}},
        "authenticationFailed",
    ),
    "no role": (claiming("invoice", name="t"), "notAllowed"),
    "a type of others": (claiming("invoice", "salary"), "notAllowed"),
    "a name without types": (claiming("invoice", name="other"), "notAllowed"),
    "a type of the server": (claiming("builtin"), "notAllowed"),
    "no types": (claiming(), "badArguments"),
}


@pytest.mark.parametrize("case", CLAIMS)
async def test_attach_messages_that_are_refused(papers: Papers, case: str) -> None:
    message, code = CLAIMS[case]
    handlers = {"handlers": {"remoteTypes": {"Billing": ["invoice", "bill"]}}}
    async with remote(papers, handlers) as far:
        await far.account()
        await far.account("other")
        await far.account("t", "admin")
        wire = await far.connect()
        wire.send(message)
        assert await wire.bad("a") == code
        await wire.closed()
        assert not far.play.runtime.exchange.dispatcher.handlers
        good = await far.attach("invoice", "bill")
        await good.good("a")


FATAL: dict[str, tuple[bytes, str]] = {
    "empty": (b"\0\0\0\0", "malformed"),
    "too long": (b"\xff\xff\xff\x7f", "tooLarge"),
    "not JSON": (frame(b"x"), "malformed"),
    "a list": (frame(b"[]"), "malformed"),
    "no scope": (frame(b"{}"), "badScope"),
    "a client's": (frame(b'{"header": {"scope": "client", "authentication": {"username": "billing"}}}'), "badScope"),
    "a claim of a wrong form": (frame(b'{"header": {"scope": "handler", "authentication": 5}}'), "malformed"),
}


@pytest.mark.parametrize("case", FATAL)
async def test_first_messages_that_are_fatal(papers: Papers, case: str) -> None:
    data, code = FATAL[case]
    async with remote(papers) as far:
        wire = await far.connect()
        wire.writer.write(data)
        assert await wire.fatal() == code
        await until(lambda: not far.play.server.limits.connections)


async def test_failures_are_throttled_with_those_of_clients(papers: Papers) -> None:
    async with remote(papers) as far:
        await far.account()
        codes = []
        for _ in range(6):
            wire = await far.attach("invoice", password="wrong")
            codes.append(await wire.bad("a"))
        assert codes == ["authenticationFailed"] * 5 + ["throttled"]


async def test_a_connection_that_says_nothing_is_closed_in_time(papers: Papers) -> None:
    async with remote(papers) as far:
        wire = await far.connect()
        await until(lambda: len(far.play.server.limits) == 1)
        far.play.later(11)
        assert await wire.fatal() == "authenticationTimeout"


async def test_plain_tcp_is_not_served_and_is_logged(papers: Papers, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with remote(papers) as far:
        reader, writer = await asyncio.open_connection("127.0.0.1", far.port)
        writer.write(frame(b'{"header": {"scope": "handler"}}'))
        async with asyncio.timeout(PATIENCE_S):
            await reader.read()
        writer.close()
        await until(lambda: "does not speak TLS" in caplog.text)
        await until(lambda: not far.play.server.limits.connections)


CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    "removed": ("removeAccount", {}),
    "another password": ("setPassword", {"password": "another password"}),
    "no role any more": ("setRoles", {"roles": ["admin"]}),
}


@pytest.mark.parametrize("case", CHANGES)
async def test_a_change_of_the_account_ends_the_handler(papers: Papers, case: str) -> None:
    name, args = CHANGES[case]
    async with remote(papers) as far:
        await far.account()
        handler = await far.attach("invoice")
        await handler.good("a")
        operator = await far.play.connect("control")
        await result(operator, "setRoles", username="billing", roles=["handler", "more"])
        await result(operator, name, username="billing", **args)
        assert await handler.fatal() == "sessionEnded"


async def test_tokens_are_made_by_operators(papers: Papers) -> None:
    async with remote(papers) as far:
        await far.account()
        operator = await far.play.connect("control")
        made = await result(operator, "addToken", username="Billing", days=365)
        assert made["username"] == "billing"
        assert made["expires"] - far.play.runtime.steady.now() == pytest.approx(365 * 86_400, abs=60)
        handler = await far.attach("invoice", token=made["token"])
        await handler.good("a")
        assert await refused(operator, "addToken", username="nobody") == "unknownAccount"
        for days in (0, 3651):
            assert await refused(operator, "addToken", username="billing", days=days) == "badArguments"
        await result(operator, "setPassword", username="billing", password="another password")
        assert await handler.fatal() == "sessionEnded"
        again = await far.attach("invoice", token=made["token"])
        assert await again.bad("a") == "authenticationFailed"


# -- certificates ------------------------------------------------------------------------------------------------------


def presenting(papers: Papers, own: Papers) -> ssl.SSLContext:
    return verifying_context(papers.certificate, own.certificate, own.key)


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    return made


async def test_a_certificate_proves_a_name(papers: Papers, authority: trustme.CA, tmp_path: Path) -> None:
    own = issued(tmp_path, authority, "Shop.example")
    types = {"handlers": {"remoteTypes": {"shop.example": ["invoice"]}}}
    async with remote(papers, types, clientAuthority=str(tmp_path / "authority.pem")) as far:
        handler = await far.connect(presenting(papers, own))
        handler.send(attaching("invoice"), {"payload": {"type": "detach", "id": "d"}})
        await handler.good("a")
        await handler.good("d")
        [attached] = far.play.runtime.exchange.dispatcher.handlers
        assert attached.name == "invoice (shop.example)"
        other = await far.connect(presenting(papers, own))
        other.send(attaching("salary"))
        assert await other.bad("a") == "notAllowed"
        without = await far.connect()
        without.send(attaching("invoice"))
        assert await without.bad("a") == "authenticationRequired"


@pytest.mark.parametrize("case", ["of another authority", "expired"])
async def test_a_certificate_that_proves_nothing_does_not_come_in(
    papers: Papers, authority: trustme.CA, tmp_path: Path, case: str
) -> None:
    issuer = trustme.CA() if case == "of another authority" else authority
    own = issued(tmp_path, issuer, "shop.example", expired=case == "expired")
    async with remote(papers, clientAuthority=str(tmp_path / "authority.pem")) as far:
        with contextlib.suppress(ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
            wire = await far.connect(presenting(papers, own))  # in TLS 1.3 the client learns of it behind the handshake
            wire.send(attaching("invoice"))
            pytest.fail(str(await wire.get()))
        assert not far.play.runtime.exchange.dispatcher.handlers


async def test_a_certificate_without_an_authority_counts_for_nothing(
    papers: Papers, authority: trustme.CA, tmp_path: Path
) -> None:
    async with remote(papers) as far:
        wire = await far.connect(presenting(papers, issued(tmp_path, authority, "shop.example")))
        wire.send(attaching("invoice"))
        assert await wire.bad("a") == "authenticationRequired"


# -- reload and drain --------------------------------------------------------------------------------------------------


async def test_a_reload_takes_types_away_and_renews_the_certificate(papers: Papers) -> None:
    tls = {"port": 0, "address": "127.0.0.1", "certificate": papers.certificate, "key": papers.key}
    async with reloading(handlers={"tls": tls}) as play:
        far = Remote(play, verifying_context(papers.certificate))
        await far.account()
        stays, goes = await far.attach("invoice"), await far.attach("salary")
        await stays.good("a")
        await goes.good("a")
        papers.renew()
        done = await play.reload(handlers={"tls": tls, "remoteTypes": {"billing": ["invoice"]}})
        assert done["restartNeeded"] == []
        assert await goes.fatal() == "sessionEnded"
        with pytest.raises(ssl.SSLCertVerificationError):
            await far.connect()
        far.trusting = verifying_context(papers.certificate)
        await (await far.attach("invoice")).good("a")
        problems = await result(await play.connect("control"), "problems")
        assert any("of handlers.tls" in one["name"] for one in problems)
        status = await result(await play.connect("control"), "status")
        assert status["handlerListeners"] == play.runtime.handler_urls
        Path(papers.certificate).write_text("none")
        assert await refused(await play.connect("control"), "reload") == "badConfiguration"
        stays.send({"payload": {"type": "detach", "id": "d"}})
        await stays.good("d")


async def test_other_authorities_end_what_their_certificates_let_in(
    papers: Papers, authority: trustme.CA, tmp_path: Path
) -> None:
    tls = {"port": 0, "address": "127.0.0.1", "certificate": papers.certificate, "key": papers.key}
    tls["clientAuthority"] = str(tmp_path / "authority.pem")
    async with reloading(handlers={"tls": tls}) as play:
        far = Remote(play, verifying_context(papers.certificate))
        await far.account()
        proved = await far.attach("invoice")
        await proved.good("a")
        certified = await far.connect(presenting(papers, issued(tmp_path, authority, "shop.example")))
        certified.send(attaching("invoice"))
        await certified.good("a")
        await play.reload(handlers={"tls": tls})
        assert len(play.runtime.exchange.dispatcher.handlers) == 2
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "authority.pem"))
        await play.reload(handlers={"tls": tls})
        assert await certified.fatal() == "sessionEnded"
        proved.send({"payload": {"type": "detach", "id": "d"}})
        await proved.good("d")


async def test_a_handler_goes_on_while_the_server_drains(papers: Papers) -> None:
    async with remote(papers) as far:
        await far.account()
        handler = await far.attach("invoice")
        await handler.good("a")
        client = await far.play.login()
        client.ask("invoice", "1")
        request = await handler.get()
        stopping = asyncio.create_task(far.play.server.stop())
        await until(lambda: far.play.runtime.stopping)
        handler.answer(request, {"type": "done"})
        await client.good("1")
        assert await handler.fatal() == "shuttingDown"
        await stopping


async def test_the_port_and_the_certificate_must_be_there(tmp_path: Path, papers: Papers) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse('{"network": {"unix": {"address": "s"}}, "handlers": {"tls": {"port": 0}}}', tmp_path)
    assert "handlers.tls.certificate: found nothing" in str(refusal.value)
    half = {"port": 1, "certificate": papers.certificate}
    tree = {"network": {"tcp4": {"port": 1}}, "handlers": {"tls": half}}
    with pytest.raises(ConfigError) as refusal:
        parse(json.dumps(tree), tmp_path)
    assert "handlers.tls.key" in str(refusal.value)
    assert "handlers.tls.port" in str(refusal.value)
