"""One hop on a message's way: adds itself and passes the message on, to BESTER_DEMO_NEXT ("client u2", ...)."""

import os

from bester import Handler, Request, Response, SendClients, SendHandler, SendServers
from bester.demo.events import SERVER, send_event

handler = Handler(classic="BESTER_SOCKET" in os.environ)
kind, _, to = os.environ.get("BESTER_DEMO_NEXT", "client u2").partition(" ")


@handler.on(os.environ.get("BESTER_TYPE", "M1"))
def pass_on(message: Request) -> Response:
    """Adds this hop to the way; messages to other servers have the type M1."""
    data = {**message.data, "way": [*message.data["way"], f"{os.environ.get(SERVER)} {message.type}"]}
    send_event(message, f"send{kind.title()}{'' if kind == 'handler' else 's'} {to}", " > ".join(data["way"]))
    if kind == "handler":
        return SendHandler(to, data)
    return SendServers([to], data, type="M1") if kind == "server" else SendClients([to], data)


if __name__ == "__main__":
    handler.run()
