import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from bester import Accept, Hold, Refuse, Reply
from bester.sync import Client
from bester.testing import LocalServer, call

import shop
from shop import Order, Receipt
from stock import Item

BESTER = str(Path(sys.executable).with_name("bester"))
SCHEMA = str(Path(__file__).with_name("schema.yaml"))


@pytest.fixture
def book() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as book:
        book.executescript(shop.SCHEMA)
        yield book


def test_an_order_that_comes_again_is_not_sold_again(book: sqlite3.Connection) -> None:
    for _ in range(2):
        commands = call(shop.handler, "order", Order("1", "pear", 50, "here"), given={sqlite3.Connection: book})
        assert commands == [Reply(Receipt("1", "pear", 50, 2000))]
    with pytest.raises(Refuse, match="0 of pear are left"):
        call(shop.handler, "order", Order("2", "pear", 1, "here"), given={sqlite3.Connection: book})


def test_large_orders_are_held() -> None:
    assert call(shop.handler, "largeOrders", Order("1", "pear", 19, "here")) == [Accept()]
    assert call(shop.handler, "largeOrders", Order("2", "pear", 20, "here")) == [Hold(None)]


def test_on_a_server(bester_server: LocalServer, bester_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_BOOK", ":memory:")
    bester_server.attach(shop.handler)
    assert bester_client.send("stock.add", Item("fig", 30, 9)).good
    assert [part.data["name"] for part in bester_client.stream("stock.offers", 40)] == ["plum", "fig", "pear"]
    config = str(bester_server.running.config_path)
    subprocess.run([BESTER, "schema", "check", SCHEMA, "--config", config], check=True)
