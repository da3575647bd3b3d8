"""Reports the messages and decisions of the demo's handlers: one datagram for each, to the process that shows them."""

from __future__ import annotations

import json
import os
import socket
import time

from bester import Request

EVENTS = "BESTER_DEMO_EVENTS"
SERVER = "BESTER_DEMO_SERVER"


def send_event(message: Request, decided: str, text: str) -> None:
    """Reports a handler's decision about a message; does nothing if no process listens."""
    audience = os.environ.get(EVENTS)
    if audience is None:
        return
    event = {
        "at": time.monotonic(),
        "server": os.environ.get(SERVER, ""),
        "handler": message.type,
        "pid": os.getpid(),
        # Only attached handlers learn the sender of a message.
        "form": "attached" if message.sender.told else "classic",
        "decided": decided,
        "text": text,
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        try:
            sender.sendto(json.dumps(event).encode(), audience)
        except OSError:
            return  # the listening process has ended
