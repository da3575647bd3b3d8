"""What is JSON for a server, and what is not; and that data stays as it came."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw, Struct

from bester.errors import Malformed
from bester.protocol.strictjson import EXTRA_DEPTH, MAX_DEPTH, decode


class Inner(Struct):
    type: str
    data: Raw = Raw(b"")


class Outer(Struct):
    payload: Inner
    header: Inner | None = None
    commands: list[Inner] = []
    count: float = 0


DECODER = msgspec.json.Decoder(Outer)


def taken(data: bytes, max_depth: int = MAX_DEPTH) -> bytes:
    """What is left of data within a body."""
    return bytes(decode(DECODER, b'{"payload":{"type":"t","data":' + data + b"}}", max_depth).payload.data)


def refused(body: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        decode(DECODER, body)
    return caught.value.message


@pytest.mark.parametrize(
    "data",
    [
        b"null",
        b'""',
        b'{ "b" : 1 ,\t"a":\r\n[ ] }',
        b'{"a":1,"a":2}',
        b"1e400",
        b"-0",
        b"1.0e+00",
        b"123456789012345678901234567890123456789012345678901234567890.10",
        b'"\\u0041\\/\\n\\u00e9"',
        '"é€😀\u2028"'.encode(),
        b'"\\ud83d\\ude00"',
        b'"[[[{{{"',
        b'{"\\"]":"\\\\"}',
    ],
)
def test_data_is_untouched(data: bytes) -> None:
    assert taken(data) == data


@pytest.mark.parametrize(
    "data",
    [
        rb'"\ud800"',
        rb'"\uDBFF"',
        rb'"\udc00"',
        rb'"\uDfFf\uD8aB"',
        rb'"\ude00\ud83d"',
        rb'"\ud83d\ude00\ud83d"',
        rb'{"\ud800":["\udfff",1e400]}',
        rb'"\\ud800\ud800"',
        rb'"\\\ud800"',
        rb'"\ud800\ue8ab\uE9AB"',
        rb'"\ud800\uD800\ue8ab\ua8ab\ub8ab\uc8ab"',
        rb'"\ud800\uD800\ue8ab\ua8ab\ub8ab\uc8ab\u98ab\u48ab"',
        '"\\ud800 é"'.encode(),
    ],
)
def test_lone_surrogate_escapes_are_untouched_inside_data(data: bytes) -> None:
    assert taken(data) == data


def test_lone_surrogate_escapes_in_several_places_of_data() -> None:
    body = (
        rb'{"header":{"type":"h","data":"\ud801"},"payload":{"type":"p","data":["\ud802"]},'
        rb'"commands":[{"type":"c"},{"type":"d","data":"\uDC03"}]}'
    )
    message = decode(DECODER, body)
    assert message.header is not None
    assert bytes(message.header.data) == rb'"\ud801"'
    assert bytes(message.payload.data) == rb'["\ud802"]'
    assert [bytes(command.data) for command in message.commands] == [b"", rb'"\uDC03"']


@pytest.mark.parametrize(
    "body",
    [
        rb'{"payload":{"type":"\ud800"}}',
        rb'{"payload":{"type":"t","data":"\ud800","other":"\ud800"}}',
        rb'{"payload":{"type":"t","data":"\ud800"},"\udc00":1}',
        rb'{"payload":{"type":"\ude00\ud83d"}}',
    ],
)
def test_lone_surrogate_escapes_are_malformed_elsewhere(body: bytes) -> None:
    assert refused(body) == "a lone surrogate escape outside of data"


def test_lone_surrogate_escapes_are_not_judged_where_only_a_part_is_read() -> None:
    assert decode(DECODER, rb'{"payload":{"type":"t","other":"\ud800"}}', partly=True).payload.type == "t"


def test_a_lone_surrogate_beside_escapes_of_every_kind() -> None:
    data = b'"\\ud800' + b"".join(b"\\u%c8ab" % digit for digit in b"0123456789abcefABCEF") + rb'\\ud800\ud83d\ude00"'
    assert taken(data) == data


def test_a_lone_surrogate_does_not_excuse_anything_else() -> None:
    refused(rb'{"payload":{"type":"t","data":"\ud800"},}')
    refused(rb'{"payload":{"data":"\ud800"}}')
    refused(rb'{"payload":{"type":"t","data":"\ud800\q"}}')


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"payload":{"type":"t"}',
        b'{"payload":{"type":"t',
        b'{"payload":{"type":"t"}}}',
        b'{"payload":{"type":"t"}}{}',
        b'{"payload":{"type":"t"}}\x00',
        b'{"payload":{"type":"t"}}\x0b',
        b'{"payload":{"type":"t"},}',
        b'\xef\xbb\xbf{"payload":{"type":"t"}}',
        b'{"payload":{"type":"t"}} // comment',
        b"{'payload':{'type':'t'}}",
        b'{payload:{"type":"t"}}',
        '{"payload":{"type":"t"}}'.encode("utf-16"),
        b"hello",
        b"null",
        b"[]",
        b"5",
        b'"{}"',
    ],
)
def test_not_json_or_not_an_object(body: bytes) -> None:
    refused(body)


@pytest.mark.parametrize(
    "data",
    [
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"01",
        b"1.",
        b".5",
        b"+1",
        b"0x10",
        b"1e",
        b"True",
        b"nul",
        b"'a'",
        b'"\n"',
        b'"\x00"',
        b'"\\q"',
        b'"\\u12"',
        b'"\\u12g4"',
        b"[1,]",
        b'{"a"}',
        b"{1:2}",
        b"]",
        b"",
        b"1 2",
    ],
)
def test_not_json_inside_of_data(data: bytes) -> None:
    refused(b'{"payload":{"type":"t","data":' + data + b"}}")


@pytest.mark.parametrize(
    "wrong", [b"\xff", b"\xc3", b"\xc3(", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80", b"\xe2\x82"]
)
def test_not_utf8(wrong: bytes) -> None:
    assert refused(b'{"payload":{"type":"t","data":"' + wrong + b'"}}') == "invalid UTF-8 at byte 31"
    assert refused(b'{"' + wrong + b'":1,"payload":{"type":"t"}}') == "invalid UTF-8 at byte 2"
    assert refused(b'{"payload":{"type":"' + wrong + b'"}}') == "invalid UTF-8 at byte 20"


@pytest.mark.parametrize("room", [b"", b" " * 300], ids=["short", "long"])
def test_objects_in_objects_with_the_shortest_keys(room: bytes) -> None:
    def objects(levels: int) -> bytes:
        return b'{"":' * (levels - 3) + b"{}" + room + b"}" * (levels - 3)

    assert taken(objects(MAX_DEPTH)) == objects(MAX_DEPTH)
    with pytest.raises(Malformed, match="nested more than 128 levels deep"):
        taken(objects(MAX_DEPTH + 1))


def nested(levels: int) -> bytes:
    """Data so deep that the body has this many levels."""
    return b"[" * (levels - 2) + b"]" * (levels - 2)


def test_depth() -> None:
    assert taken(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    with pytest.raises(Malformed, match="nested more than 128 levels deep"):
        taken(nested(MAX_DEPTH + 1))
    objects = b'{"a":' * 126 + b"1" + b"}" * 126
    assert taken(objects) == objects
    with pytest.raises(Malformed, match="128 levels"):
        taken(b'{"a":' + objects + b"}")
    with pytest.raises(Malformed, match="128 levels"):
        taken(b"[" * 1_000_000)


def test_frames_that_wrap_may_be_deeper() -> None:
    assert taken(nested(MAX_DEPTH + EXTRA_DEPTH), MAX_DEPTH + EXTRA_DEPTH)
    with pytest.raises(Malformed, match="136 levels"):
        taken(nested(MAX_DEPTH + EXTRA_DEPTH + 1), MAX_DEPTH + EXTRA_DEPTH)


def test_many_brackets_side_by_side_are_not_deep() -> None:
    data = b"[" + b",".join([b"[]", b"{}"] * 500) + b"]"
    assert taken(data) == data


@pytest.mark.parametrize("text", [b"[" * 500, b'\\"' + b"[{" * 500, b"\\\\\\\\" + b"{" * 500, b"]" * 500])
def test_brackets_inside_of_strings_do_not_count(text: bytes) -> None:
    data = b'["' + text + b'",[]]'
    assert taken(data) == data
    deep = b'{"' + text + b'":' + nested(MAX_DEPTH) + b"}"
    with pytest.raises(Malformed, match="128 levels"):
        taken(deep)


def test_a_string_that_does_not_end_hides_no_depth_error() -> None:
    refused(b'{"payload":{"type":"t","data":"' + b"[" * 1000)


def test_the_last_of_repeated_keys_counts() -> None:
    message = decode(DECODER, b'{"payload":{"type":"a"},"payload":{"type":"b","type":"c","data":1,"data":2}}')
    assert (message.payload.type, bytes(message.payload.data)) == ("c", b"2")


def test_the_last_of_repeated_keys_counts_where_an_earlier_one_is_of_a_wrong_type() -> None:
    message = decode(
        DECODER,
        b'{"payload":5,"header":[],"payload":{"type":null,"type":"c","data":{"a" : 1, "a":2}},'
        b'"header":{"type":[],"type":"h"},"count":"","count":2,'
        b'"commands":1,"commands":[{"type":6,"type":"d"}]}',
    )
    assert (message.payload.type, bytes(message.payload.data)) == ("c", b'{"a" : 1, "a":2}')
    assert message.header is not None
    assert (message.header.type, message.count, message.commands[0].type) == ("h", 2, "d")


def test_repeated_keys_and_lone_surrogates_together() -> None:
    for body in (
        rb'{"payload":{"type":5,"type":"t","data":"\ud800"}}',
        rb'{"payload":{"data":"\ud800","type":5,"type":"t"}}',
    ):
        assert bytes(decode(DECODER, body).payload.data) == rb'"\ud800"'


def test_the_last_of_repeated_keys_counts_where_it_is_the_wrong_one() -> None:
    assert refused(b'{"payload":{"type":"t","type":5}}') == "Expected `str`, got `int` - at `$.payload.type`"
    refused(b'{"payload":{"type":"t"},"payload":5}')
    refused(b'{"payload":{"type":"t"},"commands":[5]}')
    refused(b'{"payload":{"type":"t"},"commands":5}')


def test_many_levels_of_the_same_key_are_not_searched_for_repetitions() -> None:
    refused(b'{"payload":' * 100 + b"1" + b"}" * 100)


def test_escaped_keys_are_the_same_keys() -> None:
    assert decode(DECODER, b'{"p\\u0061yload":{"\\u0074ype":"t"}}').payload.type == "t"
    assert decode(DECODER, b'{"payload":{"type":5,"t\\u0079pe":"t"}}').payload.type == "t"


def test_huge_numbers_outside_of_data() -> None:
    assert decode(DECODER, b'{"payload":{"type":"t"},"other":1e400,"n":' + b"9" * 5000 + b"}").payload.type == "t"
    assert "out of range" in refused(b'{"payload":{"type":"t"},"count":1e400}')


def test_messages_about_errors_are_bounded() -> None:
    wide = msgspec.json.Decoder(msgspec.defstruct("Wide", [("x" * 1000, str)]))
    with pytest.raises(Malformed) as caught:
        decode(wide, b"{}")
    assert len(caught.value.message) == 200


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    a: int = 0


class One(msgspec.Struct, tag=True):
    a: int = 0


class Two(msgspec.Struct, tag=True):
    inner: One | None = None


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Any, b'{"a":1e400}'),
        (Strict, b'{"a":1,"b":2}'),
        (Strict, b'{"a":"","b":2}'),
        (One | Two, b'{"type":"One","a":""}'),
        (Two, b'{"type":"Two","inner":{"type":"One","a":""}}'),
        (list[One], b'[{"type":"One","a":""}]'),
        (dict[str, Strict], b'{"a":{"a":""}}'),
    ],
)
def test_types_in_which_no_repeated_key_is_looked_for(kind: Any, body: bytes) -> None:
    with pytest.raises(Malformed):
        decode(msgspec.json.Decoder(kind), body)


@pytest.mark.parametrize("kind", [Any, dict[str, str], list[str] | None])
def test_a_lone_surrogate_in_a_type_without_data(kind: Any) -> None:
    with pytest.raises(Malformed, match="lone surrogate"):
        decode(msgspec.json.Decoder(kind), b'["\\ud800"]' if kind != dict[str, str] else b'{"a":"\\ud800"}')
