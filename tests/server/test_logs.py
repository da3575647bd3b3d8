"""The log: one line per event, whatever others made up, with ids and without payloads (docs/metrics.md)."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.server.logged import as_before
from tests.server.peers import attaching, hello, stage
from tests.waiting import PATIENCE_S, until

from bester.logsink import STDERR
from bester.server.telemetry.logs import MAX_FIELD, MAX_MESSAGE, log_loop_errors, set_up_log

HOSTILE = 'a\n2026-01-01 ERROR all is lost\r\x1b[2J\u202e\u2028\x00\udc80"\\'
TEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR|CRITICAL) +[a-z.]+: ")
SECRET, PAYLOAD = "correct horse battery", "what only g may read"


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    with as_before():
        yield


def lines(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """Returns what was logged; everything is a line that can be shown."""
    assert STDERR.flush(PATIENCE_S)
    text = capfd.readouterr().err
    assert text.endswith("\n") or not text
    found = text.split("\n")[:-1]
    assert all(line.isprintable() for line in found), found
    return found


@pytest.mark.parametrize("form", ["text", "json"])
def test_one_line_whatever_is_told(form: str, capfd: pytest.CaptureFixture[str]) -> None:
    set_up_log("debug", form)
    log = logging.getLogger("bester.test")
    log.info("handler %s", HOSTILE, extra={"handler": HOSTILE})
    log.warning("%s", "x" * 100_000, extra={"account": "y" * 100_000})
    try:
        raise ValueError(HOSTILE) from KeyError("z" * 100_000)
    except ValueError:
        log.exception("failed: %s", HOSTILE)
    logging.getLogger("asyncio").error("%s", HOSTILE)
    told = lines(capfd)
    assert len(told) == 4
    assert [len(line) < 25_000 for line in told] == [True] * 4
    assert len(told[1]) < MAX_MESSAGE + MAX_FIELD + 200
    assert "all is lost" in told[0]
    if form == "text":
        assert all(TEXT.match(line) for line in told)
        assert "Traceback" in told[2]
    else:
        first, _, failed, _ = map(json.loads, told)
        assert first["handler"].isprintable()
        assert first["message"].startswith(r"handler a\n2026")
        assert "\nValueError: a\n" in failed["exception"]
        assert failed["level"] == "error"


def test_fields_stand_behind_a_message_that_does_not_name_them(capfd: pytest.CaptureFixture[str]) -> None:
    set_up_log("info", "text")
    logging.getLogger("bester.test").info("from 192.0.2.1", extra={"address": "192.0.2.1", "handler": "two words"})
    assert lines(capfd)[0].endswith('bester.test: from 192.0.2.1 handler="two words"')


async def test_the_loop_tells_no_arguments(capfd: pytest.CaptureFixture[str]) -> None:
    set_up_log("info", "json")
    loop = asyncio.get_running_loop()
    log_loop_errors(loop)

    def fails(data: bytes) -> None:
        raise RuntimeError

    loop.call_soon(fails, b"a payload")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    (line,) = map(json.loads, lines(capfd))
    assert line["level"] == "error"
    assert line["exception"].endswith("RuntimeError")
    assert "payload" not in line["message"]


@pytest.mark.parametrize("form", ["text", "json"])
async def test_a_server_logs_no_more_than_it_should(form: str, capfd: pytest.CaptureFixture[str]) -> None:
    async with stage() as play:
        set_up_log("debug", form)
        await play.login("t")
        for message in (
            hello("t", SECRET),  # wrong
            hello(HOSTILE.replace("\udc80", ""), SECRET),
            {"header": {"scope": HOSTILE.replace("\udc80", "")}},
            {"payload": {"type": HOSTILE.replace("\udc80", ""), "id": HOSTILE.replace("\udc80", ""), "data": PAYLOAD}},
            b'{"header": {"scope": "' + PAYLOAD.encode(),
        ):
            wire = await play.connect()
            wire.send(message)
            await wire.get()
            await wire.closed()
        unnamed = await play.connect("handlers")
        unnamed.send(attaching("a\x1btype", name=HOSTILE.replace("\udc80", "")))
        await unnamed.bad("a")
        handler, sender = await play.attach("chat", name=HOSTILE.replace("\udc80", "")), await play.login("g")
        for answer in (
            {"status": "0", "command": {"type": PAYLOAD}},
            {"status": PAYLOAD},
            {"status": "0", "command": {"type": "sendClients", "data": PAYLOAD}},
        ):
            sender.ask("chat", HOSTILE.replace("\udc80", ""), PAYLOAD)
            request: Any = await handler.get()
            handler.send({"header": {"id": request["header"]["id"], **answer}, "payload": {"data": PAYLOAD}})
            await sender.bad()
        sender.send(b'{"payload": {"type": "chat", "data": "' + PAYLOAD.encode())
        assert await sender.fatal() == "malformed"
        await handler.leave()
        await until(lambda: not play.runtime.exchange.dispatcher.handlers)
    told = lines(capfd)
    assert len(told) > 8
    assert not any(SECRET in line or PAYLOAD in line for line in told), told
    if form == "json":
        events = [json.loads(line) for line in told]
        (broken,) = [event for event in events if event.get("account") == "g" and "malformed" in event["message"]]
        assert (broken["connection"], broken["address"]) == ("client", f"unix:uid {os.getuid()}")
        assert any(event.get("handler", "").startswith(r"a\n2026") for event in events)
    else:
        assert all(TEXT.match(line) for line in told)
