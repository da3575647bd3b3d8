import asyncio
import sqlite3

from bester.testing import LabClient, LabWorld, lab

from counter import make_counter
from shop import make_shop

TYPES: dict[str, object] = {"handlers": {"typeMap": {"buy": {}, "ticket": {}}}}


async def buy_five(buyer: LabClient) -> list[int]:
    pears = []
    for order in range(5):
        while not (await buyer.send("buy", id=f"order {order}", once=True)).good:
            await asyncio.sleep(1)
        pears.append((await buyer.receive()).data)
        await asyncio.sleep(1)
    return pears


@lab(seeds=5)
async def test_each_order_gets_a_pear_of_its_own(world: LabWorld) -> None:
    shop = world.server("shop.example", handlers=[make_shop], config=TYPES)
    north = world.server("north.example", handlers=[make_counter], config=TYPES)
    south = world.server("south.example", handlers=[make_counter], config=TYPES)
    await world.start()
    ann = await world.client(north, "ann", features=["ack"])
    bob = await world.client(south, "bob", features=["ack"])
    async with world.trouble():
        has_ann, has_bob = await asyncio.gather(buy_five(ann), buy_five(bob))
    book = sqlite3.connect(world.folder(shop) / "shop.db")
    sold = [pear for [pear] in book.execute("SELECT pear FROM sold ORDER BY pear")]
    assert sorted(has_ann + has_bob) == sold
