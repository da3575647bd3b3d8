"""The checks of every handler, attached or classic."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bester.protocol.framing import PREFIX, frame
from bester.workbench.answers import same_bytes, same_numbers
from bester.workbench.bench import Bench
from bester.workbench.check import check
from bester.workbench.contract import MAX_MESSAGE

_DEPTH = 128
"""The most levels of nesting in a client's message; two of them surround its data."""
_SPLIT_BYTES = 400
_NUMBERS = b"[9007199254740993,12345678901234567890123456789,-1,0.10,1.0,-0,1e3,1E+2,2.5e-3,1e400]"
_TEXTS = (
    '"m\N{LATIN SMALL LETTER O WITH CIRCUMFLEX}re \N{GRINNING FACE} \N{HIRAGANA LETTER A}"'.encode(),
    rb'"\u006d\u00f4\u0072\ud83d\ude00\/\\\"\b\f\n\r\t"',
    rb'"a\u0000b"',
    rb'"\ud83d"',
    rb'"\ude00\ud83d x"',
    '{"\N{GRINNING FACE}": "\N{COMBINING ACUTE ACCENT}\N{RIGHT-TO-LEFT MARK}", "\\ud800": ""}'.encode(),
)
_OPAQUE = rb'{"z": 1, "a" : [ ],"a":{"b":  1.50}, "\u0062":"\u00e9\/" }'


async def _all(bench: Bench, many: Sequence[bytes], *, compared: bool = True) -> None:
    for data in many:
        answer = await bench.ask(data)
        if compared:
            bench.compare(data, answer)


@check("split", "1.1", "A reader must accept frames however the stream was cut: here at every byte.")
async def split(bench: Bench) -> None:
    await bench.ask_sample(piece=1 if len(bench.sample) <= _SPLIT_BYTES else 64)
    await bench.ask_sample(_TEXTS[0], piece=1)


@check("empty", "1.2", "data may be any JSON value, and is null if the sender gave none.")
async def empty(bench: Bench) -> None:
    await _all(bench, [b"null", b"{}", b'""', b"[]", b"0", b"false", b"true"])


@check("big", "1.1", "A frame to a handler carries whatever the server accepted: data of 1 MiB.")
async def big(bench: Bench) -> None:
    size = MAX_MESSAGE - 256  # the client's message has other members than its data
    await _all(bench, [b'"' + b"x" * (size - 2) + b'"', b'{"text":"' + rb"\n" * (size // 2 - 6) + b'"}'])


@check("deep", "1.2", "A message may have 128 levels of nesting, its header and payload included.")
async def deep(bench: Bench) -> None:
    levels = _DEPTH - 2
    await _all(bench, [b"[" * levels + b"]" * levels, b'{"a":' * (levels - 1) + b"{}" + b"}" * (levels - 1)])
    await _all(bench, [b'"' + rb"[{\"" * 2 * levels + b'"'])  # brackets in a string are not levels


@check("unicode", "1.2", "data may have any characters and any escapes, including those of lone surrogates and of NUL.")
async def unicode(bench: Bench) -> None:
    await _all(bench, _TEXTS)


@check("numbers", "1.3", "Numbers keep their digits and their spelling, however large or precise they are.", echo=True)
async def numbers(bench: Bench) -> None:
    bench.compare(_NUMBERS, await bench.ask(_NUMBERS), same_numbers)


@check(
    "opaque",
    "1.3",
    "Data is passed on byte for byte: white space, order of keys, repeated keys, spelling of escapes.",
    echo=True,
)
async def opaque(bench: Bench) -> None:
    bench.compare(_OPAQUE, await bench.ask(_OPAQUE), same_bytes)


@check("many", "3.1, 6.3", "As many requests as the handler's concurrency are sent at once; each is answered once.")
async def many(bench: Bench) -> None:
    count = bench.at_once
    asked = [bench.sample] * count
    if bench.options.echo:
        asked = [json.dumps({"number": number}).encode() for number in range(count)]
    for data, answer in zip(asked, await bench.ask_all(asked), strict=True):
        bench.compare(data, answer)
    await bench.quiet()


@check("slow-reader", "6.4", "Answers that are read late and in small pieces are still complete.")
async def slow_reader(bench: Bench) -> None:
    asked = [json.dumps({"number": number, "text": "x" * 400_000}).encode() for number in range(min(8, bench.at_once))]
    for data, answer in zip(asked, await bench.ask_all(asked, slowly=True), strict=True):
        bench.compare(data, answer)


@check("cut-request", "3.5", "A connection may end in the middle of a request; the handler keeps serving.")
async def cut_request(bench: Bench) -> None:
    await bench.cut_request(bench.sample)
    await bench.serves_on()


@check("cut-answer", "3.5", "A connection may end before the answer is written; nobody gets that answer later.")
async def cut_answer(bench: Bench) -> None:
    await bench.cut_answer(json.dumps({"text": "x" * 900_000}).encode(), begun=True)
    await bench.ask_sample()
    for _ in range(3):
        await bench.cut_answer(bench.sample, begun=False)
        await bench.ask_sample()
    await bench.serves_on()


@check("garbage", "1.2", "A frame that is not JSON or not UTF-8 costs at most a connection; the handler keeps serving.")
async def garbage(bench: Bench) -> None:
    for body in (b'{"header":', b'{"text":"\xff\xfe"}', b"\x00" * 16):
        await bench.throw(frame(body))
        await bench.serves_on()


@check("zero-length", "1.1", "A frame of length 0 is malformed: it costs at most a connection.")
async def zero_length(bench: Bench) -> None:
    await bench.throw(PREFIX.pack(0))
    await bench.serves_on()


@check(
    "oversize",
    "1.1",
    "A handler neither waits for a frame beyond the limit nor allocates memory for it: it costs at most a connection.",
)
async def oversize(bench: Bench) -> None:
    await bench.throw(PREFIX.pack(0xFFFFFFFF) + b'{"text":')
    await bench.serves_on()


COMMON = (
    split,
    empty,
    big,
    deep,
    unicode,
    numbers,
    opaque,
    many,
    slow_reader,
    cut_request,
    cut_answer,
    garbage,
    zero_length,
    oversize,
)
