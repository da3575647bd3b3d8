"""A classic handler that echoes, on plain sockets, with the one fault that its argument names; ``none`` is right."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
import threading
import time

FAULT = sys.argv[1]
MAX_BODY = 2_000_000
kept: list[socket.socket] = []
busy = threading.Lock()


def read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := connection.recv(size - len(data))):
        data += more
        if FAULT == "one-recv":
            break
    if len(data) < size:
        if ("dies-of-half" if data else "dies-of-a-probe") == FAULT:
            os._exit(1)
        raise ValueError("not all is there")
    return data


def answer_to(connection: socket.socket) -> bytes:
    (size,) = struct.unpack("<I", read(connection, 4))
    if not 0 < size < MAX_BODY:
        raise ValueError("not a frame")
    body = read(connection, size)
    while FAULT == "waits-for-the-end" and connection.recv(4096):
        pass
    try:
        value = json.loads(body)
    except ValueError:
        if FAULT == "dies-of-garbage":
            os._exit(1)
        raise
    if FAULT == "writes-anew":
        body = json.dumps(value).encode()
    status = b'"ok"' if FAULT == "status-in-words" else b'"0"'
    answer = b'{"header":{"status":%b,"command":{"type":"reply"}},"data":%b}' % (status, body)
    return answer[:-1] if FAULT == "no-brace" else answer


def handle(connection: socket.socket) -> None:
    try:
        if FAULT == "one-at-a-time":
            if not busy.acquire(blocking=False):
                return
            time.sleep(0.05)
            busy.release()
        answer = answer_to(connection)
        frame = struct.pack("<I", len(answer)) + answer
        if FAULT == "does-not-wait":
            connection.setblocking(False)
        connection.sendall(2 * frame if FAULT == "answers-twice" else frame)
    except (OSError, ValueError):
        pass
    finally:
        if FAULT == "keeps-connections":
            kept.append(connection)
        else:
            connection.close()


if FAULT == "ignores-sigterm":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with socket.socket(socket.AF_UNIX) as listener:
    if FAULT == "does-not-listen":
        signal.pause()
    listener.bind(os.environ["BESTER_SOCKET"])
    listener.listen(128)
    while True:
        threading.Thread(target=handle, args=[listener.accept()[0]], daemon=True).start()
