"""Decodes one frame's JSON as strictly as docs/protocol.md, section 1, asks, and leaves ``data`` as it came.

msgspec does the work; what it does not do is added around it:

- ``msgspec.Raw`` takes invalid UTF-8, so the whole body is checked first;
- nesting is bounded by our own limit, before the decoder recurses;
- a lone surrogate escape (``"\\ud800"``) is refused by msgspec everywhere, but allowed inside ``data``: on this rare
  path the body is decoded with the escapes spelled as other characters, and the original bytes are put back;
- a repeated key's last value counts, also where an earlier one has the wrong type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, TypeVar

import msgspec

from bester.errors import Malformed

MAX_DEPTH = 128
EXTRA_DEPTH = 8
"""How much deeper frames from handlers and on links may be, since they wrap what a client sent."""

T = TypeVar("T")

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_ESCAPE = re.compile(
    rb"\\(?:(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|u([dD])([89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_MAPPING = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])


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
        return _decode_last_keys(decoder, body)
    except (msgspec.DecodeError, RecursionError) as error:
        return _decode_lone_surrogates(decoder, body, error, partly)


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
    brackets = _STRING.sub(b"", body).translate(None, _NOT_BRACKETS)
    if any(depth > max_depth for depth in accumulate(map(_STEP.__getitem__, brackets))):
        raise Malformed(f"nested more than {max_depth} levels deep")


def _malformed(error: Exception) -> Malformed:
    text = str(error) if isinstance(error, msgspec.DecodeError) else "nested too deep"
    return Malformed(text.removeprefix("JSON is malformed: ")[:200])


def _decode_last_keys(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decodes; tries again with each repeated key's last value only, where the type does not fit."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        try:
            return decoder.decode(msgspec.json.encode(_last_keys(body)))
        except (msgspec.DecodeError, RecursionError):
            raise error from None


def _last_keys(body: bytes | msgspec.Raw, levels: int = 4) -> dict[str, Any]:
    """Returns an object with each key's last value; no message has more ``levels`` of objects outside its data."""
    fields: dict[str, Any] = _MAPPING.decode(body)
    for key in ("header", "payload", "authentication", "command", "commands"):
        value = fields.get(key)
        if value is not None and levels > 1:
            fields[key] = _last_keys_in(value, levels - 1)
    return fields


def _last_keys_in(value: msgspec.Raw, levels: int) -> Any:
    opening = bytes(memoryview(value)[:1])
    if opening == b"[":
        return [_last_keys_in(item, levels) for item in _LIST.decode(value)]
    return _last_keys(value, levels) if opening == b"{" else value


def _decode_lone_surrogates(decoder: msgspec.json.Decoder[T], body: bytes, error: Exception, partly: bool) -> T:
    """Tries again with lone surrogate escapes allowed inside ``data``."""
    if b"\\u" not in body:
        raise _malformed(error) from error
    # Any block of the plane will do whose escapes the body does not use itself, so that they can be told apart.
    used = {match[0][2:3].lower() for match in re.finditer(rb"\\u[0-9a-fA-F][89a-fA-F]", body)}
    spare = next((digit for digit in (b"e", b"a", b"b", b"c", b"9", b"8", b"7", b"6", b"5") if digit not in used), None)
    if spare is None:
        raise _malformed(error) from error
    lower, upper = b"\\u" + spare, b"\\u" + spare.upper()
    # A digit has no upper case: the case of the "d" is then told by the next unused digit.
    if lower == upper:
        upper = next((b"\\u" + digit for digit in (b"4", b"3", b"2", b"1") if digit not in used), b"")
    lone = 0

    def hide(match: re.Match[bytes]) -> bytes:
        nonlocal lone
        if match[2] is None:
            return match[0]
        lone += 1
        return (lower if match[2] == b"d" else upper) + match[3]

    hidden = _ESCAPE.sub(hide, body)
    if not lone or not upper:
        raise _malformed(error) from error
    shown = re.compile(b"(?:" + re.escape(lower) + b"|" + re.escape(upper) + rb")(?=[89a-fA-F][0-9a-fA-F]{2})")

    def show(data: msgspec.Raw) -> msgspec.Raw:
        nonlocal lone
        text, count = shown.subn(lambda match: b"\\ud" if match[0] == lower else b"\\uD", bytes(data))
        lone -= count
        return msgspec.Raw(text)

    try:
        message = _decode_last_keys(decoder, hidden)
    except (msgspec.DecodeError, RecursionError):
        raise _malformed(error) from error
    for owner in _with_data(message):
        owner.data = show(owner.data)
    if lone and not partly:
        raise Malformed("a lone surrogate escape outside of data") from error
    return message


def _with_data(value: Any) -> Iterator[Any]:
    """Yields every struct within ``value`` that has raw ``data``."""
    if isinstance(value, list):
        for item in value:
            yield from _with_data(item)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            item = getattr(value, name)
            if name == "data" and isinstance(item, msgspec.Raw):
                if len(item):
                    yield value
            else:
                yield from _with_data(item)
