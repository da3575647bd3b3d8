"""The scanner reads what is plain, and nothing else, exactly as the whole decoders do.

It is built here with the C compiler that there is. With the compiler's sanitizers: ``python -m fuzz.fuzz_scanner``.
"""

from __future__ import annotations

import json
import shutil
import sysconfig
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fuzz.fuzz_scanner import (
    ANSWER_LEVELS,
    MESSAGE_LEVELS,
    SEEDS,
    SPELLINGS,
    WIDE,
    build,
    check,
    expected_answer,
    load,
    mutated,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from tests.properties.test_json import SPACES, json_texts

MIN_LEVELS, MAX_LEVELS = 4, 192
"""An answer's own levels with those of its recipients, and those for which the scanner has room."""
PARTS = 16
PLAIN = {
    "message": (b'{"payload":{"type":"a","data":', b"}}", 2, MESSAGE_LEVELS),
    "answer": (b'{"header":{"id":"1","status":"0","command":{"type":"done"}},"data":', b"}", 1, ANSWER_LEVELS),
}
"""Of each kind: what is before and after its data, the data's level, and the levels that are allowed."""
SHORT = [seed for seed in SEEDS if len(seed) < 200]


@pytest.fixture(scope="module")
def scanner(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if shutil.which(str(sysconfig.get_config_var("LDSHARED")).split()[0]) is None:
        pytest.skip("there is no C compiler")
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        pytest.skip("there is no Python.h")
    return load(build(tmp_path_factory.mktemp("scanner")))


# -- what is plain ------------------------------------------------------------------------------------------------

names = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7F, exclude_characters='"\\'), max_size=20)
quoted = names.map(lambda name: f'"{name}"')
data_texts = json_texts.map(bytes.decode)


@st.composite
def objects_of(draw: st.DrawFn, *members: tuple[str, st.SearchStrategy[str], bool]) -> str:
    """Objects with these members, of which some must be there, in any order, and with spaces anywhere."""
    there = [(key, draw(value)) for key, value, must in members if must or draw(st.booleans())]
    parts = [
        f'{draw(SPACES)}"{key}"{draw(SPACES)}:{draw(SPACES)}{value}{draw(SPACES)}'
        for key, value in draw(st.permutations(there))
    ]
    return "{" + (",".join(parts) or draw(SPACES)) + "}"


