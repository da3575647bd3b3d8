"""Where handlers attach: over TLS, and over standard input and output (docs/protocol.md, sections 6.10 and 6.11)."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from tests.certificates import Papers, issued, self_signed
from tests.server.test_remote_handlers import Remote, remote
from tests.server.test_stdio_handlers import ask, serving
from tests.waiting import until

from bester import Handler, Refused, Reply, Request
from bester.handler.address import Address, find_address


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    return self_signed(tmp_path, "localhost")


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bester-") as name:
        yield Path(name).resolve()


async def token(far: Remote) -> str:
    await far.account()
    return (await far.play.server.accounts.give_token("billing", 1))[1]


def echoing(address: str) -> Handler:
    handler = Handler(address, retry_first_s=0.01)

    @handler.on("invoice")
    def echo(message: Request) -> Reply:
        return Reply(message.data)

    return handler


@pytest.mark.parametrize("how", ["cafile", "fingerprint", "key"])
async def test_a_handler_attaches_over_tls_and_again(
    papers: Papers, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with remote(papers) as far:
        secret = await token(far)
        prints = papers.fingerprints
        option = {
            "cafile": f"cafile={papers.certificate}",
            "fingerprint": f"fingerprint=sha256:{prints.certificate}",
            "key": f"fingerprint={prints.key}",
        }
        async with echoing(f"tls://billing:{secret}@localhost:{far.port}?{option[how]}") as handler:
            client = await far.play.login()
            client.ask("invoice", "1", 5)
            assert (await client.get())["payload"]["data"] == 5
            await client.good("1")
            far.play.runtime.exchange.dispatcher.handlers[0].writer.abort()
            await until(lambda: "trying again" in caplog.text)
            await handler.wait_attached(10)
        assert f"tls://billing@localhost:{far.port}" in caplog.text
        assert secret not in caplog.text


async def test_a_wrong_token_ends_the_handler(papers: Papers) -> None:
    async with remote(papers) as far:
        await far.account()
        handler = echoing(f"tls://billing:wrong@localhost:{far.port}?cafile={papers.certificate}")
        with pytest.raises(Refused, match="wrong or expired token"):
            await handler.start(10)


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("", "name its authority"),
        ("?fingerprint=" + "0" * 64, "the server has another certificate, sha256:"),
        ("?cafile=/nowhere", "No such file"),
    ],
)
async def test_a_server_that_is_not_trusted(
    papers: Papers, option: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with remote(papers) as far:
        handler = echoing(f"tls://billing:secret@localhost:{far.port}{option}")
        with pytest.raises(TimeoutError):
            await handler.start(0.5)
        await handler.stop()
        assert why in caplog.text
        assert not far.play.runtime.exchange.dispatcher.handlers


async def test_a_handler_with_a_certificate(papers: Papers, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    own = issued(tmp_path, authority, "shop.example")
    async with remote(papers, clientAuthority=str(tmp_path / "authority.pem")) as far:
        url = f"tls://localhost:{far.port}?cafile={papers.certificate}&certificate={own.certificate}&key={own.key}"
        async with echoing(url):
            assert far.play.runtime.exchange.dispatcher.handlers[0].name == "invoice (shop.example)"


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_address("tls://a%40b:t%3A@[::1]:1?cafile=x") == Address(
        host="::1", port=1, username="a@b", token="t:", cafile="x"
    )
    assert str(find_address("tls://a:secret@h")) == "tls://a@h:2227"
    assert "secret" not in repr(find_address("tls://a:secret@h"))
    assert str(find_address(Path("/run/h"))) == "/run/h"
    monkeypatch.setenv("BESTER_STDIO", "lines")
    assert find_address(None).stdio == "lines"
    assert find_address("x").stdio == ""
    monkeypatch.delenv("BESTER_STDIO")
    monkeypatch.setenv("BESTER_HANDLERS", "tls://h:5")
    assert find_address(None).port == 5


@pytest.mark.parametrize(
    "url",
    [
        "tls://",
        "tls://user@h",
        "tls://:token@h",
        "tls://h:0",
        "tls://h:x",
        "tls://h/path",
        "tls://u:secret@h?insecure=1",
        "tls://u:secret@h?fingerprint=5",
        "tls://u:secret@h?certificate=x",
        "tls://u:secret#@h",
        "tls://u:secret[@h",
    ],
)
def test_addresses_that_are_wrong(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|fingerprint") as refusal:
        find_address(url)
    assert "secret" not in str(refusal.value)


PROGRAM = """
from bester import Handler, Reply
handler = Handler()
@handler.on()
async def work(message):
    print("a line that is no answer", flush=True)
    if message.data == "crash":
        os._exit(1)
    return Reply([message.data])
handler.run()
"""


@pytest.mark.parametrize("form", ["lines", "frames"])
async def test_a_handler_over_standard_input_and_output(
    folder: Path, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serving(folder, PROGRAM, stdio=form, concurrency=8) as (server, wire):
        assert await ask(wire, {"a": 1}) == [{"a": 1}]
        [attached] = server.runtime.exchange.dispatcher.types["work"].attached
        assert attached.dry_types == {"work"}
        wire.ask("work", "2", "crash")
        assert await wire.bad("2") == "handlerUnavailable"
        await until(lambda: bool(server.runtime.exchange.dispatcher.types["work"].attached))
        assert await ask(wire, 5) == [5]
        await asyncio.sleep(0)
    assert "a line that is no answer" in caplog.text
    assert "Traceback" not in caplog.text


async def test_where_no_server_listens_it_says_what_to_do(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    handler = echoing(str(folder / "handlers"))
    with pytest.raises(TimeoutError):
        await handler.start(0.1)
    await handler.stop()
    assert "no server listens there; start it, or name its handler socket in BESTER_HANDLERS" in caplog.text
