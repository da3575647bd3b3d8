from pathlib import Path

from bester import Account, Handler, SendClients, SendServers
from msgspec import Struct


class Ticket(Struct):
    to: str
    pear: int


def make_counter(folder: Path) -> Handler:
    handler = Handler(folder / "besterHandlers")

    @handler.on("buy")
    def buy(buyer: Account) -> SendServers:
        return SendServers(["shop.example"], buyer.user)

    @handler.on("ticket")
    def ticket(ticket: Ticket) -> SendClients:
        return SendClients([ticket.to], ticket.pear)

    return handler


if __name__ == "__main__":
    make_counter(Path()).run()
