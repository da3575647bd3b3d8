from pathlib import Path

from bester import Handler, Request, Response, SendClients, SendServers


def make_counter(folder: Path) -> Handler:
    handler = Handler(folder / "besterHandlers")

    @handler.on("buy")
    def buy(message: Request) -> Response:
        return SendServers(["shop.example"], message.sender.user)

    @handler.on("ticket")
    def ticket(message: Request) -> Response:
        return SendClients([message.data["to"]], message.data["pear"])

    return handler


if __name__ == "__main__":
    make_counter(Path()).run()
