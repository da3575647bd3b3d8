"""How the demo's handlers tell what they got and what they decided: one datagram each, to whoever shows it."""

from __future__ import annotations

import json
import os
import socket
import time

from bester import Request

EVENTS = "BESTER_DEMO_EVENTS"
SERVER = "BESTER_DEMO_SERVER"


def tell(message: Request, decided: str, text: str) -> None:
    """Tells what a handler decided about a message; without an audience it does nothing."""
    audience = os.environ.get(EVENTS)
    if audience is None:
        return
    event = {
        "at": time.monotonic(),
        "server": os.environ.get(SERVER, ""),
        "handler": message.type,
        "pid": os.getpid(),
        # Only an attached handler is told who asks.
        "form": "attached" if message.sender.told else "classic",
        "decided": decided,
        "text": text,
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        try:
            sender.sendto(json.dumps(event).encode(), audience)
        except OSError:
            return  # nobody watches any more
