"""Feeds mutated messages and answers to the scanner of plain ones, under the compiler's sanitizers.

Run ``python -m fuzz.fuzz_scanner --count 300000 --seed 1`` where there is a C compiler with AddressSanitizer. It builds
``_scan.c``, and runs again with each bytes object in a block of its own, so that no read beyond one goes unnoticed.
What the scanner returns has to be what the whole decoders say. It prints the first body of which that is not true, or
the sanitizer's report, and ends with a status other than 0.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from fuzz.fuzz_protocol import mutate
from msgspec import DecodeError
from msgspec.json import Decoder

from bester.errors import Malformed
from bester.protocol import plain
from bester.protocol.frames import encode_text
from bester.protocol.messages import (
    NO_HEADER,
    NOTHING,
    NULL,
    BadAnswer,
    HandlerMessage,
    Message,
    OutgoingPayload,
    decode_handler_message,
)
from bester.protocol.strictjson import EXTRA_DEPTH, MAX_DEPTH, decode

SOURCE = Path(plain.__file__).with_name("_scan.c")
SANITIZERS = "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1"
MESSAGE_LEVELS = MAX_DEPTH
ANSWER_LEVELS = MAX_DEPTH + EXTRA_DEPTH
_message = Decoder(Message)
_answer = Decoder(HandlerMessage)
_to = Decoder(list[str] | str | None).decode


def build(folder: Path, flags: Sequence[str] = ("-O2",)) -> Path:
    """Compiles the scanner as an extension module.

    Raises:
        OSError, subprocess.CalledProcessError: there is no C compiler, or it fails.
    """
    path = folder / f"_scan{sysconfig.get_config_var('EXT_SUFFIX')}"
    link = str(sysconfig.get_config_var("LDSHARED")).split()
    include = f"-I{sysconfig.get_paths()['include']}"
    subprocess.run([*link, "-fPIC", *flags, include, str(SOURCE), "-o", str(path)], check=True, capture_output=True)
    return path


def load(path: Path) -> ModuleType:
    """Imports a scanner that :func:`build` made, beside the one that the package may have."""
    spec = importlib.util.spec_from_file_location("_scan", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- what is right ------------------------------------------------------------------------------------------------


def expected_message(body: bytes, levels: int = MESSAGE_LEVELS) -> tuple[str, bytes, bytes] | None:
    """Returns what a scanner may return for a client's message, by the whole decoder; None if it is not plain."""
    try:
        message = decode(_message, body, levels)
    except Malformed:
        return None
    payload = message.payload
    return (payload.type, encode_text(payload.id), bytes(payload.data)) if message.header == NO_HEADER else None


def expected_answer(body: bytes, levels: int = ANSWER_LEVELS) -> tuple[str, str, Any, str | None, bytes] | None:
    """Returns what a scanner may return for a handler's answer, by the whole decoder; None if it is not plain."""
    try:
        decode(_answer, body, levels)
        message = decode_handler_message(body)
    except (BadAnswer, Malformed):
        return None
    if isinstance(message, str):
        return None
    header, command, payload = message.header, message.header.command, message.payload or OutgoingPayload()
    if header.id is None or header.status != "0" or header.message_type is not None or header.commands is not None:
        return None
    if command is None or command.payload is not None or command.transient:
        return None
    data = next((data for data in (payload.data, message.data) if data is not NOTHING), NULL)
    return header.id, command.type, command.data, payload.type, bytes(data)


# -- bodies -------------------------------------------------------------------------------------------------------