def lists_of(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    one = st.tuples(SPACES, items, SPACES).map("".join)
    return st.lists(one, max_size=5).map(lambda parts: f"[{','.join(parts)}]")


messages = objects_of(
    ("header", objects_of(), False),
    ("payload", objects_of(("type", quoted, True), ("id", quoted, False), ("data", data_texts, False)), True),
)
kinds = st.sampled_from(['"reply"', '"sendClients"', '"sendServers"', '"sendHandler"', '"done"'])
recipients = st.one_of(quoted, st.text(max_size=8).map(json.dumps))
to = st.one_of(lists_of(recipients), recipients, st.just("null"))
commands = objects_of(("type", st.one_of(kinds, quoted), True), ("data", to, False))
answers = objects_of(
    ("header", objects_of(("id", quoted, True), ("status", st.just('"0"'), True), ("command", commands, True)), True),
    ("payload", objects_of(("type", quoted, False), ("data", data_texts, False)), False),
    ("data", data_texts, False),
)


@given(messages, SPACES, SPACES)
def test_a_plain_message_is_read(scanner: Any, text: str, before: str, after: str) -> None:
    body = (before + text + after).encode()
    assert check(scanner, body) == "message"


@given(answers, SPACES, SPACES)
def test_a_plain_answer_is_read(scanner: Any, text: str, before: str, after: str) -> None:
    body = (before + text + after).encode()
    assert check(scanner, body) == "answer"


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("nest", [lambda n: b"[" * n + b"]" * n, lambda n: b'{"a":' * n + b"0" + b"}" * n])
@pytest.mark.parametrize("more", [-1, 0, 1, 2, 60, 130])
def test_as_deep_as_is_allowed_and_no_deeper(scanner: Any, kind: str, nest: Callable[[int], bytes], more: int) -> None:
    before, after, level, levels = PLAIN[kind]
    body = before + b"[ [ ], " + nest(levels + more - level - 1) + b" ]" + after
    assert check(scanner, body) == (kind if more <= 0 else "neither")
    assert levels < MAX_LEVELS


def test_brackets_must_match_at_any_level(scanner: Any) -> None:
    for kind, (before, after, level, levels) in PLAIN.items():
        for depth in range(levels - level):
            inner = b'[{"a":' * (depth // 2) + b"[" * (depth % 2)
            outer = b"]" * (depth % 2) + b"}]" * (depth // 2)
            assert check(scanner, before + inner + b"1" + outer + after) == kind
            for at, swapped in enumerate(outer):
                wrong = outer[:at] + bytes([swapped ^ ord("]") ^ ord("}")]) + outer[at + 1 :]
                assert check(scanner, before + inner + b"1" + wrong + after) == "neither"


@pytest.mark.parametrize("size", range(40))
def test_a_string_of_any_length_with_anything_at_any_place(scanner: Any, size: int) -> None:
    before, after, *_ = PLAIN["message"]
    for at in range(size + 1):
        for inside in (
            b"",
            rb"\n",
            rb"\u20ac",
            "é".encode(),
            "€".encode(),
            "😀".encode(),
            b"\x7f",
            b"]",
            rb"\uD800",
            rb"\ud83d\ude00",
        ):
            assert check(scanner, before + b'"' + b"x" * at + inside + b" " * (size - at) + b'"' + after) == "message"
        for wrong in (b'"', b"\\", rb"\x", b"\n", b"\x1f", b"\0", b"\x80", b"\xed\xa0\x80", rb"\u12g4"):
            check(scanner, before + b'"' + b"x" * at + wrong + b" " * (size - at) + b'"' + after)


# -- what is not --------------------------------------------------------------------------------------------------

members = st.sampled_from(["type", "id", "data", "status", "payload", "header", "command"])
anything = st.recursive(
    st.one_of(quoted, data_texts, st.just('"0"'), kinds),
    lambda items: st.dictionaries(members, items, max_size=4).map(
        lambda found: "{" + ",".join(f'"{key}":{value}' for key, value in found.items()) + "}"
    ),
    max_leaves=8,
)
"""JSON with the members of messages and answers in any place, with values of any type."""


@settings(max_examples=1000)
@given(st.sampled_from(SEEDS), st.integers(0, 2**64), st.sampled_from([None, None, 4, 5, 7]))
def test_what_is_changed_anywhere_is_read_as_the_decoders_do_or_left_to_them(
    scanner: Any, seed: bytes, chance: int, levels: int | None
) -> None:
    check(scanner, mutated(Random(chance), seed), levels)


@pytest.mark.parametrize("seed", SHORT)
def test_each_member_left_out(scanner: Any, seed: bytes) -> None:
    whole = json.loads(seed)
    places: list[tuple[str, ...]] = [(key,) for key in whole]
    for key, inner in whole.items():
        places += [(key, name) for name in (inner if isinstance(inner, dict) else ())]
    places += [("header", "command", name) for name in whole.get("header", {}).get("command", ())]
    for *path, name in places:
        less = json.loads(seed)
        owner = less
        for key in path:
            owner = owner[key]
        del owner[name]
        check(scanner, json.dumps(less).encode())


@given(anything)
def test_members_anywhere(scanner: Any, text: str) -> None:
    check(scanner, text.encode())


@given(st.binary(max_size=60))
def test_any_bytes(scanner: Any, body: bytes) -> None:
    check(scanner, body)
    before, after, *_ = PLAIN["message"]
    check(scanner, before + body + after)
    check(scanner, before + b'"' + body + b'"' + after)


@pytest.mark.parametrize("seed", SHORT)
def test_each_bit_changed_and_each_end_cut_off(scanner: Any, seed: bytes) -> None:
    for at, byte in enumerate(seed):
        check(scanner, seed[:at])
        check(scanner, seed[at:])
        for bit in range(8):
            check(scanner, seed[:at] + bytes([byte ^ 1 << bit]) + seed[at + 1 :])


@pytest.mark.parametrize("seed", SHORT)
def test_each_piece_at_each_place(scanner: Any, seed: bytes) -> None:
    for piece in (*WIDE, *SPELLINGS):
        for at in range(len(seed)):
            check(scanner, seed[:at] + piece + seed[at:])


@pytest.mark.parametrize("piece", [*WIDE, *SPELLINGS])
def test_each_piece_as_data_and_in_a_string(scanner: Any, piece: bytes) -> None:
    for before, after, *_ in PLAIN.values():
        for value in (piece, b'"' + piece + b'"', b"[" + piece + b"]", b'{"a":' + piece + b"}", b"[1," + piece + b"]"):
            check(scanner, before + value + after)


def test_levels_for_which_there_is_no_room_are_not_read(scanner: Any) -> None:
    for seed in SHORT:
        for levels in (-1, 0, MIN_LEVELS - 1, MAX_LEVELS + 1, 2**31, 2**32 + 9, 2**64, -(2**64), None, "128", 128.0):
            assert scanner.message(seed, levels) is None
            assert scanner.answer(seed, levels) is None
    before, after, *_ = PLAIN["message"]
    for levels in range(MIN_LEVELS, MAX_LEVELS + 1):
        inside = levels - 2
        assert scanner.message(before + b"[" * inside + b"]" * inside + after, levels) is not None
        assert scanner.message(before + b"[" * (inside + 1) + b"]" * (inside + 1) + after, levels) is None


def test_what_is_no_bytes_object_is_left_alone(scanner: Any) -> None:
    for seed in SEEDS:
        for other in (bytearray(seed), memoryview(seed), Raw(seed), seed.decode(), None):
            assert scanner.message(other, MESSAGE_LEVELS) is None
            assert scanner.answer(other, ANSWER_LEVELS) is None


def test_types_that_share_a_place_in_memory_are_kept_apart(scanner: Any) -> None:
    for number in [*range(5000), *range(5000)]:
        name = f"t{number}" + "x" * (number % 70)
        assert scanner.message(b'{"payload":{"type":"%b"}}' % name.encode(), MESSAGE_LEVELS) == (name, b'""', b"null")


def test_nothing_is_leaked(scanner: Any) -> None:
    long = b'"' + b"name" * 50 + b'"'
    bodies = [
        *SEEDS,
        b'{"header":{"id":%b,"status":"0","command":{"type":"sendClients","data":[%b,%b,5]}}}' % (long, long, long),
        b'{"header":{"id":%b,"status":"0","command":{"type":"sendClients","data":[%b,"\\n"]}}}' % (long, long),
        b'{"header":{"id":%b,"status":"0","command":{"type":"sendClients","data":{}}},"payload":{"type":%b}}'
        % (long, long),
        b'{"header":{"id":%b,"status":"0","command":{"type":"unknown","data":[%b]}},"data":%b}' % (long, long, long),
        b'{"payload":{"type":%b,"id":%b,"data":%b}}' % (long, long, long),
    ]
    assert expected_answer(bodies[len(SEEDS)]) is None

    def read(times: int) -> None:
        for _ in range(times):
            for body in bodies:
                check(scanner, body)
            with pytest.raises(TypeError):
                scanner.frame(long, bytearray(long), 5)

    read(3)
    tracemalloc.start()
    try:
        read(3)
        before, _ = tracemalloc.get_traced_memory()
        read(100)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000  # a reference lost each time would be five times that


# -- frames -------------------------------------------------------------------------------------------------------

parts = st.binary(max_size=30).flatmap(
    lambda part: st.sampled_from([part, Raw(part), memoryview(part), bytearray(part), memoryview(part)[1:]])
)


@given(st.lists(parts, max_size=PARTS))
def test_a_frame_consists_of_its_parts(scanner: Any, parts: list[Any]) -> None:
    body = b"".join(parts)
    assert scanner.frame(*parts) == len(body).to_bytes(4, "little") + body


def test_a_frame_has_only_so_many_parts(scanner: Any) -> None:
    assert scanner.frame(*[b"x"] * PARTS) == b"\x10\0\0\0" + b"x" * PARTS
    for many in (PARTS + 1, 1000):
        with pytest.raises(TypeError, match="at most 16 parts"):
            scanner.frame(*[b"x"] * many)


@pytest.mark.parametrize("wrong", ["text", 5, None, [b"x"]])
def test_a_part_must_have_bytes_and_is_let_go_if_another_has_none(scanner: Any, wrong: object) -> None:
    part = bytearray(b"x")
    with pytest.raises(TypeError):
        scanner.frame(b"y", part, wrong, part)
    part.append(1)  # nobody has a view of it


def test_a_frame_of_any_size(scanner: Any) -> None:
    for size in (0, 1, 255, 256, 65_535, 65_536, 0x01020304):
        assert scanner.frame(b"x" * size)[:5] == size.to_bytes(4, "little") + b"x"[:size]
