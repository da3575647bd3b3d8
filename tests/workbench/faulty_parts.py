"""An attached handler that counts, in parts and described, with the one fault that its argument names."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
import time
from typing import Any

FAULT = sys.argv[1]
TYPE = os.environ["BESTER_TYPE"]
NUMBER = {"type": "integer"}
DESCRIPTION: dict[str, Any] = {
    "description": "Counts.",
    "request": {"type": "object", "required": ["to"], "properties": {"to": NUMBER}},
    "answer": NUMBER,
    "parts": NUMBER,
    "samples": [{"to": 5}],
}
MAX_BODY = 2_000_000
streams: dict[str, list[int]] = {}
"""By the ids of the requests: what is still to be sent, and how many parts are granted."""


def send(message: object) -> None:
    body = json.dumps(message).encode()
    connection.sendall(struct.pack("<I", len(body)) + body)


def answer(id: str, *numbers: int, more: bool = False) -> None:
    told: Any = "one" if ("parts-in-words" if more else "replies-in-words") == FAULT else None
    commands = [{"type": "reply", "payload": {"data": told or number}} for number in numbers]
    send({"header": {"id": id, "status": "0", "commands": commands} | ({"more": True} if more else {})})


def fail(id: str, message: str) -> None:
    send({"header": {"id": id, "status": "1", "error": {"message": message}}})


def go_on(id: str) -> None:
    stream = streams[id]
    while stream[0] and (stream[1] or FAULT == "counts-no-credit"):
        answer(id, stream[0], more=True)
        stream[0] -= 1
        stream[1] -= 1
    if not stream[0] and FAULT != "sends-no-last":
        del streams[id]
        answer(id)


def request(header: dict[str, Any], data: Any) -> None:
    id = header["id"]
    if FAULT == "trusts-the-schema":
        data = {"to": data["to"] + 0}
    if not isinstance(data, dict) or not isinstance(data.get("to"), int) or not 0 <= data["to"] <= 1000:
        fail(id, "to must be a number")
    elif FAULT == "refuses-its-sample":
        fail(id, "no")
    elif "parts" in header:
        streams[id] = [data["to"], header["parts"]]
        go_on(id)
    elif FAULT == "parts-for-all":
        answer(id, 1, more=True)
        answer(id)
    else:
        answer(id, *range(data["to"]))


def note(kind: str, id: str, parts: int) -> None:
    if f"answers-{kind}" == FAULT:
        answer(id)
    elif FAULT == "knows-its-requests":
        streams[id][0] += 0
    elif kind == "cancel" and streams.pop(id, []) and FAULT != "drops-cancelled":
        fail(id, "cancelled")
        if FAULT == "answers-cancelled-twice":
            answer(id)
    elif kind == "more" and id in streams and FAULT != "ignores-more":
        streams[id][1] += parts
        go_on(id)


def read(size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError
        data += more
    return data


def serve() -> None:
    match FAULT:
        case "no-schema":
            DESCRIPTION["answer"] = {"type": "whole"}
        case "many-samples":
            DESCRIPTION["samples"] *= 17
        case "wrong-sample":
            DESCRIPTION["samples"].append({"to": "five"})
    data = {"types": [TYPE], "describe": {TYPE: DESCRIPTION}}
    send(
        {
            "header": {"scope": "handler", "features": ["parts", "cancel"]},
            "payload": {"type": "attach", "id": "a", "data": data},
        }
    )
    while True:
        (size,) = struct.unpack("<I", read(4))
        if not 0 < size < MAX_BODY:
            return
        try:
            message = json.loads(read(size))
        except ValueError:
            return
        header = message["header"]
        kind = header.get("messageType")
        if kind == "request":
            request(header, message["payload"]["data"])
        elif kind in ("more", "cancel"):
            note(kind, header["id"], header.get("parts", 0))
        elif message["payload"].get("id") == "d":
            raise SystemExit


signal.signal(signal.SIGTERM, lambda *_: send({"header": {}, "payload": {"type": "detach", "id": "d"}}))
while True:
    streams.clear()
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.environ["BESTER_HANDLERS"])
            serve()
        except OSError:
            time.sleep(0.05)
