"""Decodes one frame's JSON as strictly as docs/protocol.md, section 1, asks, and leaves ``data`` as it came.

msgspec does the work; what it does not do is added around it:

- ``msgspec.Raw`` takes invalid UTF-8, so the whole body is checked first;
- nesting is bounded by our own limit, before the decoder recurses;
- a lone surrogate escape (``"\\ud800"``) is refused by msgspec everywhere, but allowed inside ``data``: on this rare
  path its backslash becomes a byte that UTF-8 does not have, and the backslash is put back in ``data``;
- a repeated key's last value counts, also where an earlier one has the wrong type (see ``repeated.py``).

Anyone can send anything, so every step takes time that is linear in the body and is work of C functions: Python's own
steps are per struct of the message's type, never per character, bracket, string or escape.
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
"""How much deeper frames from handlers and on links may be, since they wrap what a client sent."""

T = TypeVar("T")

_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_BITS = bytes.maketrans(b"[]{}", b"1010")
_BIT = (128, 64, 32, 16, 8, 4, 2, 1)
# Of each 8 brackets, written as bits: how much deeper it is behind them, and at the deepest place within.
_STEPS = [[1 if byte & bit else -1 for bit in _BIT] for byte in range(256)]
_NET = [sum(steps) for steps in _STEPS]
_PEAK = [max(0, *(sum(steps[:end]) for end in range(1, 9))) for steps in _STEPS]

_ESCAPED_BACKSLASH = rb"\\"
_ASIDE = b"\xfe\xfe"
_BACKSLASH = b"\xff"
"""What stands for the backslash of a lone surrogate; like the other it is in no UTF-8."""
_HEX = rb"[0-9a-fA-F]"
_HIGH = rb"[dD][89abAB]" + _HEX * 2
_LOW = rb"[dD][c-fC-F]" + _HEX * 2
_LONE = re.compile(rb"\\u(?:(?=%b(?!\\u%b))|(?=%b)(?<!\\u%b\\u))" % (_HIGH, _LOW, _LOW, _HIGH))


def decode(decoder: msgspec.json.Decoder[T], body: bytes, max_depth: int = MAX_DEPTH, *, partly: bool = False) -> T:
    """Returns ``body`` as the decoder's type.

    With ``partly``, the type has no place for ``data``, and it is not asked where a lone surrogate escape stands.

    Raises:
        Malformed: not UTF-8, not strict JSON, too deep, or not of the type's form.
    """
    if not body.isascii():
        _check_utf8(body)
    if not is_shallow(body, max_depth):
        _check_depth(body, max_depth)
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        return decode_otherwise(decoder, body, error, partly=partly)


def is_shallow(body: bytes, max_depth: int = MAX_DEPTH) -> bool:
    """Whether a body cannot be too deep, as far as that can be seen quickly.

    Each level takes an opening and a closing byte; and where no bracket is opened later than this, no more than that
    many are. Looking backwards for one is much quicker than counting them.
    """
    return len(body) <= 2 * max_depth or (body.rfind(b"{") < max_depth and body.rfind(b"[") < max_depth)


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
    # Two quotes side by side say nothing about what is inside of a string and what is not.
    structure = body.translate(None, _NOT_STRUCTURE).replace(b'""', b"")
    brackets = b"".join(structure.split(b'"')[::2]).translate(_BITS)
    depth = 0
    # They are written as a number in base 2, of whole bytes; more closing ones at the end change nothing.
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
    """Decodes a checked body that msgspec does not take as it stands: see the module's text for what may help."""
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
    """Decodes with each repeated key's last value only."""
    if not isinstance(error, msgspec.ValidationError):
        raise _malformed(error) from error
    kind: Any = decoder.type
    try:
        return decoder.decode(last_values(kind, body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _malformed(error) from error


def _hide_lone_surrogates(body: bytes) -> tuple[bytes, int]:
    """Returns a body of the same size, which msgspec takes, and how many lone surrogate escapes there were."""
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
