"""A shop: it takes orders, gives receipts, and wants to look at large orders first."""

import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from typing import Annotated

from bester import Accept, Account, Handler, Hold, Refuse, Request
from msgspec import Meta, Struct

import stock

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS stock (name TEXT PRIMARY KEY, price INTEGER, count INTEGER);
CREATE TABLE IF NOT EXISTS sold (buyer TEXT, number TEXT, item TEXT, count INTEGER, total INTEGER,
                                 PRIMARY KEY (buyer, number));
INSERT OR IGNORE INTO stock VALUES ('pear', 40, 50), ('plum', 25, 80), ('quince', 60, 0);
"""
LARGE = 20


class Order(Struct):
    number: Annotated[str, Meta(description="The buyer's own; an order that comes again is not sold again.")]
    item: str
    count: Annotated[int, Meta(ge=1, le=1000)]
    address: str


class Receipt(Struct):
    number: str
    item: str
    count: int
    total: Annotated[int, Meta(description="In cents.")]


handler = Handler(name="shop")
handler.include(stock.router)


@handler.lifespan
async def open_book() -> AsyncIterator[sqlite3.Connection]:
    with closing(sqlite3.connect(os.environ.get("SHOP_BOOK", "shop.db"), isolation_level=None)) as book:
        book.executescript(SCHEMA)
        yield book


@contextmanager
def transaction(book: sqlite3.Connection, dry_run: bool) -> Iterator[None]:
    """Keeps what the block writes; unless it fails, or in a dry run, which only wants to know the answer."""
    book.execute("BEGIN IMMEDIATE")
    kept = False
    try:
        yield
        kept = not dry_run
    finally:
        book.execute("COMMIT" if kept else "ROLLBACK")


@handler.on("order", version="1.0", samples=[Order("A-1", "pear", 2, "1 Main Street")])
def order(order: Order, buyer: Account, request: Request, book: sqlite3.Connection) -> Receipt:
    """Sells what is in stock."""
    with transaction(book, request.dry_run):
        query = "SELECT number, item, count, total FROM sold WHERE buyer = ? AND number = ?"
        if again := book.execute(query, [buyer.user, order.number]).fetchone():
            return Receipt(*again)
        found = book.execute("SELECT price, count FROM stock WHERE name = ?", [order.item]).fetchone()
        if found is None:
            raise Refuse(f"we do not sell {order.item}", code="shop.unknownItem")
        price, left = found
        if order.count > left:
            raise Refuse(f"{left} of {order.item} are left", code="shop.soldOut", temporary=True)
        receipt = Receipt(order.number, order.item, order.count, order.count * price)
        book.execute("UPDATE stock SET count = count - ? WHERE name = ?", [order.count, order.item])
        book.execute(
            "INSERT INTO sold VALUES (?, ?, ?, ?, ?)",
            [buyer.user, receipt.number, receipt.item, receipt.count, receipt.total],
        )
        return receipt


@handler.on("receipts", version="1.0")
def receipts(buyer: Account, book: sqlite3.Connection) -> list[Receipt]:
    """Lists what the sender has bought."""
    query = "SELECT number, item, count, total FROM sold WHERE buyer = ? ORDER BY number"
    return [Receipt(*row) for row in book.execute(query, [buyer.user])]


@handler.on("largeOrders")
def large_orders(order: Order) -> Accept | Hold:
    """Is the guard of orders: a large one waits until the operators consent."""
    return Hold(None) if order.count >= LARGE else Accept()
