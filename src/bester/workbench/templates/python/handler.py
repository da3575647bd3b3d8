"""A handler of the type mytype: it answers every message with the message's own data.

It attaches to the server's handler socket, attaches again when the server was away, and on SIGTERM finishes what is
outstanding: the library does all that (docs/handlers.md).
"""

from __future__ import annotations

import os

from bester import Handler, Reply, Request

TYPE = os.environ.get("BESTER_TYPE", "mytype")

handler = Handler()


@handler.on(TYPE)
async def answer(message: Request) -> Reply:
    # message.data is the data as a Python value, message.raw its bytes as they came, message.sender who sent it.
    # What it does not take it refuses, and its sender is told why: raise Refuse("sold out", code="mytype.soldOut").
    return Reply(message.raw)


if __name__ == "__main__":
    handler.run()
