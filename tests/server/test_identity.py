"""Servers that prove their names to a running server, and those that do not (docs/protocol.md, sections 8.3, 8.5)."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.certificates import Papers, issued, self_signed
from tests.server.peers import Stage, hello, result, result_of, stage
from tests.waiting import until

from bester.config import parse
from bester.net.identity import Identities
from bester.net.peers import Remote

FAR = Remote("203.0.113.5", False)
POLICIES = ["local", "open", "verified"]
DONE = {"type": "done"}


def server_message(type: str, id: str = "s", **header: Any) -> Any:
    return {"header": {"scope": "server", **header}, "payload": {"type": type, "id": id}}


def pin(papers: Papers, how: str = "key", address: str = "192.0.2.1:1", **more: Any) -> dict[str, Any]:
    pins = {
        "file": {"certificate": papers.certificate},
        "key": {"fingerprint": papers.fingerprints.key},
        "certificate": {"fingerprint": papers.fingerprints.certificate},
    }
    return {"address": address} | pins[how] | more


@asynccontextmanager
async def named(name: str, papers: Papers | None, tracing: Any = None, **federation: Any) -> AsyncIterator[Stage]:
    """Runs a server of this name; without papers it has no TLS."""
    overrides: dict[str, Any] = {"server": {"name": name}, "federation": federation}
    if tracing is not None:
        overrides["tracing"] = tracing
    if papers is not None:
        overrides["network"] = papers.network
    async with stage(overrides) as play:
        yield play


def presenting(folder: Path, papers: Papers | None) -> ssl.SSLContext:
    """Returns the TLS context of a server that dials with these papers, and checks nothing."""
    config = '{"network": {"tcp4": {"port": 0}}, "federation": {"servers": {"x": {"address": "x", "tls": true}}%s}}'
    own = f', "certificate": "{papers.certificate}", "key": "{papers.key}"' if papers is not None else ""
    return Identities(parse(config % own, folder)).dialling


async def sent(here: Stage, there: Stage, address: str = "b.example") -> tuple[Any, Any]:
    """Lets a handler here send a message there; returns the report's payload, and what the handler there was told."""
    sender, receiver, wire = await here.attach("chat"), await there.attach("chat"), await here.login()

    async def received() -> Any:
        request = await receiver.get()
        receiver.answer(request, DONE)
        return request["header"]["from"]

    told = asyncio.create_task(received())
    wire.ask("chat", "1")
    sender.answer(await sender.get(), {"type": "sendServers", "data": [address]})
    payload = await wire.report("1")
    if payload["results"][0]["status"] == "sent":
        return payload, await told
    told.cancel()
    return payload, None


VERIFIED = {"user": None, "server": "a.example", "verified": True}
UNVERIFIED = {"user": None, "server": None, "verified": False}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("how", ["file", "key", "certificate", "authority"])
async def test_a_server_that_proves_its_name(tmp_path: Path, how: str, policy: str) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    ca = {"ca": str(tmp_path / "ca.pem")}
    if how == "authority":
        a, b = issued(tmp_path, authority, "a.example"), issued(tmp_path, authority, "b.example")
        known: dict[str, Any] = ca
    else:
        a, b = self_signed(tmp_path, "a.example"), self_signed(tmp_path, "b.example")
        known = {"servers": {"a.example": pin(a, how)}}
    async with named("b.example", b, policy=policy, **known) as there:
        address = f"127.0.0.1:{there.port_of('tls')}"
        entry = {"address": address} if how == "authority" else pin(b, how, address)
        more = ca if how == "authority" else {}
        async with named("a.example", a, policy=policy, servers={"b.example": entry}, **more) as here:
            payload, told = await sent(here, there)
    assert result_of(payload) == [("b.example", "sent", None)]
    assert told == VERIFIED


async def test_renewed_with_the_same_key(tmp_path: Path) -> None:
    a, b = self_signed(tmp_path, "a.example", 0), self_signed(tmp_path, "b.example")
    async with named("b.example", b, policy="verified", servers={"a.example": pin(a, "file")}) as there:
        a.renew()
        servers = {"b.example": pin(b, "file", f"127.0.0.1:{there.port_of('tls')}")}
        async with named("a.example", a, servers=servers) as here:
            assert (await sent(here, there))[1] == VERIFIED


