"""Translates Afrikaans for a reader of English on the same server. In the classic form: the server starts it."""

import os

from bester import Handler, Request, SendClients
from bester.demo.phrases import AFRIKAANS
from bester.demo.telling import tell

handler = Handler(classic="BESTER_SOCKET" in os.environ)


@handler.on("afrikaans")
def translate(message: Request) -> SendClients:
    """Gives the English to the client that the message is for."""
    to, text = message.data["to"], AFRIKAANS.to_english(message.data["text"])
    tell(message, f"sendClients {to}", text)
    return SendClients([to], {"to": to, "text": text}, type="english")


if __name__ == "__main__":
    handler.run()