def _nested(levels: int) -> bytes:
    return b'{"a":[' * (levels // 2) + b"{}" + b"]}" * (levels // 2)


SEEDS = [
    b'{"payload":{"type":"chat","id":"7","data":{"a":[1,-0.5e+7,true,false,null,"b"],"c":{}}}}',
    b'{"header":{},"payload":{"data":[[],[{}],"\\u00e4\\n\\"\\\\"],"id":"12345678901234567","type":"a.long-type.name"}}',
    ' { "payload" : { "type" : "chat" , "data" : "éß€\ud7ff\ue000😀 and 0123456789" } , "header" : { } } '.encode(),
    b'{"payload":{"type":"t","id":"","data":"' + b"0123456789abcdef" * 8 + b'"}}',
    b'{"payload":{"type":"t","data":' + _nested(MESSAGE_LEVELS - 4) + b"}}",
    b'{"payload":{"type":"t","data":"' + b"x" * 300 + b'"}}',
    b'{"header":{"id":"1","status":"0","command":{"type":"reply"}},"payload":{"data":{"a":[1.5]}}}',
    b'{"header":{"id":"42","status":"0","command":{"type":"sendClients","data":["g","t","a-longer-name"]}},"data":[null]}',
    b'{"payload":{"type":"other","data":"\\u20ac"},"data":1,"header":{"command":{"data":"x","type":"sendHandler"},'
    b'"status":"0","id":"9"}}',
    b'{ "header" : { "id" : "1" , "status" : "0" , "command" : { "type" : "sendServers" , "data" : [ "j.org" ] } } }',
    b'{"header":{"id":"1","status":"0","command":{"type":"done","data":null}},"data":'
    + _nested(ANSWER_LEVELS - 2)
    + b"}",
]
_WIDE = (
    "c080 c1bf c280 dfbf e08080 e09fbf e0a080 ed9fbf eda080 edbfbf ee8080 efbfbf f0808080 f08fbfbf f0908080 f48fbfbf "
    "f4908080 f5808080 f8888080 ff fe 80 bf c2 e0a0 f09080 c220 e0a020 f0908020"
)
WIDE = [bytes.fromhex(text) for text in _WIDE.split()]
"""The least and the greatest character of each length, and every kind of what is none."""
SPELLINGS = [
    *(rb"\%c" % letter for letter in b'"\\/bfnrtuvx0aU\'\n\x00\xff'),
    *(rb"\u" + digits for digits in (b"0000", b"001f", b"d7ff", b"D800", b"dBff", b"dc00", b"DfFf", b"e000", b"FFFF")),
    *(rb"\u" + digits for digits in (b"12", b"123", b"123g", b"g123", b"12 4", b"-123", b"\\u12", b"d83d\\ude00")),
    *b"0 -0 00 01 -01 - + +1 .5 1. 1.e5 1.5 1e 1e+ 1e5 1E-05 -1.50e+09 0e0 0x1 1_0 1e400 NaN Infinity -Inf".split(),
    *b'true false null True nul nulls truefalse tru\xc3\xa9 [ ] { } [] {} [1,] [,1] {,} {1:2} {"a"} [[ : , //'.split(),
    *(bytes([control]) for control in (*range(0x21), 0x7F)),
    b'"type":"x",', b'"id":"x",', b'"data":1,', b'"data":null,', b'"status":"0",', b'"header":{},', b'"payload":{},',
    b'"command":{"type":"done"},', b'"commands":[],', b'"once":true,', b'"transient":true,', b'"messageType":"push",',
    b'"type":5,', b'"id":null,', b'"type":null,', b'"status":0,', b'"unknown":[],', b'"t\\u0079pe":"x",', b'"":0,',
    _nested(20), b"[" * 130, b"]" * 130, b" " * 40, b"\xef\xbb\xbf",
]  # fmt: skip


def mutated(chance: random.Random, body: bytes) -> bytes:
    """Changes a body in a few places: bits, ends, and what has to be told from JSON."""
    kind = chance.randrange(6)
    if kind == 0:
        return mutate(chance, body)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        at = chance.randint(0, len(body))
        if kind == 1 and at < len(body):
            body = body[:at] + bytes([body[at] ^ 1 << chance.randrange(8)]) + body[at + 1 :]
        elif kind == 2:
            body = body[:at] if chance.random() < 0.8 else body[at:]
        elif kind == 3:
            body = body[:at] + chance.choice(WIDE) + body[at:]
        elif kind == 4:
            body = body[:at] + chance.choice(SPELLINGS) + body[at + chance.randint(0, 2) :]
        elif kind == 5:  # a member that is there already, or a piece of another body
            other = chance.choice((body, *SEEDS))
            start = chance.randint(0, len(other))
            body = body[:at] + other[start : start + chance.randint(0, 60)] + body[at:]
    return body


def scanned_message(scanner: Any, body: bytes, levels: int) -> Any:
    return scanner.message(body, levels)


def scanned_answer(scanner: Any, body: bytes, levels: int) -> Any:
    """Returns what a scanner finds in an answer, with the data of its command decoded; None if these are not right."""
    found = scanner.answer(body, levels)
    if found is None:
        return None
    id, kind, to, type, data = found
    try:
        return id, kind, _to(to) if to else None, type, data
    except DecodeError:
        return None


def check(scanner: Any, body: bytes, levels: int | None = None) -> str:
    """Compares the scanner with the whole decoders; returns what the body is.

    Raises:
        ValueError: they differ.
    """
    ways: tuple[tuple[str, Callable[[Any, bytes, int], Any], Callable[[bytes, int], Any], int], ...] = (
        ("message", scanned_message, expected_message, levels or MESSAGE_LEVELS),
        ("answer", scanned_answer, expected_answer, levels or ANSWER_LEVELS),
    )
    kind = "neither"
    for name, scanned, expected, limit in ways:
        found = scanned(scanner, body, limit)
        if found is None:
            continue
        right = expected(body, limit)
        if found != right or list(map(type, found)) != list(map(type, right)):
            raise ValueError(f"{name} of {body!r}, {limit} levels: {found}, and is to be {right}")
        kind = name
    return kind


def main() -> int:
    parser = argparse.ArgumentParser(description="Feeds mutated bodies to the scanner, under sanitizers.")
    parser.add_argument("--count", type=int, default=300_000, help="the number of bodies")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--built", type=Path, default=None, help="a scanner that is built already")
    options = parser.parse_args()
    if options.built is None:
        return _again()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    print(f"seed {seed}", flush=True)
    chance, scanner, outcomes = random.Random(seed), load(options.built), Counter[str]()
    for _ in range(options.count):
        body = mutated(chance, chance.choice(SEEDS))
        outcomes[check(scanner, body, chance.choice((None, None, None, None, 4, 5, 6, 9)))] += 1
        cut = chance.randint(0, len(body))
        if scanner.frame(body[:cut], memoryview(body)[cut:])[4:] != body:
            raise ValueError(f"the frame of {body!r}, cut at {cut}")
    for outcome, count in outcomes.most_common():
        print(f"{count:>9} {outcome}")
    return 0


def _again() -> int:
    """Runs this program in a process of its own, with a scanner under sanitizers."""
    with tempfile.TemporaryDirectory() as folder:
        path = build(Path(folder), SANITIZERS)
        compiler = str(sysconfig.get_config_var("LDSHARED")).split()[0]
        libraries = [
            subprocess.run(
                [compiler, f"-print-file-name={name}"], check=True, capture_output=True, text=True
            ).stdout.strip()
            for name in ("libasan.so", "libubsan.so")
        ]
        more = {
            "LD_PRELOAD": " ".join(libraries),
            "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter's own would be found
            "PYTHONMALLOC": "malloc",
        }
        command = [sys.executable, "-m", "fuzz.fuzz_scanner", *sys.argv[1:], "--built", str(path)]
        return subprocess.run(command, env=os.environ | more, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
