"""Feeds random and mutated frames to everything that decodes: accepted, or refused with a documented code.

Run ``python fuzz/fuzz_protocol.py --seconds 10 --seed 1``. It prints the seed and what came of the bodies; on anything
that is neither accepted nor refused as documented it prints the body, and ends with status 1.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bester.errors import BesterError, all_kinds
from bester.protocol import frames, link
from bester.protocol.addresses import parse_address
from bester.protocol.answers import check_status, commands_of
from bester.protocol.client import ClientConversation
from bester.protocol.framing import PREFIX, Framer, frame
from bester.protocol.handler import HandlerConversation
from bester.protocol.informer import decode_query
from bester.protocol.messages import (
    HandlerMessage,
    Message,
    Payload,
    attach_data,
    decode_attach,
    decode_classic,
    decode_first,
    decode_handler_message,
    decode_message,
    decode_note_or_message,
    decode_scope,
)
from bester.protocol.names import server_name, type_name, username
from bester.protocol.plain import read_handler_message, read_message, whole_answer, whole_message
from bester.protocol.values import BadNumber, decode_data, encode_data

MAX_SIZE = 1 << 16
SEEDS = [
    rb'{"header":{"scope":"client","features":["token"],"mail":["chat"],"authentication":{"username":"t","password":"p"}},'
    rb'"payload":{"type":"dummy","id":"1","data":null}}',
    rb'{"header":{"scope":"server","hops":3,"server":"k.example"},"payload":{"type":"chat","data":[1e400,"\ud800"]}}',
    rb'{"header":{"messageType":"more"},"payload":{"id":"7","parts":16}}',
    rb'{"payload":{"type":"chat","id":"7","data":{"a":"\ud83d\ude00","a":-0.5E+7}}}',
    rb'{"header":{"id":"1","status":"0","commands":[{"type":"sendClients","data":["g"],"transient":true,'
    rb'"payload":{"type":"x","data":"\uDC00"}},{"type":"sendServers","data":["[::1]:5","unix:/a"]}]},"data":1}',
    rb'{"header":{"id":"1","status":0,"command":{"type":"sendHandler","data":"x"}},"payload":{"type":"y","data":{}}}',
    rb'{"header":{"messageType":"push","id":"h","command":{"type":"reply"}}}',
    rb'{"header":{"scope":"handler"},"payload":{"type":"attach","id":"a","data":{"types":["b"],"concurrency":3}}}',
    rb'{"header":{},"payload":{"type":"detach","id":"a2"}}',
    rb'{"header":{"messageType":"request","id":"1","scope":"client","from":{"user":"t","server":"j","verified":true},'
    rb'"hops":0},"payload":{"type":"chat","id":"","data":"\ud800"}}',
    rb'{"header":{"messageType":"statusReport","status":"bad"},"payload":{"id":"1","error":{"code":"internal",'
    rb'"message":"m","temporary":true},"results":[{"to":"g","status":"delivered"}]}}',
    rb'{"header":{"x":"ack","messageType":"ack"},"payload":{"type":5,"type":"t","ids":["1"],"data":[[],"\ud800\ud83d\ude00"]}}',
    rb'{"header":{"dryRun":true,"traceparent":"x","route":true,"hops":1},"payload":{"type":"t","id":"1","data":"\udc00"}}',
    rb'{"command":{"type":"isClient","data":"g"}}',
]
PARTS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}:,]|[^"\[\]{}:,]+', re.DOTALL)
SPICE = [
    *b'"\\[]{}:,\0\xff\x80 \n',
    b"null",
    b"NaN",
    b"1e999",
    b"-0",
    b"9" * 40,
    rb"\ud800",
    rb"\uDfff",
    rb"\ue8ab",
    b"[" * 140,
    b"]" * 140,
    b'{"a":' * 70,
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    "é€😀\u202e".encode(),
    b'"data":',
    b'"type":5,',
    b'"header":[],',
    rb"\\",
    rb"\\\ud83d",
    b"[],[{}]," * 60,
    b"9" * 5000,
    b"1e9999999999999999999",
    b'"ack"',
]


def mutate(chance: random.Random, body: bytes) -> bytes:
    """Changes a body in a few places, as bytes or as JSON's parts."""
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3, 8))):
        spice = chance.choice(SPICE)
        new = bytes([spice]) if isinstance(spice, int) else spice
        if chance.random() < 0.5:
            parts = PARTS.findall(body) or [b""]
            place = chance.randrange(len(parts))
            parts[place : place + chance.randint(0, 2)] = [
                chance.choice((b"", new, chance.choice(parts), parts[place]))
            ]
            body = b"".join(parts)
        else:
            start = chance.randint(0, len(body))
            new = chance.choice((b"", new, bytes([chance.randrange(256)]), body[start : start + chance.randint(0, 40)]))
            body = body[:start] + new + body[start + chance.randint(0, 3) :]
    return body[:MAX_SIZE]


def client_message(body: bytes) -> None:
    carried(decode_message(body).payload)


def plain_message(body: bytes) -> None:
    """A plain message is the same message as elsewhere."""
    message = read_message(body)
    assert (whole_message(message) if isinstance(message, tuple) else message) == decode_message(body)


