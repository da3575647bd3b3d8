"""Files that change while a gadget runs."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.certificates import Papers

from bester.net.selfsigned import make_certificate
from bester_gadgets import running
from bester_gadgets.fresh import Fresh, fresh_server, fresh_verifying


def replaced(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


def test_what_changes_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "number"
    file.write_text("1")
    made: list[str] = []

    def make() -> int:
        made.append(file.read_text())
        return int(made[-1])

    fresh = Fresh(make, file)
    assert [fresh.get(), fresh.get()] == [1, 1]
    assert made == ["1"]
    replaced(file, "2")
    assert [fresh.get(), fresh.get()] == [2, 2]
    replaced(file, "x")
    assert [fresh.get(), fresh.get()] == [2, 2]
    assert made == ["1", "2", "x"]
    assert "what is there now cannot be used" in caplog.text
    file.unlink()
    assert fresh.get() == 2
    replaced(file, "3")
    assert fresh.get() == 3


def test_what_cannot_be_used_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fresh_verifying(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        fresh_server(tmp_path / "none", tmp_path / "none")


@pytest.mark.parametrize("kinds", [("ec", "rsa"), ("rsa", "ec")], ids="->".join)
@pytest.mark.parametrize("name", [None, "a.example"])
async def test_a_listener_shows_the_certificate_that_is_there(
    tmp_path: Path, kinds: tuple[str, str], name: str | None
) -> None:
    papers = Papers(tmp_path, "a.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    server = None
    for kind in kinds:
        key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else None
        papers.write(*make_certificate("a.example", key)[:2])
        if server is None:
            listening = fresh_server(papers.certificate, papers.key)
            server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=listening)
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name or "127.0.0.1")
        assert writer.get_extra_info("ssl_object").getpeercert(binary_form=True) == papers.der
        writer.close()
    assert server is not None
    server.close()


async def test_a_signal_for_a_reload_ends_no_gadget() -> None:
    async def beside() -> None:
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    await asyncio.wait_for(running.serve([], beside()), 20)
