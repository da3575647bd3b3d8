"""Delivers English to its reader: on this server if they are connected, else to the other server that is configured."""

import os

from bester import Handler, Informer, Request, SendClients, SendServers
from bester.demo.events import send_event

handler = Handler()
informer = Informer()
elsewhere = os.environ.get("BESTER_DEMO_ELSEWHERE")


@handler.on("english")
async def deliver(message: Request) -> SendClients | SendServers:
    """Delivers to the reader if the informer says that they are connected to this server, else to the other server."""
    to, text = message.data["to"], message.data["text"]
    if elsewhere is None or await informer.is_client(to):
        send_event(message, f"sendClients {to}", text)
        return SendClients([to])
    send_event(message, f"sendServers {elsewhere}", text)
    return SendServers([elsewhere])


if __name__ == "__main__":
    handler.run()
