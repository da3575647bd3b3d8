"""The listener's life: as besterd opens it, and where it cannot be had."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import sys
from pathlib import Path

import aiohttp
import pytest
from rich.console import Console
from tests.waiting import PATIENCE_S
from tests.web.browsers import browsing

import bester
from bester.cli.status import tables
from bester.config import load, parse
from bester.errors import BadConfiguration
from bester.server.admin.status import look
from bester.server.server import Server
from bester.web.site import Site


async def test_besterd_serves_it(tmp_path: Path) -> None:
    (tmp_path / "server.conf").write_text(json.dumps({"network": {"web": {"port": 0}}}))
    script = "from bester.cli.besterd import main; main()"
    environment = os.environ | {"PYTHONPATH": str(Path(bester.__file__).parents[1])}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    url = ""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not (line := (await process.stdout.readline()).decode()).endswith("is ready\n"):
                assert line
                url = url or (line.split()[-1] if "listening on http://" in line else "")
            async with aiohttp.ClientSession() as http, http.get(f"{url}/readyz") as response:
                assert response.status == 200
            process.terminate()
            await process.stdout.read()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        tree = {"network": {"web": {"port": taken.getsockname()[1]}}}
        server = Server(parse(json.dumps(tree), tmp_path), web=Site)
        with pytest.raises(BadConfiguration, match=r"cannot listen on http://127\.0\.0\.1"):
            await server.start()


async def test_a_program_without_it_says_so(tmp_path: Path) -> None:
    server = Server(parse('{"network": {"web": {"port": 0}}}', tmp_path))
    with pytest.raises(BadConfiguration, match=r"network\.web"):
        await server.start()


async def test_a_change_waits_for_the_next_start(tmp_path: Path) -> None:
    file = tmp_path / "server.conf"
    file.write_text(json.dumps({"network": {"web": {"port": 0}}}))
    server = Server(await asyncio.to_thread(load, file), web=Site)
    await server.start()
    try:
        file.write_text(json.dumps({"network": {"web": {"port": 0, "metricsToken": "a-secret-of-16-characters"}}}))
        result = await server.reload()
        assert result["restartNeeded"] == ["network.web.metricsToken"]
    finally:
        await server.stop()


async def test_status_shows_problems() -> None:
    async with browsing({"storage": {"reserve": 1 << 40}}) as play:
        found = await look(play.server.admin).status()
    found |= {"rates": dict.fromkeys(("accepted", "good", "bad", "deliveries"), 0.0), "clients": []}
    shown = io.StringIO()
    Console(file=shown, width=200).print(tables(found))
    assert "problems" in shown.getvalue()
    assert "MiB are kept in reserve; nothing more is stored" in shown.getvalue()
