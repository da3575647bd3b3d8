"""What happened in a world, in words: the messages that went over its network, and what befell its machines."""

from __future__ import annotations

import json
import re
from collections import deque
from typing import Any

from bester.lab.loop import START_S
from bester.lab.process import Process
from bester.lab.sockets import LabSocket
from bester.protocol.values import decode_data

KEPT = 2000
"""How many of the newest lines are kept."""
SHOWN_CHARS = 160
MAX_FRAME_BYTES = 1 << 20
_DATA = re.compile(r"<[^>]*> > <[^>]*> ")
_PINGS = ("dummy",)


class Story:
    """Collects lines; made from the trace, which shows data by checksums only, and from the data itself."""

    def __init__(self) -> None:
        self._lines: deque[tuple[float, str | tuple[Process | None, Process | None, bytes]]] = deque(maxlen=KEPT)
        self._begun: dict[LabSocket, bytearray | None] = {}
        """By socket, the bytes of a frame that has not arrived wholly; None: what arrives cannot be read."""

    def line(self, line: str) -> None:
        """Takes a line of the trace."""
        time, _, what = line.partition(" ")
        if not _DATA.match(what):
            self._lines.append((float(time), what))

    def arrived(self, now: float, sender: LabSocket, receiver: LabSocket, data: bytes) -> None:
        """Takes data that arrived."""
        if receiver.secret:
            self._lines.append((now, (sender.process, receiver.process, b"")))
            return
        begun = self._begun.get(receiver, b"")
        if begun is None:
            return
        if begun:
            data = bytes(begun + data)
            del self._begun[receiver]
        start = 0
        while len(data) - start >= 4:
            end = start + 4 + int.from_bytes(data[start : start + 4], "little")
            if end - start > MAX_FRAME_BYTES:
                self._begun[receiver] = None
                return
            if end > len(data):
                break
            self._lines.append((now, (sender.process, receiver.process, data[start + 4 : end])))
            start = end
        if start < len(data):
            self._begun[receiver] = bytearray(data[start:])

    def told(self, count: int) -> list[str]:
        """Returns the newest lines, in words."""
        found: list[str] = []
        before = None
        for time, what in reversed(self._lines):
            if isinstance(what, str):
                text = _plain(what)
            else:
                sender, receiver, body = what
                words = _words(body)
                if words is None:
                    continue
                text = f"{_name(sender)} -> {_name(receiver)}: {words}"
            if text != before:
                found.append(f"{time - START_S:10.3f}  {text}")
            before = text
            if len(found) == count:
                break
        return found[::-1]


def _plain(what: str) -> str:
    return re.sub(r"<([^>]*)>", lambda match: match[1], what)


def _name(process: Process | None) -> str:
    return "?" if process is None else process.name


def _words(body: bytes) -> str | None:
    """Returns a frame in words; None for one that says nothing."""
    if not body:
        return "over TLS"
    try:
        frame = decode_data(body)
        header, payload = frame.get("header") or {}, frame.get("payload") or {}
        return None if payload.get("type") in _PINGS else _short(_message(header, payload))
    except (ValueError, AttributeError, TypeError):
        return _short(body.decode(errors="replace"))


def _message(header: dict[str, Any], payload: dict[str, Any]) -> str:
    kind = header.get("messageType")
    number = payload.get("id")
    if kind == "statusReport":
        error = payload.get("error") or {}
        results = [f"{one.get('to')} {one.get('status')}" for one in payload.get("results") or ()]
        return " ".join(
            str(part)
            for part in ("report on", number, header.get("status"), error.get("code"), error.get("message"), *results)
            if part
        )
    if "status" in header and kind is None:
        commands = header.get("commands") or [header[name] for name in ("command",) if header.get(name)]
        texts = [f"{one.get('type')} {_json(one['data']) if 'data' in one else ''}".strip() for one in commands]
        error = header.get("error")
        outcome = f"refuses {_json(error)}" if error else "answers " + (", ".join(texts) or "nothing")
        return f"{outcome} {_json(payload['data']) if 'data' in payload else ''}".rstrip()
    words = [str(payload.get("type", kind or "")), _json(payload["data"]) if "data" in payload else ""]
    words += [f"(id {number}{', once' if header.get('once') else ''})"] if number else []
    return " ".join(word for word in words if word)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "..."
