"""A client that has ended its half of a TLS connection still gets its reports (docs/protocol.md, section 12.3)."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.certificates import self_signed
from tests.server.peers import hello, stage
from tests.waiting import until

from bester.protocol.framing import Framer, frame

T = TypeVar("T")


class HalfCloser:
    """A TLS client that can say ``close_notify`` and read on."""

    def __init__(self, version: ssl.TLSVersion) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = context.maximum_version = version
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)
        self._framer = Framer(1 << 20)
        self._bodies: list[bytes] = []

    async def connect(self, port: int) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        await self._done(self._tls.do_handshake)

    async def _done(self, step: Callable[[], T]) -> T | None:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._writer.write(self._outgoing.read())
                data = await self._reader.read(65536)
                if not data:
                    return None
                self._incoming.write(data)
                continue
            except ssl.SSLZeroReturnError:
                return None
            self._writer.write(self._outgoing.read())
            return result

    async def send(self, *messages: Any) -> None:
        data = b"".join(frame(json.dumps(message).encode()) for message in messages)
        await self._done(lambda: self._tls.write(data))

    async def get(self) -> Any:
        """Returns the next message; None at the end."""
        while not self._bodies:
            data = await self._done(lambda: self._tls.read(65536))
            if not data:
                return None
            self._bodies = self._framer.feed(data)
        return json.loads(self._bodies.pop(0))

    def end_input(self) -> None:
        with pytest.raises(ssl.SSLWantReadError):  # for the other half of it
            self._tls.unwrap()
        self._writer.write(self._outgoing.read())

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_reports_still_come(tmp_path: Path, version: ssl.TLSVersion, caplog: pytest.LogCaptureFixture) -> None:
    papers = self_signed(tmp_path, "j.example")
    async with stage({"network": papers.network}) as play:
        handler = await play.attach("chat")
        listener = next(one for one in play.running.daemon.sockets.listeners if one.kind == "tls")
        client = HalfCloser(version)
        await client.connect(int(listener.url.rpartition(":")[2]))
        await client.send(hello("t"))
        assert (await client.get())["payload"]["id"] == "auth_special"
        await client.send({"payload": {"type": "chat", "id": "1"}}, {"payload": {"type": "chat", "id": "2"}})
        client.end_input()
        requests = [await handler.get(), await handler.get()]
        (session,) = play.runtime.exchange.presence.sessions("t")
        await until(lambda: session.closing)  # the server knows that nothing more comes
        handler.answer(requests[1], {"type": "reply"}, data="two")
        assert (await client.get())["payload"]["data"] == "two"
        assert (await client.get())["payload"]["id"] == "2"
        handler.answer(requests[0], {"type": "done"})
        assert (await client.get())["payload"]["id"] == "1"
        assert await client.get() is None
        await client.close()
        await until(lambda: not play.runtime.exchange.presence.session_count)
    assert not [line for line in caplog.records if line.levelno >= logging.WARNING]


async def test_one_that_waits_for_nothing_is_closed(tmp_path: Path) -> None:
    papers = self_signed(tmp_path, "j.example")
    async with stage({"network": papers.network}) as play:
        listener = next(one for one in play.running.daemon.sockets.listeners if one.kind == "tls")
        client = HalfCloser(ssl.TLSVersion.TLSv1_3)
        await client.connect(int(listener.url.rpartition(":")[2]))
        await client.send(hello("t"))
        assert await client.get()
        client.end_input()
        assert await client.get() is None
        await client.close()
        await until(lambda: not play.runtime.exchange.presence.session_count)


@pytest.mark.parametrize("count", [100, 400, 1500])
async def test_much_that_comes_at_once_before_the_end_is_all_reported(tmp_path: Path, count: int) -> None:
    papers = self_signed(tmp_path, "j.example")
    async with stage({"network": papers.network}) as play:
        listener = next(one for one in play.running.daemon.sockets.listeners if one.kind == "tls")
        client = HalfCloser(ssl.TLSVersion.TLSv1_3)
        await client.connect(int(listener.url.rpartition(":")[2]))
        await client.send(hello("t"), *({"payload": {"type": "nobody", "id": str(n)}} for n in range(count)))
        client.end_input()
        told = [(await client.get())["payload"]["id"] for _ in range(count + 1)]
        assert told == ["auth_special", *map(str, range(count))]
        assert await client.get() is None
        await client.close()
        await until(lambda: not play.runtime.exchange.presence.session_count)


async def test_the_same_without_tls() -> None:
    async with stage() as play:
        wire = await play.connect("tcp4")
        wire.send(hello("t"))
        for number in range(1500):
            wire.ask("nobody", str(number))
        wire.end_input()
        told = [(await wire.get())["payload"]["id"] for _ in range(1501)]
        assert told == ["auth_special", *map(str, range(1500))]
        await wire.closed()
