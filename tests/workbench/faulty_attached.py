"""An attached handler that echoes, on plain sockets, with the one fault that its argument names; ``none`` is right."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from typing import Any

FAULT = sys.argv[1]
PREFIX = ">I" if FAULT == "big-endian" else "<I"
MAX_BODY = 2_000_000
MEMBERS = {"messageType", "id", "scope", "from", "hops", "traceparent", "dryRun"}
signalled, signal_now = os.pipe()
handled: list[str] = []
last: list[Any] = []


def stop(number: int, frame: object) -> None:
    if FAULT == "ends-at-once":
        os._exit(0)
    if FAULT != "ignores-sigterm":
        os.write(signal_now, b"x")


def send(connection: socket.socket, message: object) -> None:
    text = json.dumps(message, ensure_ascii=False)
    try:
        body = text.encode("ascii", "replace") if FAULT == "ascii-only" else text.encode()
    except UnicodeEncodeError:
        body = json.dumps(message).encode()
    size = len(text) if FAULT == "counts-characters" else len(body)
    connection.sendall(struct.pack(PREFIX, size) + body)


def answer(connection: socket.socket, header: dict[str, Any], payload: dict[str, Any]) -> None:
    told: dict[str, Any] = {"id": header["id"], "status": "0", "command": {"type": "reply"}}
    whole = {"header": told, "payload": {"data": payload.get("data")}}
    match FAULT:
        case "no-status":
            del told["status"]
        case "no-command":
            del told["command"]
        case "error-in-words":
            told |= {"status": "1", "error": "no"}
        case "error-with-a-code-of-its-own":
            told |= {"status": "1", "error": {"code": "sold out"}}
        case "unknown-command":
            told["command"] = {"type": "broadcast"}
        case "recipient-no-list":
            told["command"] = {"type": "sendClients", "data": "g"}
        case "senders-id":
            told["id"] = payload["id"]
        case "id-as-number":
            told["id"] = int(header["id"])
        case "knows-all-members" if not header.keys() <= MEMBERS:
            raise SystemExit("an unknown member")
        case "remembers-ids" if header["id"] in handled:
            return
        case "wants-a-user" if not header["from"]["user"].strip():
            return
        case "no-dry-runs" if header.get("dryRun"):
            return
        case "wants-data" if not payload["data"]:
            return
        case "truncates" if isinstance(payload["data"], str):
            whole["payload"] = {"data": payload["data"][:65536]}
    handled.append(header["id"])
    last[:] = [whole]
    send(connection, whole)
    if FAULT == "answers-twice":
        send(connection, whole)


def bodies_of(data: bytes) -> tuple[list[bytes], bytes]:
    """Cuts what was read into bodies, and returns the rest."""
    bodies: list[bytes] = []
    if FAULT == "one-read-is-one-frame":
        return [data[4:]], b""
    while len(data) >= 4:
        (size,) = struct.unpack_from(PREFIX, data)
        if FAULT == "makes-room-first":
            bytearray(size)
        if (FAULT == "zero-is-the-end" and size == 0) or (FAULT == "small-buffer" and size > 65536):
            raise SystemExit("not the size that was hoped for")
        if not 0 < size < MAX_BODY:
            raise ValueError("not a frame")
        if len(data) < 4 + size:
            break
        bodies.append(data[4 : 4 + size])
        data = b"" if FAULT == "one-frame-per-read" else data[4 + size :]
    return bodies, data


def serve(connection: socket.socket) -> bool:
    """Serves one connection; true if it ended in order."""
    attach: dict[str, Any] = {"types": [os.environ["BESTER_TYPE"]], "concurrency": 32}
    hello = {"header": {"scope": "handler", "features": ["dryRun"] if FAULT == "no-dry-runs" else []}}
    send(connection, hello | {"payload": {"type": "attach", "id": "a", "data": attach}})
    rest = b""
    stopping = detached = False
    requests: list[dict[str, Any]] = []
    watched: list[Any] = [connection, signalled]
    while True:
        # Those that swap and those that drop wait a little for more.
        ready, _, _ = select.select(watched, [], [], 0.03 if requests else None)
        if signalled in ready:
            os.read(signalled, 1)
            stopping = True
            send(connection, {"header": {}, "payload": {"type": "detach", "id": "d"}})
        if connection in ready:
            data = connection.recv(65536)
            if not data:
                return stopping
            bodies, rest = bodies_of(rest + data)
            for body in bodies:
                if FAULT == "recurses" and body.count(b"[") > 100:
                    raise RecursionError
                message = json.loads(body)
                kind = message["header"].get("messageType")
                if kind == "request":
                    requests.append(message)
                elif message["payload"].get("id") == "d":
                    detached = True
                elif kind == "statusReport" and FAULT == "answers-elsewhere" and last:
                    send(connection, last[0])
        if FAULT in ("swaps", "drops-when-full") and ready:
            continue
        if FAULT == "swaps" and len(requests) > 1:
            requests[0]["header"], requests[1]["header"] = requests[1]["header"], requests[0]["header"]
        for request in requests[:8] if FAULT == "drops-when-full" else requests:
            if not (FAULT == "forgets-the-late" and stopping):
                answer(connection, request["header"], request["payload"])
        requests = []
        if detached:
            return True


if FAULT == "makes-room-first":
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
signal.signal(signal.SIGTERM, stop)
while True:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.environ["BESTER_HANDLERS"])
            if serve(connection) or FAULT == "gives-up":
                break
        except (OSError, ValueError):
            if FAULT == "dies-of-garbage":
                raise
    if FAULT == "stays-away":
        signal.pause()
    if select.select([signalled], [], [], 0.05)[0]:
        break