async def test_an_expired_certificate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of a pinned key it is told; from an authority it proves nothing."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    a, b = self_signed(tmp_path, "a.example", 0), self_signed(tmp_path, "b.example")
    old = issued(tmp_path, authority, "old.example", expired=True)
    known = {"servers": {"a.example": pin(a)}, "ca": str(tmp_path / "ca.pem")}
    async with named("b.example", b, policy="verified", **known) as there:
        with caplog.at_level(logging.WARNING, "bester.problems"):
            wire = await there.connect("tls", tls=presenting(tmp_path, a))
            wire.send(server_message("none"))
            assert await wire.bad("s") == "noHandler"
            await until(lambda: any("the certificate of a.example: ended on" in line for line in caplog.messages))
        wire = await there.connect("tls", tls=presenting(tmp_path, old))
        wire.send(server_message("none"))
        assert await wire.bad("") == "serverUnverified"


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("who", ["another key", "no certificate", "plain"])
async def test_a_name_that_is_not_proven(tmp_path: Path, policy: str, who: str) -> None:
    a, b, other = (self_signed(tmp_path, f"{name}.example") for name in ("a", "b", "other"))
    async with named("b.example", b, policy=policy, servers={"a.example": pin(a)}) as there:
        tls = presenting(tmp_path, other if who == "another key" else None)
        handler = await there.attach("chat")
        wire = await there.connect("unix") if who == "plain" else await there.connect("tls", tls=tls)
        wire.send(server_message("chat", server="a.example"))
        if policy == "verified":
            assert await wire.bad("") == "serverUnverified"
            await wire.closed()
            assert there.runtime.counts.refused == {"serverUnverified": 1}
        else:
            request = await handler.get()
            assert request["header"]["from"] == UNVERIFIED
            handler.answer(request, DONE)
            await wire.good("s")


@pytest.mark.parametrize("claimed", [None, "c.example", "a.example", "A.Example."])
async def test_named_by_its_certificate_whatever_it_calls_itself(tmp_path: Path, claimed: str | None) -> None:
    a, b, c = (self_signed(tmp_path, f"{name}.example") for name in "abc")
    servers = {"a.example": pin(a), "c.example": pin(c)}
    async with named("b.example", b, policy="verified", servers=servers) as there:
        handler = await there.attach("chat")
        wire = await there.connect("tls", tls=presenting(tmp_path, a))
        wire.send(server_message("chat", server=claimed))
        request = await handler.get()
        assert request["header"]["from"] == VERIFIED
        handler.answer(request, DONE)
        await wire.good("s")


@pytest.mark.parametrize(
    ("claimed", "name"),
    [(None, "a.example"), ("www.a.example", "www.a.example"), ("c.example", "a.example")],
)
async def test_several_names(tmp_path: Path, claimed: str | None, name: str) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    a, b = issued(tmp_path, authority, "a.example", "www.a.example"), self_signed(tmp_path, "b.example")
    async with named("b.example", b, policy="verified", ca=str(tmp_path / "ca.pem")) as there:
        handler = await there.attach("chat")
        wire = await there.connect("tls", tls=presenting(tmp_path, a))
        wire.send(server_message("chat", server=claimed))
        request = await handler.get()
        assert request["header"]["from"] == {"user": None, "server": name, "verified": True}
        handler.answer(request, DONE)
        await wire.good("s")


