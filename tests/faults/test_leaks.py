"""Whoever comes and goes, and however: no descriptor, task or session stays behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.server.peers import Stage, Wire, attaching, descriptors, hello, stage, to
from tests.waiting import PATIENCE_S, until

from bester.core.endpoint import Endpoint
from bester.server.connections.connection import Connection
from bester.testing import PASSWORD

TIMES = 1000
AT_ONCE = 50

Visit = Callable[[Wire], Awaitable[None]]


def collections(play: Stage) -> dict[str, int]:
    """Returns how much there is in everything that a connection can leave something in."""
    runtime, server = play.runtime, play.server
    exchange = runtime.exchange
    return {
        "connections": len(server.connections.all),
        "incomplete": len(server.connections.incomplete),
        "lingering": len(server.connections.lingering),
        "unattached": len(server.connections.unattached),
        "gate": len(server.limits) + len(server.limits._per_address),
        "watchers": len(runtime.presence_watchers),
        "tasks": len(runtime._tasks),
        "calls": len(server.classic.open),
        "waiting for servers": sum(not one.idle for one in server.federation.destinations.values()),
        "sessions": exchange.presence.session_count + len(server.accounts._sessions) + len(server.accounts._tokens),
        "handlers": len(exchange.dispatcher.handlers),
        "attached types": sum(bool(kind.attached) for kind in exchange.dispatcher.types.values()),
        "lanes": sum(len(kind.queues) + len(kind.ready) + kind.active for kind in exchange.dispatcher.types.values()),
        "under way": exchange.reports.under_way,
        "dirty": len(exchange.batch.dirty) + len(exchange.batch.effects),
    }


def kept() -> int:
    """How many connections and endpoints are in memory, whether something has them or only each other."""
    gc.collect()
    return sum(issubclass(type(one), Connection | Endpoint) for one in gc.get_objects())


async def left(play: Stage, before: dict[str, int], files: int, tasks: int) -> None:
    """Waits until there is no more of anything than before."""
    await nothing_left(play, before, tasks)
    await until(descriptors, lambda now: now <= files)


async def nothing_left(play: Stage, before: dict[str, int], tasks: int) -> None:
    """Waits until the server holds no more than before."""
    await until(lambda: collections(play), lambda now: all(count <= before[name] for name, count in now.items()))
    await until(lambda: len(asyncio.all_tasks()), lambda now: now <= tasks)


async def warm_up(play: Stage) -> None:
    """Lets the server open the files that it opens when they are first needed, and keeps; then it is at rest."""
    connections, objects = len(play.server.connections.all), kept()
    wire = await play.login("first")
    wire.ask("nothing", "1")
    await wire.bad("1")
    await wire.leave()
    await until(lambda: not play.runtime.exchange.presence.sessions("first"))
    play.server.receipts.flush()
    await play.server.receipts.store.find()
    await until(lambda: len(play.runtime._tasks) == 2)  # those that last: reminders, and giving up
    await until(lambda: len(play.server.connections.all) <= connections)
    await until(kept, lambda now: now <= objects)


async def visit_often(play: Stage, where: str, visit: Visit, times: int = TIMES) -> None:
    """Lets many connect, do something and vanish."""
    await warm_up(play)
    before, files, tasks = collections(play), descriptors(), len(asyncio.all_tasks())
    seen, objects = play.runtime.counts.connections, kept()

    async def once(number: int) -> None:
        config = play.running.daemon.config
        if where.startswith("t"):
            pair = await asyncio.open_connection("127.0.0.1", play.port_of(where))
        elif where == "unix":
            pair = await asyncio.open_unix_connection(play.folder / "clients")
        else:
            pair = await asyncio.open_unix_connection(getattr(config, where).address)
        wire = Wire(*pair)
        await visit(wire)
        if number % 2:
            wire.reset()
        else:
            wire.writer.close()

    for _ in range(times // AT_ONCE):
        await asyncio.gather(*map(once, range(AT_ONCE)))
    if where in ("tcp4", "unix"):
        await until(lambda: play.runtime.counts.connections == seen + times)
    await left(play, before, files, tasks)
    await until(kept, lambda now: now <= objects)


def sending(data: bytes) -> Visit:
    async def visit(wire: Wire) -> None:
        wire.writer.write(data)

    return visit


async def says_nothing(wire: Wire) -> None:
    pass


@pytest.mark.parametrize("where", ["tcp4", "unix"])
async def test_connecting_and_vanishing(where: str) -> None:
    async with stage() as play:
        await visit_often(play, where, says_nothing)


@pytest.mark.parametrize("data", [b"\5", b"\5\0\0\0{", b"\0\0\0\0more", b"\2\0\0\0{}", b"\2\0\0\0[]" * 100], ids=repr)
async def test_vanishing_after_bad_input(data: bytes) -> None:
    async with stage() as play:
        await visit_often(play, "tcp4", sending(data), 200)


async def test_vanishing_while_the_password_is_checked() -> None:
    async with stage() as play:
        await play.server.accounts.add("t", PASSWORD)

        async def visit(wire: Wire) -> None:
            wire.send(hello(payload={"type": "none"}), {"payload": {"type": "none"}})

        await visit_often(play, "tcp4", visit, 50)


async def test_vanishing_with_messages_under_way() -> None:
    types = {"handlers": {"typeMap": {"classic": {"unixDomainSocketPath": "classic", "timeout": 0.05}}}}
    async with stage(types) as play:
        await play.server.accounts.add("t", PASSWORD)
        await play.listen("classic")

        async def visit(wire: Wire) -> None:
            wire.send(hello(features=["token"]))
            await wire.good()
            for type in ("classic", "none", "builtin"):
                wire.ask(type)

        await warm_up(play)
        before, tasks = collections(play), len(asyncio.all_tasks())
        wires = [Wire(*await asyncio.open_connection("127.0.0.1", play.port)) for _ in range(20)]
        await asyncio.gather(*map(visit, wires))
        for wire in wires:
            wire.reset()
        await nothing_left(play, before, tasks)


async def test_vanishing_with_a_message_of_its_own_that_is_not_acknowledged() -> None:
    async with stage() as play:
        handler = await play.attach("chat")
        await play.server.accounts.add("t", PASSWORD)

        async def answer() -> None:
            while True:
                handler.answer(await handler.get(), to("t"))

        async def visit(wire: Wire) -> None:
            wire.send(hello(features=["ack"]), {"payload": {"type": "chat", "id": "1"}})
            while (await wire.get())["payload"].get("id") != "1":  # others' messages, too
                pass

        answering = asyncio.create_task(answer())
        await visit_often(play, "tcp4", visit, 100)
        answering.cancel()


@pytest.mark.parametrize("data", [None, {"header": {"scope": "server"}}], ids=["dummy", "nothing"])
async def test_servers_that_vanish(data: Any) -> None:
    message = data or {"header": {"scope": "server"}, "payload": {"type": "none", "id": "1"}}
    async with stage() as play:

        async def visit(wire: Wire) -> None:
            wire.send(message)

        await visit_often(play, "tcp4", visit, 500)


async def test_handlers_that_vanish() -> None:
    async with stage() as play:

        async def attaches(wire: Wire) -> None:
            wire.send(attaching("chat", f"own{id(wire)}"))
            await wire.good()

        await visit_often(play, "handlers", says_nothing)
        await visit_often(play, "handlers", attaches, 500)
        assert not play.runtime.exchange.dispatcher.types


async def test_handlers_that_vanish_with_requests() -> None:
    async with stage() as play:
        wire = await play.login()

        async def is_asked(handler: Wire) -> None:
            handler.send(attaching("chat"))
            await handler.good()
            wire.ask("chat")
            await handler.get()

        await warm_up(play)
        before, files, tasks = collections(play), descriptors(), len(asyncio.all_tasks())
        for number in range(100):
            handler = Wire(*await asyncio.open_unix_connection(play.running.handlers_path))
            await is_asked(handler)
            handler.reset() if number % 2 else handler.writer.close()
            assert await wire.bad() == "handlerUnavailable"
        await left(play, before, files, tasks)


@pytest.mark.parametrize("where", ["informer", "control"])
async def test_local_sockets(where: str) -> None:
    watch = b'\x24\0\0\0{"command":{"type": "watchClients"}}'
    list_accounts = b'{"payload":{"type":"builtin","data":{"command":{"type":"listAccounts"}}}}'
    data = watch if where == "informer" else len(list_accounts).to_bytes(4, "little") + list_accounts
    async with stage() as play:
        await visit_often(play, where, says_nothing, 200)
        await visit_often(play, where, sending(data * 3), 500)


async def test_half_open_tls(tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    both = str(tmp_path / "both.pem")
    tls = {"port": 0, "address": "127.0.0.1", "certificate": both, "key": both}
    network = {"types": ["unix", "tcp4", "tls"], "tls": tls}
    async with stage({"network": network, "limits": {"authenticationTimeout": 0.3}}) as play:
        await visit_often(play, "tls", says_nothing, 500)
        await visit_often(play, "tls", sending(b"\x16\x03\x01\x02\0\x01"), 200)
        await visit_often(play, "tls", sending(b"not TLS at all"), 200)
        # Those that stay and say nothing are ended as well.
        await warm_up(play)
        before, files, tasks = collections(play), descriptors(), len(asyncio.all_tasks())
        wires = [Wire(*await asyncio.open_connection("127.0.0.1", play.port_of("tls"))) for _ in range(20)]
        for wire in wires:
            async with asyncio.timeout(PATIENCE_S):
                assert await wire.reader.read() == b""
            await wire.leave()
        await left(play, before, files, tasks)


async def test_other_servers_that_vanish() -> None:
    async with stage({"federation": {"reportTimeout": 0.1, "retryMin": 0.01, "retryMax": 0.01}}) as play:
        handler, wire = await play.attach("chat"), await play.login()
        other = await play.listen("other")

        async def vanish() -> None:
            while True:
                (await other.accept()).reset()
                (await other.accept()).writer.close()

        await warm_up(play)
        vanishing = asyncio.create_task(vanish())
        before, tasks = collections(play), len(asyncio.all_tasks())
        for _ in range(100):
            wire.ask("chat", data="x" * 1000)
            command = {"type": "sendServers", "data": ["unix:other", "unix:nobody"], "transient": True}
            handler.answer(await handler.get(), command, to("nobody"))
            await wire.bad()
        await nothing_left(play, before, tasks)
        vanishing.cancel()
