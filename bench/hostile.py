"""Frames that are as hard to decode as anyone knows how to write them, in the size that a server takes.

Each is valid JSON, or nearly so, and aims at one step of the decoder: the look at its depth, at escapes, at repeated
keys. The client's are those of a session that acknowledges; the word ``ack`` in them asks for the longest way.
"""

from __future__ import annotations

from contextlib import suppress

from bester.errors import BesterError
from bester.protocol.messages import decode_first, decode_handler_message, decode_note_or_message

CLIENT = b'{"header":{"x":"ack"},"payload":{"type":"t","id":"1","data":%b}}'
OTHER = b'{"header":{"x":"ack"},"payload":{"type":"t","id":"1","x":%b}}'
REPEATED = b'{"header":{"x":"ack"},"payload":{"type":5,"type":"t","data":%b}}'
FIRST = b'{"header":{"scope":"server"},"payload":{"type":"t","id":"1","data":%b}}'
ANSWER = b'{"header":{"id":"1","status":"0","command":{"type":"reply"}},"payload":{"data":%b}}'
NO_ANSWER = b'{"header":{"id":"1","status":"0","command":{"type":"reply"}},"data":%b,"payload":5}'
COMMANDS = b'{"header":{"id":"1","status":"0","commands":%b},"payload":{"data":"\\ud800"}}'
RECIPIENTS = b'{"header":{"id":"1","status":"0","command":{"type":"sendClients","data":%b}},"data":"\\ud800"}'


def _many(unit: bytes, size: int, before: bytes = b"[", after: bytes = b"]") -> bytes:
    """Returns a list of as many units as fit into a size in bytes."""
    return before + b",".join([unit] * (size // (len(unit) + 1))) + after


def data(size: int) -> dict[str, bytes]:
    """Returns hard values for ``data``, of about so many bytes each, by name."""
    return {
        "lists": _many(b"[]", size),
        "objects": _many(b"{}", size),
        "nests": _many(b"[" * 100 + b"]" * 100, size),
        "caterpillars": _many(b"[[],[[],[[],[[],[]]]]]", size),
        "strings": _many(b'""', size, b"[[],", b"]"),
        "brackets in strings": _many(b'"["', size, b"[" + b"[]," * 130),
        "backslashes": b"[" + b"[]," * 130 + b'"' + b"\\\\" * (size // 2) + b'"]',
        "quotes": b"[" + b"[]," * 130 + b'"' + b'\\"' * (size // 2) + b'"]',
        "escapes": b'"' + rb"\u0041" * (size // 6) + rb'\ud800"',
        "pairs": b'"' + rb"\ud83d\ude00" * (size // 12) + rb'\ud800"',
        "lone surrogates": b'"' + rb"\ud800" * (size // 6) + b'"',
        "lists and lone surrogates": _many(b"[]", size // 2)[:-1] + ',"é'.encode() + rb"\ud800" * (size // 12) + b'"]',
        "two bytes": b'"' + "é".encode() * (size // 2) + rb'\ud800"',
        "digits": b"9" * size,
        "equal keys": _many(b'"a":1', size, b"{", b"}"),
        "keys": b"{" + b",".join([b'"%08x":1' % number for number in range(size // 13)]) + b"}",
    }


def frames(size: int = 1024 * 1024 - 1024) -> dict[str, bytes]:
    """Returns the bodies of frames of about so many bytes each, by name; the first word says who sends it."""
    found: dict[str, bytes] = {}
    for name, value in data(size).items():
        found[f"client {name}"] = CLIENT % value
        found[f"client {name}, elsewhere"] = OTHER % value
        found[f"client {name}, after a repeated key"] = REPEATED % value
        found[f"first {name}"] = FIRST % value
        found[f"handler {name}"] = ANSWER % value
        found[f"handler {name}, of no answer"] = NO_ANSWER % value
    found["client types"] = b'{"header":{"x":"ack"},"payload":' + _many(b'"type":5', size, b"{", b',"type":"t"}}')
    found["client payloads"] = _many(b'"payload":5', size, b'{"header":{"x":"ack"},', b',"payload":{"type":"t"}}')
    found["client headers"] = _many(b'"header":{"once":5}', size, b"{", b',"payload":{"type":"ack"}}')
    for name, command in {
        "empty": b"{}",
        "of empty payloads": b'{"payload":{}}',
        "without payloads": b'{"type":"done","payload":null}',
        "of wrong payloads": b'{"payload":1}',
        "good": b'{"type":"done"}',
        "of repeated keys": b'{"type":1,"type":"reply","payload":{"type":1,"type":"t","data":"\\ud800"}}',
    }.items():
        found[f"handler commands, {name}"] = COMMANDS % _many(command, size)
    found["handler recipients"] = RECIPIENTS % _many(b'"g"', size)
    return found


_DECODE = {
    "client": lambda body: decode_note_or_message(body, ("ack", "parts")),
    "first": decode_first,
    "handler": decode_handler_message,
}


def decode(name: str, body: bytes) -> None:
    """Decodes a frame as its receiver does; it may be refused."""
    with suppress(BesterError):
        _DECODE[name.partition(" ")[0]](body)
