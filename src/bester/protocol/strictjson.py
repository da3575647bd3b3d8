"""Decodes one frame's JSON as strictly as docs/protocol.md, section 1, requires, and leaves ``data`` unchanged.

msgspec does most of the work; this module adds the rest:

- ``msgspec.Raw`` takes invalid UTF-8, so the whole body is checked first;
- nesting is bounded by our own limit, before the decoder recurses;
- a lone surrogate escape (``"\\ud800"``) is refused by msgspec everywhere, but allowed inside ``data``: on this rare
  path its backslash becomes a byte that UTF-8 does not have, and the backslash is put back in ``data``;
- a repeated key's last value counts, even if an earlier one has the wrong type (see ``repeated.py``).

Input is untrusted, so every step takes time linear in the body and runs in C functions: Python code runs once per
struct of the message's type, never per character, bracket, string or escape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from bester.errors import Malformed
from bester.protocol.repeated import last_values, members

MAX_DEPTH = 128
EXTRA_DEPTH = 8
"""How much deeper frames from handlers and on links may be, since they wrap a client's data."""

T = TypeVar("T")

_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_BITS = bytes.maketrans(b"[]{}", b"1010")
_BIT = (128, 64, 32, 16, 8, 4, 2, 1)
# For each 8 brackets, written as bits: the change in depth after them, and the greatest rise within them.
_STEPS = [[1 if byte & bit else -1 for bit in _BIT] for byte in range(256)]
_NET = [sum(steps) for steps in _STEPS]
_PEAK = [max(0, *(sum(steps[:end]) for end in range(1, 9))) for steps in _STEPS]

_ESCAPED_BACKSLASH = rb"\\"
_ASIDE = b"\xfe\xfe"
_BACKSLASH = b"\xff"
"""Replaces the backslash of a lone surrogate; neither byte occurs in UTF-8."""
_HEX = rb"[0-9a-fA-F]"
_HIGH = rb"[dD][89abAB]" + _HEX * 2
_LOW = rb"[dD][c-fC-F]" + _HEX * 2
_LONE = re.compile(rb"\\u(?:(?=%b(?!\\u%b))|(?=%b)(?<!\\u%b\\u))" % (_HIGH, _LOW, _LOW, _HIGH))


def decode(decoder: msgspec.json.Decoder[T], body: bytes, max_depth: int = MAX_DEPTH, *, partly: bool = False) -> T:
    """Returns ``body`` as the decoder's type.

    ``partly`` says that the type has no ``data``: then a lone surrogate escape may be anywhere.

    Raises:
        Malformed: the body is not UTF-8, not strict JSON, too deep, or does not have the type's form.
    """
    if not body.isascii():
        _check_utf8(body)
    if not is_shallow(body, max_depth):
        _check_depth(body, max_depth)
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        return decode_otherwise(decoder, body, error, partly=partly)


def decode_quickly(decoder: msgspec.json.Decoder[T], body: bytes, max_depth: int) -> T:
    """Decodes as :func:`decode` does, but faster for bodies in ASCII that are not deep, as most are.

    Raises:
        Malformed: as :func:`decode` does.
    """
    if body.isascii() and (len(body) <= 2 * max_depth or is_shallow(body, max_depth)):
        try:
            return decoder.decode(body)
        except msgspec.DecodeError:
            pass  # decode() either accepts it after all or says what is wrong
    return decode(decoder, body, max_depth)


def is_shallow(body: bytes, max_depth: int = MAX_DEPTH) -> bool:
    """Returns whether a quick check proves that a body is not too deep.

    Each level takes an opening and a closing byte; and if the last opening bracket is at a position below the limit,
    there are not more brackets than that. Where there are no lists, each level but the last takes four bytes, ``{"":``,
    since the decoder refuses an object in the place of a key. Searching backwards for a bracket is much faster than
    counting them.
    """
    if len(body) <= 2 * max_depth:
        return True
    lists = body.rfind(b"[")
    return lists < max_depth and body.rfind(b"{") < (4 * max_depth if lists < 0 else max_depth)


def _check_utf8(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"invalid UTF-8 at byte {error.start}") from error


def _check_depth(body: bytes, max_depth: int) -> None:
    if body.count(b"{") + body.count(b"[") <= max_depth:
        return
    if b"\\" in body:
        body = body.replace(_ESCAPED_BACKSLASH, b"").replace(b'\\"', b"")
    # Two adjacent quotes do not change what is inside a string and what is not.
    structure = body.translate(None, _NOT_STRUCTURE).replace(b'""', b"")
    brackets = b"".join(structure.split(b'"')[::2]).translate(_BITS)
    depth = 0
    # The brackets become a number in base 2, padded to full bytes; further closing brackets at the end do no harm.
    size = -(-len(brackets) // 8)
    for eight in int(brackets.ljust(8 * size, b"0") or b"0", 2).to_bytes(size, "big"):
        if depth + _PEAK[eight] > max_depth:
            raise Malformed(f"nested more than {max_depth} levels deep")
        depth += _NET[eight]


def _malformed(error: Exception) -> Malformed:
    if isinstance(error, UnicodeDecodeError):
        return Malformed("a lone surrogate escape outside of data")
    text = "nested too deep" if isinstance(error, RecursionError) else str(error)
    return Malformed(text.removeprefix("JSON is malformed: ")[:200])


def decode_otherwise(decoder: msgspec.json.Decoder[T], body: bytes, error: Exception, *, partly: bool = False) -> T:
    """Decodes a checked body that msgspec refuses, by the means that the module's docstring lists."""
    hidden, lone = _hide_lone_surrogates(body)
    try:
        message = decoder.decode(hidden) if lone else _decode_last_values(decoder, body, error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as still:
        message = _decode_last_values(decoder, hidden, still)
    for owner in _with_data(message) if lone else ():
        shown = bytes(owner.data)
        if there := shown.count(_BACKSLASH):
            owner.data = Raw(shown.replace(_BACKSLASH, b"\\"))
            lone -= there
    if lone and not partly:
        raise Malformed("a lone surrogate escape outside of data") from error
    return message


def _decode_last_values(decoder: msgspec.json.Decoder[T], body: bytes, error: Exception) -> T:
    """Decodes a body with only the last value of each repeated key."""
    if not isinstance(error, msgspec.ValidationError):
        raise _malformed(error) from error
    kind: Any = decoder.type
    try:
        return decoder.decode(last_values(kind, body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _malformed(error) from error


def _hide_lone_surrogates(body: bytes) -> tuple[bytes, int]:
    """Returns a body of the same size that msgspec accepts, and the number of lone surrogate escapes in it."""
    if b"\\ud" not in body and b"\\uD" not in body:
        return body, 0
    hidden, lone = _LONE.subn(_BACKSLASH + b"u", body.replace(_ESCAPED_BACKSLASH, _ASIDE))
    return hidden.replace(_ASIDE, _ESCAPED_BACKSLASH), lone


def _with_data(value: Any) -> Iterator[Any]:
    """Yields every struct within ``value`` that has raw ``data``."""
    if isinstance(getattr(value, "data", None), Raw):
        yield value
    if not isinstance(value, Struct):
        return
    kind: type[Struct] = type(value)
    for name, _, many in members(kind):
        inner = getattr(value, name)
        if inner is not None:
            for one in inner if many else (inner,):
                yield from _with_data(one)
