"""A handler of the type mytype: it answers a text with the text, and who sent it.

It attaches to the server's handler socket, attaches again when the server was away, and on SIGTERM finishes what is
outstanding: the library does all that (docs/handlers.md).
"""

from __future__ import annotations

import os

from bester import Account, Handler, Refuse
from msgspec import Struct

TYPE = os.environ.get("BESTER_TYPE", "mytype")

handler = Handler()


class Message(Struct):
    text: str


class Answer(Struct):
    text: str
    user: str


# The annotations say what the function takes and answers, and bester handler describe mytype tells it to others. Data
# that is no Message is refused before the function is called, and so are senders that are not accounts of its server.
@handler.on(TYPE, version="1", samples=[{"text": "Hello"}])
async def answer(message: Message, sender: Account) -> Answer:
    """Answers a text with the text, and who sent it."""
    if not message.text:
        raise Refuse("there is no text", code="mytype.noText")
    return Answer(message.text, sender.user)


if __name__ == "__main__":
    handler.run()
