"""Other servers over TLS that end a connection in order, or die (docs/protocol.md, sections 8.2 and 8.6)."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.certificates import self_signed
from tests.server.linked import QUICK, Sender, grant
from tests.server.peers import Listening, result_of, stage

from bester.tls import server_context

NAME = "other.example"


@asynccontextmanager
async def proven(tmp_path: Path) -> AsyncIterator[tuple[Sender, Listening]]:
    """Runs a server, which knows the key of another one; yields one who sends there, and what the other listens on."""
    papers = self_signed(tmp_path, NAME)
    other = Listening()
    await other.open(tls=server_context(papers.certificate, papers.key))
    entry = {"address": f"127.0.0.1:{other.port}", "fingerprint": papers.fingerprints.key}
    try:
        async with stage({"federation": {**QUICK, "servers": {NAME: entry}}}) as play:
            yield await Sender.on(play), other
    finally:
        await other.close()


def die(writer: asyncio.StreamWriter) -> None:
    """Ends a connection as a process does that is killed: without a word of TLS."""
    with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as connected:
        connected.shutdown(socket.SHUT_RDWR)


async def test_one_that_dies_before_its_answer_is_not_taken_for_classic(tmp_path: Path) -> None:
    async with proven(tmp_path) as (sender, other):
        await sender.send(1, to=NAME)
        there = await other.accept()
        await there.get()
        die(there.writer)
        assert await sender.outcomes(1) == [("1", "queued")]
        there = await grant(other)
        assert (await there.get())["payload"]["data"] == 1


@pytest.mark.parametrize("dies", [False, True])
async def test_one_that_ends_without_a_report(tmp_path: Path, dies: bool) -> None:
    async with proven(tmp_path) as (sender, other):
        await sender.send(1, to=NAME)
        there = await other.accept()
        await there.get()
        await there.leave()  # it grants no link
        there = await other.accept()
        await there.get()
        if dies:
            die(there.writer)
        else:
            await there.leave()
        outcome = ("failed", "serverUnreachable") if dies else ("sent", None)
        assert result_of(await sender.wire.report("1")) == [(NAME, *outcome)]
