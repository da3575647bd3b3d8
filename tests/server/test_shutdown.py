"""The server's end (docs/protocol.md, sections 5.3 and 12.6)."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.server.peers import Stage, Wire, classic, hello, result, stage
from tests.waiting import PATIENCE_S, until

DONE = {"type": "done"}


@asynccontextmanager
async def stopping(play: Stage) -> AsyncIterator[asyncio.Task[None]]:
    """Asks for the server's end, and waits for it."""
    await result(await play.connect("control"), "drain")
    await play.running.daemon.wait()
    task = asyncio.create_task(play.running.daemon.stop())
    await until(lambda: play.runtime.exchange.admission.draining)
    yield task
    async with asyncio.timeout(PATIENCE_S):
        await task


async def test_what_is_under_way_is_finished_and_the_rest_refused() -> None:
    async with stage(classic()) as play:
        listening = await play.listen("classic")
        handler, wire, idle = await play.attach("chat"), await play.login(), await play.login("g")
        out = await play.connect()
        wire.ask("chat", "1")
        wire.ask("classic", "2")
        attached, old = await handler.get(), await listening.accept()
        async with stopping(play) as task:
            with pytest.raises(OSError, match=r".*"):
                await play.connect("tcp4")
            wire.ask("chat", "3")
            assert await wire.bad("3") == "shuttingDown"
            wire.ask("dummy", "p")
            assert (await wire.get())["payload"]["id"] == "p"
            assert await result(wire, "listTypes") == ["chat", "classic"]
            out.send(hello())
            assert await out.bad("auth_special") == "shuttingDown"
            assert not task.done()
            # A chain goes on to its end.
            handler.answer(attached, {"type": "sendHandler", "data": "chat"})
            old.send({"header": {"status": "0", "command": {"type": "sendClients", "data": ["g"]}}})
            assert (await idle.get())["payload"]["type"] == "classic"
            await wire.good("2")
            handler.answer(await handler.get(), DONE)
            await wire.good("1")
            for one in (wire, idle, handler):
                assert await one.fatal() == "shuttingDown"
                await one.leave()


async def test_it_does_not_wait_for_ever() -> None:
    async with stage(classic() | {"limits": {"drainTimeout": 0.2}}) as play:
        listening = await play.listen("classic")
        handler, wire = await play.attach("chat"), await play.login()
        informer = await play.connect("informer")
        wire.ask("chat", "1")
        wire.ask("classic", "2")
        await handler.get()
        await listening.accept()
        began = time.monotonic()
        async with stopping(play):
            for one in (handler, informer):
                assert await one.fatal() == "shuttingDown"
            while (message := await wire.get())["header"]["messageType"] == "statusReport":
                pass
            assert message["payload"]["error"]["code"] == "shuttingDown"
        assert time.monotonic() - began < 5


async def test_clients_that_do_not_leave_are_cut_off() -> None:
    async with stage() as play:
        wires = [await play.login(f"t{i}", "tcp4") for i in range(5)]
        async with stopping(play):
            pass
        assert not play.server.connections.all
        for wire in wires:
            assert await wire.fatal() == "shuttingDown"


async def test_nothing_is_left() -> None:
    async with stage() as play:
        await play.login()
        async with stopping(play):
            pass
        assert not [path for path in play.folder.iterdir() if path.is_socket()]
        assert not play.runtime._tasks
        assert asyncio.all_tasks() == {asyncio.current_task()}


# -- the process -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals(number: signal.Signals) -> None:
    with tempfile.TemporaryDirectory(prefix="bester-") as name:
        folder = Path(name)
        text = '{"network": {"unix": {"address": "s"}}, "accounts": {"registration": "firstUse"}}'
        (folder / "server.conf").write_text(text, encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).parent / "besterd",
            cwd=folder,
            env={key: value for key, value in os.environ.items() if not key.startswith("BESTER_")},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not (await process.stdout.readline()).endswith(b"is ready\n"):
                    pass
                wire = Wire(*await asyncio.open_unix_connection(folder / "s"))
                wire.send(hello())
                await wire.good("auth_special")
                process.send_signal(number)
                assert await wire.fatal() == "shuttingDown"
                await wire.leave()
                assert (await process.stdout.read()).endswith(b"besterd: stopping\nbesterd: stopped\n")
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert not [path for path in folder.iterdir() if path.is_socket()]
        with socket.socket(socket.AF_UNIX) as probe:
            assert probe.connect_ex(str(folder / "s")) != 0
