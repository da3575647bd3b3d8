"""Brings English to its reader: here if they are here, else to the server that is named as their other home."""

import os

from bester import Handler, Informer, Request, SendClients, SendServers
from bester.demo.telling import tell

handler = Handler()
informer = Informer()
elsewhere = os.environ.get("BESTER_DEMO_ELSEWHERE")


@handler.on("english")
async def deliver(message: Request) -> SendClients | SendServers:
    """Asks the informer whether the reader is connected to this server."""
    to, text = message.data["to"], message.data["text"]
    if elsewhere is None or await informer.is_client(to):
        tell(message, f"sendClients {to}", text)
        return SendClients([to])
    tell(message, f"sendServers {elsewhere}", text)
    return SendServers([elsewhere])


if __name__ == "__main__":
    handler.run()
