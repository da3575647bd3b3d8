"""What handlers say of their types (docs/protocol.md, section 6.9): texts, JSON Schemas, samples."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

import msgspec
from msgspec import Raw, Struct

from bester.errors import BadArguments

MAX_BYTES = 64 * 1024
"""The largest description of one type, as JSON."""
MAX_ALL_BYTES = 640 * 1024
"""The largest descriptions of one handler together, as JSON with the names of their types."""
MAX_SAMPLES = 16
MAX_VERSION = 128
SCHEMAS = ("request", "answer", "parts")
"""The members that are JSON Schemas."""

_NAME = re.compile(r"[A-Za-z_$][\w$-]*\Z")


class Description(Struct, omit_defaults=True, frozen=True):
    """The description of one type; ``str(schema)`` means nothing: schemas are JSON's own values."""

    description: str | None = None
    version: str | None = None
    request: Any = None
    answer: Any = None
    parts: Any = None
    samples: list[Any] = msgspec.field(default_factory=list)


_by_type = msgspec.json.Decoder(dict[str, Raw] | None)
_description = msgspec.json.Decoder(Description)


def read_descriptions(data: Raw, types: Collection[str]) -> dict[str, Description]:
    """Returns the descriptions of an attach message, by type; whether their schemas are right is not looked at.

    Raises:
        BadArguments: they do not have the form of section 6.9, or describe another type.
    """
    if not len(data):
        return {}
    if len(data) > MAX_ALL_BYTES:
        raise BadArguments(f"describe: has {len(data)} bytes; at most {MAX_ALL_BYTES} are allowed")
    try:
        found = _by_type.decode(data) or {}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadArguments(f"describe: {_cleaned(error)}") from error
    for type in found:
        if type not in types:
            raise BadArguments(f"describe: {type[:128]!a} is none of the types that attach")
    return {type: _read(place("describe", [type]), one) for type, one in found.items()}


def _read(where: str, data: Raw) -> Description:
    if len(data) > MAX_BYTES:
        raise BadArguments(f"{where}: has {len(data)} bytes; at most {MAX_BYTES} are allowed")
    try:
        found = _description.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text, _, path = _cleaned(error).partition(" - at `$")
        raise BadArguments(f"{where}{path.rstrip('`')}: {text}") from error
    if len(found.samples) > MAX_SAMPLES:
        raise BadArguments(f"{where}.samples: has {len(found.samples)}; at most {MAX_SAMPLES} are allowed")
    if len(found.version or "") > MAX_VERSION:
        raise BadArguments(f"{where}.version: has more than {MAX_VERSION} characters")
    for name in SCHEMAS:
        schema = getattr(found, name)
        if schema is not None and not isinstance(schema, dict | bool):
            raise BadArguments(f"{where}.{name}: a JSON Schema is an object, true or false")
    return found


def place(root: str, parts: Iterable[str | int]) -> str:
    """Returns the place of a value within another one, such as ``data.items[0].price``; at most 200 characters."""
    text = root
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if _NAME.match(part) else f"[{part[:64]!a}]"
    return text if len(text) <= 200 else f"{text[:197]}..."


def _cleaned(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):  # all else was UTF-8 before
        return "a lone surrogate escape"
    return str(error).removeprefix("JSON is malformed: ")[:200]
