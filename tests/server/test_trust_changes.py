"""What a reload, or an operator, does to links that are open (docs/protocol.md, sections 5.3 and 8.5)."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.certificates import Papers, self_signed
from tests.server.linked import hello, linked
from tests.server.logged import as_before
from tests.server.peers import Stage, Wire, refused, result, result_of
from tests.server.peers import hello as client_hello
from tests.server.reloading import Reloading, reloading
from tests.waiting import until

from bester.config import parse
from bester.net.identity import Identities
from bester.net.selfsigned import make_certificate
from bester.web.site import Site

DONE = {"type": "done"}


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    with as_before():
        yield


def pin(papers: Papers, address: str = "192.0.2.1:1") -> dict[str, str]:
    return {"address": address, "fingerprint": papers.fingerprints.key}


def network_of(papers: Papers) -> Any:
    return {"unix": {"address": "clients"}, "tls": papers.network["tls"]}


async def linked_to(play: Stage, folder: Path, papers: Papers | None, **header: Any) -> Wire:
    """Opens a link to a server over TLS, with these papers."""
    own = {"certificate": papers.certificate, "key": papers.key} if papers is not None else {}
    federation = {"servers": {"x": {"address": "x", "tls": True}}, **own}
    config = parse(json.dumps({"network": {"tcp4": {"port": 0}}, "federation": federation}), folder)
    wire = await play.connect("tls", tls=Identities(config).dialling)
    message = hello("a.example")
    message["header"] |= header
    wire.send(message)
    await wire.good("h")
    return wire


async def sender_of(play: Reloading, wire: Wire, handler: Wire, id: str) -> Any:
    """Sends a message on a link, and returns whom the handler is told it is from."""
    wire.send(linked("chat", id))
    request = await handler.get()
    handler.answer(request, DONE)
    await wire.good(id)
    return request["header"]["from"]["server"]


async def test_a_link_whose_server_does_not_prove_its_name_any_more(tmp_path: Path) -> None:
    b, other = self_signed(tmp_path, "b.example"), self_signed(tmp_path, "other.example")
    async with reloading(network=network_of(b), federation={"policy": "open"}) as there:
        address = f"127.0.0.1:{there.port_of('tls')}"
        echo = await there.attach("chat")

        async def known(papers: Papers, **more: Any) -> Any:
            return await here.reload(federation={"servers": {"b.example": pin(papers, address) | more}})

        async with reloading(federation={"servers": {"b.example": pin(b, address)}}) as here:
            handler, wire = await here.attach("chat"), await here.login()

            async def sent(id: str) -> tuple[str, str | None]:
                wire.ask("chat", id)
                handler.answer(await handler.get(), {"type": "sendServers", "data": ["b.example"]})
                await until(lambda: here.server.federation.destinations.get("b.example") is not None)
                request = await echo.get()
                echo.answer(request, DONE)
                (found,) = result_of(await wire.report(id))
                return found[1:]

            assert await sent("1") == ("sent", None)
            destination = here.server.federation.destinations["b.example"]
            first = destination.link
            assert first is not None
            assert first.verified == "b.example"
            await known(b)  # nothing is new
            await known(b, policy="verified")
            assert await sent("2") == ("sent", None)
            assert destination.link is first
            await known(other)
            assert destination.link is None
            await until(lambda: not there.server.federation.incoming)
            wire.ask("chat", "3")
            handler.answer(await handler.get(), {"type": "sendServers", "data": ["b.example"]})
            (found,) = result_of(await wire.report("3"))
            assert found == ("b.example", "queued", None)
            assert "does not prove its name" in destination.last_error
            await known(b)  # and what waited goes
            await result(await here.connect("control"), "retryQueue", all=True)
            echo.answer(await echo.get(), DONE)
            await until(lambda: destination.link is not None and not destination.backlog.stored)
            # Elsewhere is another server, even if nobody else has the key.
            here.write(federation={"servers": {"b.example": pin(b, f"localhost:{there.port_of('tls')}")}})
            second = destination.link
            await result(await here.connect("control"), "reload")
            assert second is not None
            assert second.closed


async def test_a_server_that_connected(tmp_path: Path) -> None:
    a, b, other = (self_signed(tmp_path, f"{name}.example") for name in ("a", "b", "other"))
    network = network_of(b)

    def federation(papers: Papers, policy: str = "verified") -> Any:
        return {"network": network, "federation": {"policy": policy, "servers": {"a.example": pin(papers)}}}

    async with reloading(**federation(a)) as there:
        handler = await there.attach("chat")
        wire = await linked_to(there, tmp_path, a)
        assert await sender_of(there, wire, handler, "1") == "a.example"
        await there.reload(**federation(a))
        assert await sender_of(there, wire, handler, "2") == "a.example"
        await there.reload(**federation(other))
        assert await wire.fatal() == "serverUnverified"
        assert not there.server.federation.incoming


async def test_a_server_that_is_let_in_all_the_same(tmp_path: Path) -> None:
    """What is under way is reported; then the link ends, so that the next one is that of who it is now."""
    a, b, other = (self_signed(tmp_path, f"{name}.example") for name in ("a", "b", "other"))
    network = network_of(b)

    def federation(papers: Papers) -> Any:
        return {"network": network, "federation": {"policy": "local", "servers": {"a.example": pin(papers)}}}

    async with reloading(**federation(other)) as there:
        handler = await there.attach("chat")
        for papers, before, after in ((a, None, "a.example"), (other, "a.example", None)):
            wire = await linked_to(there, tmp_path, a)
            idle = await linked_to(there, tmp_path, a)
            assert await sender_of(there, wire, handler, "1") == before
            wire.send(linked("chat", "2"))
            request = await handler.get()
            await there.reload(**federation(papers))
            await idle.closed()
            wire.send(linked("chat", "3"))
            handler.answer(request, DONE)
            await wire.good("2")
            await wire.closed()
            again = await linked_to(there, tmp_path, a)
            assert await sender_of(there, again, handler, "3") == after


async def test_an_operator_ends_links(tmp_path: Path) -> None:
    a, b = self_signed(tmp_path, "a.example"), self_signed(tmp_path, "b.example")
    network = network_of(b)
    servers = {"a.example": pin(a)}
    async with reloading(network=network, federation={"policy": "local", "servers": servers}) as there:
        control = await there.connect("control")
        proven = await linked_to(there, tmp_path, a)
        claimed = await linked_to(there, tmp_path, None)
        other = await linked_to(there, tmp_path, None, server="c.example")
        assert await result(control, "disconnectServer", server="A.example.") == {"links": 2}
        assert await proven.fatal() == "sessionEnded"
        assert await claimed.fatal() == "sessionEnded"
        assert await result(control, "disconnectServer", server="a.example") == {"links": 0}
        assert await refused(control, "disconnectServer", server="no such name") == "badArguments"
        other.send(linked("none", "1"))
        assert await other.bad("1") == "noHandler"


async def test_an_operator_ends_a_link_to_a_server() -> None:
    async with reloading() as there:
        address = f"127.0.0.1:{there.port}"
        async with reloading(federation={"servers": {"b.example": {"address": address}}}) as here:
            handler, wire = await here.attach("chat"), await here.login()
            for to in ("b.example", address):
                wire.ask("chat", "1")
                handler.answer(await handler.get(), {"type": "sendServers", "data": [to]})
                await wire.report("1")
            assert len(there.server.federation.incoming) == 2
            assert await result(await here.connect("control"), "disconnectServer", server="b.example") == {"links": 2}
            await until(lambda: not there.server.federation.incoming)


@pytest.mark.parametrize("kinds", [("ec", "rsa"), ("rsa", "ec")], ids="->".join)
async def test_a_certificate_with_a_key_of_another_kind(tmp_path: Path, kinds: tuple[str, str]) -> None:
    """The new one is shown, by every listener, whoever asks; connections that are there stay."""
    shown: list[bytes] = []
    papers = Papers(tmp_path, "a.example")

    def make(kind: str) -> None:
        key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else None
        papers.write(*make_certificate("a.example", key)[:2])

    make(kinds[0])
    files = {"certificate": papers.certificate, "key": papers.key}
    more = {"network": {"unix": {"address": "clients"}, "tls": papers.network["tls"], "web": {"port": 0, **files}}}
    config = parse(json.dumps({"network": {"tcp4": {"port": 0}}}), tmp_path)
    async with reloading(web=Site, **more) as play:
        before = await play.connect("tls", tls=Identities(config).dialling)
        waiting = [listener.listening for listener in play.running.daemon.sockets.listeners]
        make(kinds[1])
        await play.reload(**more)
        assert [listener.listening for listener in play.running.daemon.sockets.listeners] == waiting == [True] * 3
        for kind in ("tls", "web"):
            for curves in ("ECDHE+aRSA:ECDHE+aECDSA", "ECDHE+aECDSA:ECDHE+aRSA"):
                context = Identities(config).dialling
                context.maximum_version = ssl.TLSVersion.TLSv1_2
                context.set_ciphers(curves)
                _, writer = await asyncio.open_connection("127.0.0.1", play.port_of(kind), ssl=context)
                shown.append(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
                writer.close()
        assert set(shown) == {papers.der}
        before.send(client_hello())
        await before.good("auth_special")
        Path(papers.certificate).write_text("garbage")
        assert await refused(await play.connect("control"), "reload") == "badConfiguration"


@pytest.mark.parametrize(("kind", "policy"), [("unix", "verified"), ("tcp", "open")])
async def test_a_link_to_where_nothing_is_sent_any_more(kind: str, policy: str) -> None:
    async with reloading() as there, reloading() as here:
        echo, handler, wire = await there.attach("chat"), await here.attach("chat"), await here.login()
        address = f"unix:{there.folder / 'clients'}" if kind == "unix" else f"127.0.0.1:{there.port}"

        async def sent(id: str) -> None:
            wire.ask("chat", id)
            handler.answer(await handler.get(), {"type": "sendServers", "data": [address]})

        async def done(id: str) -> Any:
            echo.answer(await echo.get(), DONE)
            return result_of(await wire.report(id))

        await sent("1")
        assert await done("1") == [(address, "sent", None)]
        link = here.server.federation.destinations[address].link
        assert link is not None
        await sent("under way")
        request = await echo.get()
        await here.reload(federation={"policy": policy})
        assert link.closed
        assert result_of(await wire.report("under way")) == [(address, "failed", "notAllowed")]
        echo.answer(request, DONE)
        await until(lambda: not there.server.federation.incoming)
        await sent("2")
        assert result_of(await wire.report("2")) == [(address, "failed", "notAllowed")]
        await here.reload()
        await sent("3")
        assert await done("3") == [(address, "sent", None)]
