"""Translates Afrikaans for a reader of English on the same server. In the classic form: the server starts it."""

import os

from bester import Handler, Request, SendClients
from bester.demo.events import send_event
from bester.demo.phrases import AFRIKAANS

handler = Handler(classic="BESTER_SOCKET" in os.environ)


@handler.on("afrikaans")
def translate(message: Request) -> SendClients:
    """Sends the English text to the client that the message is for."""
    to, text = message.data["to"], AFRIKAANS.to_english(message.data["text"])
    send_event(message, f"sendClients {to}", text)
    return SendClients([to], {"to": to, "text": text}, type="english")


if __name__ == "__main__":
    handler.run()
