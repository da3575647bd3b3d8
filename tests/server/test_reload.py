"""Another configuration without losing a connection (docs/protocol.md, sections 5.3 and 10)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.logged import as_before
from tests.server.peers import Wire, hello, refused, result
from tests.server.reloading import Reloading, reloading
from tests.waiting import PATIENCE_S, until

from bester.config import parse
from bester.errors import BadConfiguration
from bester.logsink import STDERR
from bester.server.server import Server
from bester.server.telemetry import logs

DONE = {"header": {"status": "0", "command": {"type": "done"}}}


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """A reload sets the log up, which the other tests are not to notice."""
    with as_before():
        yield


@pytest.fixture
async def play() -> AsyncIterator[Reloading]:
    async with reloading() as made:
        yield made


def types(**entries: Any) -> Any:
    return {"handlers": {"typeMap": {name: {"unixDomainSocketPath": name, **more} for name, more in entries.items()}}}


async def asked(wire: Wire, type: str) -> str:
    """Returns how a message is reported."""
    wire.ask(type, "1")
    payload = await wire.report("1")
    return payload["error"]["code"] if "error" in payload else "good"


async def test_types(play: Reloading) -> None:
    wire = await play.login()
    listening = await play.listen("chat")
    assert await asked(wire, "chat") == "noHandler"
    assert await play.reload(**types(chat={})) == {"restartNeeded": [], "warnings": []}
    assert await result(wire, "listTypes") == ["chat"]
    wire.ask("chat", "1")
    first = await listening.accept()
    # What is under way goes on; who may send is new.
    await play.reload(**types(chat={"allow": ["g"]}))
    first.send(DONE)
    await wire.good("1")
    assert await asked(wire, "chat") == "notAllowed"
    await play.reload(**types(chat={"timeout": 0.05}))
    assert await asked(wire, "chat") == "handlerTimeout"
    await play.reload(**types(chat={}, other={}))
    other = await play.listen("other")
    wire.ask("other", "2")
    second = await other.accept()
    wire.ask("other", "3")
    await until(lambda: play.runtime.exchange.reports.under_way == 2)
    await play.reload()
    assert await wire.bad("3") == "handlerUnavailable"
    second.send(DONE)
    await wire.good("2")
    assert await asked(wire, "chat") == "noHandler"


async def test_an_attached_handler_stays(play: Reloading) -> None:
    wire, handler = await play.login(), await play.attach("chat")
    wire.ask("chat", "1")
    request = await handler.get()
    await play.reload(**types(chat={}))
    await play.reload()
    handler.answer(request, {"type": "done"})
    await wire.good("1")
    assert await result(wire, "listTypes") == ["chat"]


async def test_limits(play: Reloading) -> None:
    wire, handler = await play.login(), await play.attach("chat", concurrency=9)
    await play.reload(limits={"maxMessage": 1024, "maxInFlight": 1, "maxSessionsPerAccount": 1})
    wire.ask("chat", "1")
    wire.ask("chat", "2")
    request = await handler.get()
    (session,) = play.runtime.exchange.presence.sessions("t")
    await until(lambda: session.backlog)
    await play.reload(limits={"maxInFlight": 2, "maxMessage": 1024})
    handler.answer(request, {"type": "done"})
    await wire.good("1")
    handler.answer(await handler.get(), {"type": "done"})
    await wire.good("2")
    wire.ask("chat", "3", "x" * 1024)
    assert await wire.fatal() == "tooLarge"
    welcome = await play.connect()
    welcome.send(hello())
    assert (await welcome.good())["limits"] == {"maxMessage": 1024, "maxInFlight": 2}


async def test_registration(play: Reloading) -> None:
    wire = await play.login()
    await play.reload(accounts={"registration": "closed"})
    new = await play.connect()
    new.send(hello("new"))
    assert await new.bad("auth_special") == "authenticationFailed"
    await play.reload(accounts={"registration": "firstUse"})
    await play.login("new")
    assert await asked(wire, "x") == "noHandler"


async def test_federation(play: Reloading) -> None:
    wire, handler = await play.login(), await play.attach("chat")
    there = await play.listen("there")
    await play.reload(federation={"policy": "verified", "servers": {"there.example": {"address": "unix:there"}}})
    server = await play.connect()
    server.send({"header": {"scope": "server"}, "payload": {"type": "chat"}})
    assert await server.bad("") == "serverUnverified"
    wire.ask("chat", "1")
    handler.answer(await handler.get(), {"type": "sendServers", "data": ["there.example"]})
    asked_for_a_link = await there.accept()
    await asked_for_a_link.get()
    await asked_for_a_link.leave()  # no link: the classic form
    (await there.accept()).send({"header": {"status": "good"}})
    assert (await wire.good("1"))["results"] == [{"to": "there.example", "status": "sent"}]
    assert [one["name"] for one in await result(await play.connect("control"), "listServers")] == ["there.example"]


async def test_an_address_that_is_allowed_now_is_sent_to_at_once(play: Reloading) -> None:
    await play.reload(federation={"policy": "verified"})
    wire, handler = await play.login(), await play.attach("chat")
    there = await play.listen("there")

    async def outcome() -> str:
        wire.ask("chat", "1")
        handler.answer(await handler.get(), {"type": "sendServers", "data": ["unix:there"]})
        [one] = (await wire.report("1"))["results"]
        return str(one.get("error", one).get("code", one["status"]))

    async def taking() -> None:
        question = await there.accept()
        await question.get()
        await question.leave()
        (await there.accept()).send({"header": {"status": "good"}})

    assert [await outcome() for _ in range(3)] == ["notAllowed"] * 3
    await play.reload(federation={"policy": "verified", "servers": {"near.example": {"address": "unix:there"}}})
    allowed, _ = await asyncio.gather(outcome(), taking())
    assert allowed == "sent"


async def test_what_handlers_may(play: Reloading) -> None:
    wire, handler = await play.login(), await play.attach("chat")

    async def answered() -> str:
        wire.ask("chat", "1")
        handler.answer(await handler.get(), {"type": "sendHandler", "data": "nobody's"})
        return await wire.bad("1")

    assert await answered() == "noHandler"
    await play.reload(handlers={"may": ["reply"]})
    assert await answered() == "notAllowed"
    await play.reload(handlers={"may": ["reply"], "typeMap": {"chat": {"may": ["sendHandler"]}}})
    assert await answered() == "noHandler"
    await play.reload(handlers={"may": ["reply"], "typeMap": {"chat": {}}})
    assert await answered() == "notAllowed"
    await play.reload()
    assert await answered() == "noHandler"


async def test_log(play: Reloading, capfd: pytest.CaptureFixture[str]) -> None:
    await play.reload(log={"level": "debug", "format": "json"})
    assert logs.root.level == logging.DEBUG
    assert STDERR.flush(PATIENCE_S)
    line = json.loads(capfd.readouterr().err.splitlines()[-1])
    assert line["message"] == "the configuration has been reloaded"
    await play.reload(log={"level": "error"})
    assert logs.root.level == logging.ERROR


async def test_what_needs_a_restart(play: Reloading) -> None:
    wire = await play.login(where="tcp4")
    answer = await play.reload(
        server={"name": "other.example"},
        network={"unix": {"address": "elsewhere"}},
        informer={"address": "elsewhereToo"},
        limits={"maxHops": 3},
    )
    assert set(answer["restartNeeded"]) == {"server.name", "network.unix.address", "network.tcp4", "informer.address"}
    assert play.runtime.exchange.batch.limits.max_hops == 3
    assert play.running.daemon.config.server.name == "test.example"
    assert await asked(wire, "x") == "noHandler"
    await play.login("g", "tcp4")
    await play.connect("informer")


async def test_warnings(play: Reloading) -> None:
    (line,) = (await play.reload(limits={"maxHop": 3}))["warnings"]
    assert "limits.maxHop" in line


@pytest.mark.parametrize(
    "text", ["{", '{"network": {}}', '{"limits": {"maxHops": "x"}, "log": {"level": "debug"}}', None], ids=str
)
async def test_a_bad_configuration_changes_nothing(play: Reloading, text: str | None) -> None:
    await play.reload(**types(chat={}), limits={"maxHops": 3})
    before = play.runtime.config
    wire = await play.login()
    if text is None:
        (play.folder / "server.conf").unlink()
    else:
        (play.folder / "server.conf").write_text(text, encoding="utf-8")
    assert await refused(await play.connect("control"), "reload") == "badConfiguration"
    assert play.runtime.config is before
    assert play.runtime.exchange.batch.limits.max_hops == 3
    assert await result(wire, "listTypes") == ["chat"]
    await play.running.daemon.try_reload()  # as for a signal: it goes to the log
    assert play.runtime.config is before


async def test_without_a_file(tmp_path: Path) -> None:
    server = Server(parse('{"network": {"unix": {"address": "clients"}}}', tmp_path))
    await server.start()
    try:
        with pytest.raises(BadConfiguration):
            await server.reload()
        await server.try_reload()
    finally:
        await server.stop()