@pytest.mark.parametrize(
    ("policy", "its", "claimed", "welcome"),
    [
        ("verified", "open", "c.example", True),
        ("verified", "open", "d.example", False),
        ("verified", "open", None, False),
        ("verified", "local", "c.example", False),
        ("open", "verified", "C.EXAMPLE.", False),
        ("open", "verified", "d.example", True),
        ("open", "local", "c.example", False),
        ("local", "open", "c.example", True),
        ("local", "open", "d.example", False),
    ],
)
async def test_a_policy_for_one_server(
    policy: str, its: str, claimed: str | None, welcome: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bester.server.connections.connection.remote_of", lambda transport: FAR)
    servers = {"c.example": {"address": "192.0.2.1:1", "policy": its}}
    async with named("b.example", None, policy=policy, servers=servers) as play:
        wire = await play.connect("tcp4")
        wire.send(server_message("none", server=claimed))
        assert await wire.bad("s" if welcome else "") == ("noHandler" if welcome else "serverUnverified")
        await wire.closed()


async def test_a_verified_server_has_no_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bester.server.connections.connection.remote_of", lambda transport: FAR)
    a, b = self_signed(tmp_path, "a.example"), self_signed(tmp_path, "b.example")
    async with named("b.example", b, policy="open", rate=0.01, burst=1, servers={"a.example": pin(a)}) as there:

        async def code(papers: Papers | None) -> str:
            wire = await there.connect("tls", tls=presenting(tmp_path, papers))
            wire.send(server_message("none"))
            return await wire.bad("s")

        assert [await code(a) for _ in range(3)] == ["noHandler"] * 3
        assert [await code(None) for _ in range(2)] == ["noHandler", "throttled"]


@pytest.mark.parametrize("who", ["nobody", "a letter"])
async def test_clients_over_tls_are_not_disturbed(tmp_path: Path, who: str) -> None:
    a, b = self_signed(tmp_path, "a.example"), self_signed(tmp_path, "b.example")
    async with named("b.example", b, policy="verified", servers={"a.example": pin(a)}) as there:
        wire = await there.connect("tls", tls=presenting(tmp_path, a if who == "a letter" else None))
        wire.send(hello())
        await wire.good("auth_special")
        wire.ask("dummy", "1")
        assert (await wire.get())["header"] == {"status": "0"}


# -- sending -----------------------------------------------------------------------------------------------------------


async def test_nothing_goes_to_a_server_that_does_not_prove_its_name(tmp_path: Path) -> None:
    a, b, wanted = (self_signed(tmp_path, f"{name}.example") for name in ("a", "b", "wanted"))
    async with named("b.example", b, policy="open") as there:
        servers = {"b.example": pin(wanted, address=f"127.0.0.1:{there.port_of('tls')}")}
        async with named("a.example", a, servers=servers, retryFor=0) as here:
            payload, _ = await sent(here, there)
        assert result_of(payload) == [("b.example", "failed", "serverUnverified")]
        assert payload["error"]["message"].startswith("b.example does not prove its name")
        assert payload["error"]["temporary"] is False
        assert there.runtime.exchange.batch.counters.accepted == 0


@pytest.mark.parametrize("policy", POLICIES)
async def test_sending_to_a_name_without_a_proof(policy: str) -> None:
    async with named("b.example", None, policy="open") as there:
        servers = {"b.example": {"address": f"127.0.0.1:{there.port}"}}
        async with named("a.example", None, policy=policy, servers=servers) as here:
            payload, told = await sent(here, there)
    if policy == "verified":
        assert result_of(payload) == [("b.example", "failed", "serverUnverified")]
    else:
        assert result_of(payload) == [("b.example", "sent", None)]
        assert told == UNVERIFIED


async def test_a_refusal_reaches_the_sender(tmp_path: Path) -> None:
    a, b = self_signed(tmp_path, "a.example"), self_signed(tmp_path, "b.example")
    async with named("b.example", b, policy="verified") as there:
        servers = {"b.example": pin(b, address=f"127.0.0.1:{there.port_of('tls')}")}
        async with named("a.example", a, servers=servers) as here:
            payload, _ = await sent(here, there)
        assert result_of(payload) == [("b.example", "failed", "serverRefused")]
        assert "serverUnverified" in payload["error"]["message"]


# -- while it runs -----------------------------------------------------------------------------------------------------


async def test_certificates_are_shown(tmp_path: Path) -> None:
    """Ours, what is pinned, and what the other server presented: where it dialled, and where it was dialled."""
    a, b = self_signed(tmp_path, "a.example"), self_signed(tmp_path, "b.example")
    async with named("b.example", b, policy="verified", servers={"a.example": pin(a)}) as there:
        address = f"127.0.0.1:{there.port_of('tls')}"
        async with named("a.example", a, servers={"b.example": pin(b, "certificate", address)}) as here:
            await sent(here, there)
            for play, papers, name, other, how in (
                (here, a, "b.example", b, b.fingerprints.certificate),
                (there, b, "a.example", a, a.fingerprints.key),
            ):
                admin = await play.admin()
                own = await result(admin, "identity")
                assert own["key"] == f"sha256:{papers.fingerprints.key}"
                assert (await result(admin, "status"))["identity"] == own
                (row,) = [row for row in await result(admin, "listServers") if row["name"] == name]
                assert row["pinned"] == [f"sha256:{how}"]
                shown = row["presented"]
                assert shown["key"] == f"sha256:{other.fingerprints.key}"
                assert shown["certificate"] == f"sha256:{other.fingerprints.certificate}"
                assert shown["proven"] is True
                assert shown["expires"] > time.time()


async def test_a_wrong_certificate_is_shown(tmp_path: Path) -> None:
    b, other = self_signed(tmp_path, "b.example"), self_signed(tmp_path, "other.example")
    async with named("b.example", other) as there:
        servers = {"b.example": pin(b, address=f"127.0.0.1:{there.port_of('tls')}")}
        async with named("a.example", None, servers=servers) as here:
            await sent(here, there)
            admin = await here.admin()
            (row,) = await result(admin, "listServers")
            assert row["pinned"] == [f"sha256:{b.fingerprints.key}"]
            assert row["presented"]["key"] == f"sha256:{other.fingerprints.key}"
            assert row["presented"]["proven"] is False
            assert await result(admin, "identity") is None


@pytest.mark.parametrize("form", ["classic", "link"])
async def test_a_repeat_on_the_next_connection_is_not_handled_again(tmp_path: Path, form: str) -> None:
    a, b = self_signed(tmp_path, "a.example"), self_signed(tmp_path, "b.example")
    header: dict[str, Any] = {"once": True, "features": ["link"] if form == "link" else []}
    async with named("b.example", b, servers={"a.example": pin(a)}) as there:
        handler = await there.attach("chat")
        first, meanwhile, after, another = [await there.connect("tls", tls=presenting(tmp_path, a)) for _ in range(4)]

        async def report(wire: Any) -> Any:
            while "code" not in (payload := (await wire.get())["payload"]).get("error", {}) and "data" not in payload:
                assert form == "link"  # its welcome
            return payload.get("data") or payload["error"]["code"]

        first.send(server_message("chat", **header))
        request = await handler.get()
        meanwhile.send(server_message("chat", **header))
        await until(lambda: there.runtime.exchange.batch.counters.repeats == 1)
        handler.answer(request, {"type": "reply", "payload": {"data": "once"}})
        assert [await report(first), await report(meanwhile)] == ["once", "once"]
        after.send(server_message("chat", **header))
        assert await report(after) == "once"
        another.send(server_message("other", **header))
        assert await report(another) == "idConflict"
        if form == "classic":
            for wire in (first, meanwhile, after, another):
                await wire.closed()
        assert there.runtime.exchange.batch.counters.accepted == 1


async def test_nothing_is_remembered_of_an_unproven_server_that_has_gone(tmp_path: Path) -> None:
    async with named("b.example", self_signed(tmp_path, "b.example"), policy="open") as there:
        handler = await there.attach("chat")
        for form in ("classic", "link"):
            wire = await there.connect("unix")
            wire.send(server_message("chat", once=True, features=["link"] if form == "link" else []))
            handler.answer(await handler.get(), DONE)
            await wire.good("s")
            if form == "link":
                await wire.good("s")
                assert len(there.runtime.exchange.once) == 1
            await wire.leave()
            await until(lambda: not len(there.runtime.exchange.once))
