"""The fixtures for pytest: with plain tests and coroutines, in a pytest of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bester import Handler, Reply
from bester.testing import LocalServer

PLUGIN = "bester.testing.plugin"
SHOP = """
from collections.abc import AsyncIterator
from bester import Account, Handler

class Stock:
    pears = 3

handler = Handler("nowhere/besterHandlers")

@handler.lifespan
async def stock() -> AsyncIterator[Stock]:
    yield Stock()

@handler.on("buy")
def buy(sender: Account, stock: Stock) -> str:
    stock.pears -= 1
    return f"{sender.user}, {stock.pears} left"
"""
TESTS = """
import sys
import pytest

def test_nothing_is_imported_for_a_test_that_needs_nothing() -> None:
    assert not {"msgspec", "uvloop", "bester.server", "bester.sync"} & sys.modules.keys()

@pytest.fixture
def bester_config():
    return {"limits": {"maxHops": 3}}

def test_plain(bester_server, bester_client) -> None:
    from shop import handler
    bester_server.attach(handler)
    assert bester_client.ask("buy", timeout=10).data == "t, 2 left"
    assert bester_server.client("g").ask("buy", timeout=10).data == "g, 1 left"
    assert bester_server.running.daemon.config.limits.max_hops == 3

def test_a_server_for_each_test(bester_server, bester_client) -> None:
    from shop import handler
    bester_server.attach(handler)
    assert bester_client.ask("buy", timeout=10).data == "t, 2 left"
"""
COROUTINE = """
import pytest
from bester import Client
from shop import handler

MARK
async def test_with_a_coroutine(bester_server) -> None:
    bester_server.attach(handler)
    async with Client(bester_server.url("t")) as t:
        assert (await t.ask("buy", timeout=10)).data == "t, 2 left"
"""


def run(folder: Path, *options: str) -> str:
    # By its name also where this copy of Bester was installed before it had the entry point.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", PLUGIN, "-p", "no:cacheprovider", *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_plain_tests(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "test_shop.py").write_text(TESTS)
    assert "3 passed" in run(tmp_path, "-p", "no:asyncio", "-p", "no:anyio")


@pytest.mark.parametrize("plugin", ["asyncio", "anyio"])
def test_coroutines(tmp_path: Path, plugin: str) -> None:
    if plugin == "anyio":
        pytest.importorskip("anyio")
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "test_shop.py").write_text(COROUTINE.replace("MARK", f"@pytest.mark.{plugin}"))
    if plugin == "anyio":
        (tmp_path / "conftest.py").write_text("import pytest\nanyio_backend = pytest.fixture(lambda: 'asyncio')")
    assert "1 passed" in run(tmp_path)


def test_the_entry_point() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["entry-points"]["pytest11"] == {PLUGIN: PLUGIN}


def test_without_pytest() -> None:
    handler = Handler()
    handler.on("echo")(lambda message: Reply(message.raw))
    with LocalServer() as server:
        server.attach(handler)
        assert server.client("t").ask("echo", 1, timeout=10).data == 1
    with pytest.raises(Exception, match="limits"), LocalServer({"limits": 1}):
        pass
