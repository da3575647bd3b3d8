import sqlite3
from pathlib import Path

from bester import Handler, Peer, Request, SendServers


def make_shop(folder: Path) -> Handler:
    book = sqlite3.connect(folder / "shop.db", isolation_level=None)
    book.execute("PRAGMA journal_mode = WAL")
    book.execute("CREATE TABLE IF NOT EXISTS sold (pear INTEGER PRIMARY KEY, buyer TEXT, message TEXT UNIQUE)")
    handler = Handler(folder / "besterHandlers")

    @handler.on("buy")
    def buy(buyer: str, counter: Peer, message: Request) -> SendServers:
        order = f"{counter.server} {message.id}"
        book.execute("INSERT OR IGNORE INTO sold (buyer, message) VALUES (?, ?)", [buyer, order])
        [pear] = book.execute("SELECT pear FROM sold WHERE message = ?", [order]).fetchone()
        return SendServers([counter.server], {"to": buyer, "pear": pear}, type="ticket")

    return handler


if __name__ == "__main__":
    make_shop(Path()).run()
