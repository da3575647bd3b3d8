"""The stock: what there is, what it costs, and offers of it."""

import sqlite3
from collections.abc import AsyncIterator
from typing import Annotated

from bester import Router
from msgspec import Meta, Struct

router = Router("stock.")


class Item(Struct):
    name: str
    price: Annotated[int, Meta(ge=0, description="In cents.")]
    count: Annotated[int, Meta(ge=0)]


@router.on("add", version="1.0", samples=[Item("quince", 60, 5)])
def add(item: Item, book: sqlite3.Connection) -> None:
    """Takes more of an item into stock, at a new price."""
    book.execute(
        "INSERT INTO stock VALUES (?, ?, ?) "
        "ON CONFLICT (name) DO UPDATE SET price = excluded.price, count = count + excluded.count",
        [item.name, item.price, item.count],
    )


@router.on("offers", version="1.0", samples=[100])
async def offers(limit: int, book: sqlite3.Connection) -> AsyncIterator[Item]:
    """Offers what costs no more than the limit, item by item, the cheapest first."""
    name, price = "", -1
    query = "SELECT * FROM stock WHERE count > 0 AND price <= ? AND (price, name) > (?, ?) ORDER BY price, name"
    while row := book.execute(query, [limit, price, name]).fetchone():
        name, price, count = row
        yield Item(name, price, count)
