"""NATS's client protocol: bytes to commands, and messages to bytes; does no I/O.

A command is one of the named tuples here; :class:`Parser` takes what arrives, however it is cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

MAX_CONTROL_LINE = 4096
_END = b"\r\n"


class Message(NamedTuple):
    """A message as NATS carries it."""

    subject: str
    reply: str
    """Empty if no answer is wanted."""
    headers: bytes
    """The block from ``NATS/1.0`` to the empty line; empty if there are none."""
    data: bytes


class Subscribe(NamedTuple):
    """SUB."""

    subject: str
    queue: str
    sid: str


class Unsubscribe(NamedTuple):
    """UNSUB."""

    sid: str
    after: int
    """After how many messages, counted from the SUB; 0: at once."""


class Connect(NamedTuple):
    """CONNECT."""

    options: dict[str, Any]


class Ping(NamedTuple):
    """PING."""


class Pong(NamedTuple):
    """PONG."""


Command = Message | Subscribe | Unsubscribe | Connect | Ping | Pong
_PING, _PONG = Ping(), Pong()


class WireError(Exception):
    """The client broke the protocol; the text is what a real server says before it closes, which may be nothing."""


class Parser:
    """Splits the bytes of one connection into commands.

    Args:
        max_payload: the most bytes of headers and data that a message may have.
    """

    def __init__(self, max_payload: int) -> None:
        self._max_payload = max_payload
        self._rest = bytearray()
        """The beginning of a command."""
        self._needed = 0
        """How many bytes that command has at least."""

    def feed(self, data: bytes) -> Iterator[Command]:
        """Yields the commands that are complete now.

        Raises:
            WireError: the connection must be closed; the commands before were yielded.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
            self._rest = bytearray()
        self._needed = 0
        at = 0
        while (end := data.find(_END, at)) >= 0:
            name, _, rest = data[at:end].partition(b" ")
            name = name.upper()
            if name in (b"PUB", b"HPUB"):
                subject, reply, header_size, size = self._head(name, rest)
                begin = end + 2
                past = begin + size
                if len(data) < past + 2:
                    self._needed = past + 2 - at
                    break
                if data[past : past + 2] != _END:
                    raise WireError("Unknown Protocol Operation")
                headers = data[begin : begin + header_size]
                yield Message(subject, reply, headers, data[begin + header_size : past])
                at = past + 2
                continue
            yield self._small(name, rest)
            at = end + 2
        else:
            if len(data) - at > MAX_CONTROL_LINE:
                raise WireError("maximum control line exceeded")
        self._rest += data[at:]

    def _head(self, name: bytes, rest: bytes) -> tuple[str, str, int, int]:
        """Returns a message's subject, reply subject, size of headers, and size of both."""
        words = rest.decode(errors="replace").split()
        numbers = 2 if name == b"HPUB" else 1
        if len(words) not in (1 + numbers, 2 + numbers) or not all(one.isdigit() for one in words[-numbers:]):
            raise WireError("")
        size = int(words[-1])
        header_size = int(words[-2]) if numbers == 2 else 0
        if size > self._max_payload:
            raise WireError("Maximum Payload Violation")
        if header_size > size:
            raise WireError("")
        return words[0], words[1] if len(words) == 2 + numbers else "", header_size, size

    @staticmethod
    def _small(name: bytes, rest: bytes) -> Command:
        words = rest.decode(errors="replace").split()
        if name == b"SUB" and len(words) in (2, 3):
            return Subscribe(words[0], words[1] if len(words) == 3 else "", words[-1])
        if name == b"UNSUB" and len(words) in (1, 2):
            return Unsubscribe(words[0], int(words[1]) if len(words) == 2 and words[1].isdigit() else 0)
        if name == b"PING":
            return _PING
        if name == b"PONG":
            return _PONG
        if name == b"CONNECT":
            try:
                return Connect(msgspec.json.decode(rest, type=dict[str, Any]))
            except msgspec.DecodeError as error:
                raise WireError("Invalid Client Protocol") from error
        raise WireError("Unknown Protocol Operation")


def encoded_message(sid: str, message: Message) -> bytes:
    """Returns a MSG, or an HMSG where there are headers."""
    subject, reply, headers, data = message
    reply = f"{reply} " if reply else ""
    if headers:
        size = len(headers)
        head = f"HMSG {subject} {sid} {reply}{size} {size + len(data)}\r\n".encode()
        return b"".join((head, headers, data, _END))
    return b"".join((f"MSG {subject} {sid} {reply}{len(data)}\r\n".encode(), data, _END))


def encoded_error(text: str) -> bytes:
    """Returns an -ERR."""
    return f"-ERR '{text}'\r\n".encode()


def encoded_info(fields: dict[str, Any]) -> bytes:
    """Returns an INFO."""
    return b"INFO " + msgspec.json.encode(fields) + b" \r\n"


def status(text: str, **fields: str | int) -> bytes:
    """Returns the headers of a message with a status, with ``Nats-`` before the names of their fields."""
    lines = "".join(f"Nats-{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"NATS/1.0 {text}\r\n{lines}\r\n".encode()


def header_fields(block: bytes) -> dict[str, str]:
    """Returns a message's headers by name; the first counts where a name is repeated."""
    found: dict[str, str] = {}
    for line in block.decode(errors="replace").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name, value.strip())
    return found


def with_headers(block: bytes, lines: str) -> bytes:
    """Returns a block of headers with lines added to its end."""
    return (block[:-2] if block else b"NATS/1.0\r\n") + lines.encode() + _END