def noted(body: bytes) -> None:
    """What a session with notes sends is the same message as elsewhere, or a note."""
    found = decode_note_or_message(body, ("ack", "parts"))
    if isinstance(found, Message) and b'"messageType"' in body:
        payload = decode_message(body).payload
        assert (found.payload.type, found.payload.id) == (payload.type, payload.id)
        assert bytes(found.payload.data) == bytes(payload.data)
        with contextlib.suppress(BadNumber, RecursionError):
            assert decode_data(encode_data(decode_data(payload.data))) == decode_data(payload.data)


def linked(body: bytes) -> None:
    """A link's message; and a dry run is one whatever its traceparent is."""
    header = link.decode_message(body).header
    assert not header.traceparent or link.is_traceparent(header.traceparent)
    assert header.dry_run == decode_message(body).header.dry_run


def first_message(body: bytes) -> None:
    message = decode_first(body)
    decode_scope(body)
    if message.payload is not None:
        carried(message.payload)


def carried(payload: Payload) -> None:
    """What was accepted can be passed on, with its data untouched."""
    origin = frames.origin_part("client", "t", "j.example", True)
    request = frames.request(
        "1", origin, 0, frames.type_part(payload.type), frames.encode_text(payload.id), payload.data
    )
    assert request.endswith(b',"data":' + bytes(payload.data) + b"}}")
    HandlerConversation().receive(request[4:])
    decode_first(frames.to_server(payload.type, payload.id, payload.data, 1)[4:])
    ClientConversation().receive(frames.received(frames.received_head(payload.type), payload.data)[4:])
    for check in (username, server_name, type_name, parse_address):
        try:
            check(payload.type)
        except BesterError as error:
            documented(error)


def handler_message(body: bytes) -> None:
    executed(decode_handler_message(body))


def plain_answer(body: bytes) -> None:
    """A plain answer is the same answer as elsewhere, but that its data are in one place."""
    answer = read_handler_message(body)
    if isinstance(answer, tuple):
        whole, other = whole_answer(answer), decode_handler_message(body)
        assert isinstance(other, HandlerMessage)
        assert (whole.header.id, whole.header.status, whole.header.command) == (answer[0], "0", other.header.command)
        executed(whole)
    else:
        assert answer == decode_handler_message(body)


def classic_answer(body: bytes) -> None:
    executed(decode_classic(body))


def executed(message: HandlerMessage | str) -> None:
    if isinstance(message, HandlerMessage):
        check_status(message.header)
        for command in commands_of(message):
            if command.type == "sendServers" and isinstance(command.data, list):
                for address in command.data:
                    parse_address(address)


def client_end(body: bytes) -> None:
    ClientConversation().receive(body)


def handler_end(body: bytes) -> None:
    HandlerConversation().receive(body)


def attach(body: bytes) -> None:
    attach_data(decode_attach(body).payload)


def informer(body: bytes) -> None:
    decode_query(body)


TARGETS: list[Callable[[bytes], None]] = [
    client_message,
    plain_message,
    noted,
    linked,
    first_message,
    handler_message,
    plain_answer,
    classic_answer,
    client_end,
    handler_end,
    attach,
    informer,
]
CODES = all_kinds()
DOCUMENT = (Path(__file__).resolve().parents[1] / "docs" / "protocol.md").read_text(encoding="utf-8")


def documented(error: BesterError) -> str:
    """Checks that a refusal can be told to a peer, and returns its code."""
    assert error.code in CODES, error.code
    assert f"\n| `{error.code}` |" in DOCUMENT, error.code
    Framer(MAX_SIZE).feed(frames.report(b'""', error) + frames.fatal(error))
    return error.code


def stream(chance: random.Random, bodies: list[bytes]) -> list[bytes]:
    """Sends bodies through a framer, cut anywhere, sometimes with a wrong length; returns what comes out."""
    sent = b"".join(map(frame, bodies))
    if chance.random() < 0.2:
        at = chance.randint(0, len(sent))
        sent = sent[:at] + PREFIX.pack(chance.choice((0, 1, MAX_SIZE, MAX_SIZE + 1, 2**32 - 1))) + sent[at:]
    whole, split = Framer(MAX_SIZE), Framer(MAX_SIZE)
    expected = whole.feed(sent)
    found = []
    while sent:
        cut = chance.randint(1, 200)
        found += split.feed(sent[:cut])
        sent = sent[cut:]
    assert found == expected
    assert type(split.failure) is type(whole.failure)
    if split.failure is not None:
        documented(split.failure)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Feeds random and mutated frames to the decoders.")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    print(f"seed {seed}", flush=True)
    chance = random.Random(seed)
    outcomes: Counter[str] = Counter()
    deadline = time.monotonic() + options.seconds
    while time.monotonic() < deadline:
        bodies = [
            mutate(chance, chance.choice(SEEDS)) if chance.random() < 0.95 else chance.randbytes(chance.randint(0, 80))
            for _ in range(4)
        ]
        for body in stream(chance, [body for body in bodies if body]):
            for target in TARGETS:
                try:
                    target(body)
                    outcomes["accepted"] += 1
                except BesterError as error:
                    outcomes[documented(error)] += 1
                except Exception as error:
                    print(f"{target.__name__} on {body!r}: {type(error).__name__}: {error}", file=sys.stderr)
                    return 1
    for outcome, count in outcomes.most_common():
        print(f"{count:>9} {outcome}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
