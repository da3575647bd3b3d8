"""The types of values in a configuration, and functions that create its fields.

Each field carries its meaning and a description of the allowed values. Error messages and docs/configuration.md are
both made from these, so neither can contradict the checks.
"""

from __future__ import annotations

import re
import socket
import unicodedata
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic.alias_generators import to_camel

from bester.errors import BesterError
from bester.protocol.addresses import parse_address
from bester.protocol.names import RESERVED_TYPES

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_][a-z0-9_-]{0,62})*\Z")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}\Z")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Block(BaseModel):
    """One object of the file: frozen, strict about types, camelCase in the file and snake_case in Python.

    Unknown keys never reach it: they are removed before, with a warning.
    """

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        validate_default=True,
        hide_input_in_errors=True,
        defer_build=True,
    )


# -- fields -------------------------------------------------------------------------------------------------------


def field(default: object, meaning: str, allowed: str, **more: Any) -> Any:
    """Creates a field; ``...`` as its default means that it is required.

    Optional metadata: ``item`` and ``key`` (the allowed entries of a list and names of an object), ``name`` (the
    placeholder for an entry's name in the documentation), ``default_text`` (replaces the default in the
    documentation), ``secret`` (the value is never shown), ``internal`` (not a key of the file).
    """
    extra: dict[str, Any] = {"allowed": allowed, **more}
    return Field(default, description=meaning, json_schema_extra=extra, repr=not extra.get("secret", False))


def block(meaning: str, alias: str | None = None) -> Any:
    """Creates a field for an object that has all its defaults if the file does not have it.

    ``alias`` is its key, where that is a word of Python's.
    """
    # A dict and not the block itself: only validated values get their paths resolved.
    return Field(default_factory=dict, alias=alias, description=meaning, json_schema_extra={"allowed": "an object"})


def optional_block(meaning: str) -> Any:
    """Creates a field for an object that is None if the file does not have it."""
    return field(None, meaning, "an object")


def _number(default: float | None, low: float, high: float, meaning: str, allowed: str, **more: Any) -> Any:
    extra: dict[str, Any] = {"allowed": allowed, **more}
    return Field(default, ge=low, le=high, allow_inf_nan=False, description=meaning, json_schema_extra=extra)


def seconds(default: float | None, low: float, high: float, meaning: str, **more: Any) -> Any:
    """Creates a field for a duration in seconds, which may have a fraction."""
    return _number(default, low, high, meaning, f"a number of seconds from {low} to {high}", **more)


def count(default: int | None, low: int, high: int, things: str, meaning: str, **more: Any) -> Any:
    """Creates a field for a whole number of ``things``."""
    of = f" of {things}" if things else ""
    extra: dict[str, Any] = {"allowed": f"a whole number{of} from {low} to {high}", **more}
    return Field(default, ge=low, le=high, description=meaning, json_schema_extra=extra)


def rate(default: float, low: float, high: float, things: str, meaning: str) -> Any:
    """Creates a field for a number of ``things``, which may have a fraction."""
    return _number(default, low, high, meaning, f"a number of {things} from {low} to {high}")


def share(default: float, meaning: str) -> Any:
    """Creates a field for a share, from 0 to 1."""
    return _number(default, 0, 1, meaning, "a number from 0 to 1")


def size(default: int, low: int, high: int, meaning: str) -> Any:
    """Creates a field for a whole number of bytes."""
    allowed = f"a whole number of bytes from {low}{binary(low)} to {high}{binary(high)}"
    extra: dict[str, Any] = {"allowed": allowed, "default_text": f"`{default}`{binary(default)}"}
    return Field(default, ge=low, le=high, description=meaning, json_schema_extra=extra)


def port(default: object, meaning: str, low: int = 0) -> Any:
    """Creates a field for a port, to be annotated with :data:`Port`."""
    extra: dict[str, Any] = {"allowed": f"a port number from {low} to 65535"}
    return Field(default, ge=low, le=65535, description=meaning, json_schema_extra=extra)


def path(default: object, meaning: str, allowed: str = "a path of at least one character") -> Any:
    """Creates a field for a path, to be annotated with :data:`FilePath`."""
    return field(default, meaning, allowed)


def binary(number: int) -> str:
    """Returns a number of bytes in its largest binary unit, in brackets, or ``""`` if it is no multiple of one."""
    for unit, name in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if number and number % unit == 0:
            return f" ({number // unit} {name})"
    return ""


# -- types --------------------------------------------------------------------------------------------------------


def _resolved(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, (str, Path)):
        return value
    if not str(value) or "\0" in str(value):
        raise ValueError
    base: Path | None = (info.context or {}).get("base")
    return base / value if base is not None else Path(value)


def _port_number(value: object) -> object:
    # The founding configurations have ports as texts.
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 5:
        return int(value)
    return value


def is_server_name(text: str) -> bool:
    """Returns whether a lower-case text can be a server's name."""
    return _HOST.match(text) is not None


def _server_name(text: str) -> str:
    if not is_server_name(text.lower()):
        raise ValueError
    return text.lower()


def _type_name(text: str) -> str:
    if not 0 < len(text) <= 128 or text in RESERVED_TYPES or not is_safe_text(text):
        raise ValueError
    return text


def is_safe_text(text: str) -> bool:
    """Returns whether a text has neither control characters nor characters that change the direction of writing."""
    return not any(unicodedata.category(char) == "Cc" or char in _BIDIRECTIONAL for char in text)


def _some_text(text: str) -> str:
    if not text or not is_safe_text(text):
        raise ValueError
    return text


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError
    return text


def _variable(text: str) -> str:
    if not text or "=" in text or "\0" in text:
        raise ValueError
    return text


def _allowed_sender(text: str) -> str:
    if not text.removeprefix("role:") or not is_safe_text(text):
        raise ValueError
    return text


def _fingerprint(text: str) -> str:
    digits = text.lower().removeprefix("sha256:").replace(":", "")
    if not _FINGERPRINT.match(digits):
        raise ValueError
    return digits


def _peer_address(text: str) -> str:
    try:
        parse_address(text)
    except BesterError as error:
        raise ValueError from error
    return text


def _http_url(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname or "@" in url.netloc or not is_safe_text(text):
        raise ValueError
    _ = url.port  # raises a ValueError if it is invalid
    return text


def _header_name(text: str) -> str:
    if not _HEADER_NAME.match(text):
        raise ValueError
    return text


def _header_value(text: str) -> str:
    if not text.isascii() or not text.isprintable() or text != text.strip():
        raise ValueError
    return text


def _is_numeric(family: socket.AddressFamily, text: str) -> bool:
    try:
        socket.inet_pton(family, text)
    except (OSError, ValueError):
        return False
    return True


def _v4(text: str) -> str:
    if not _is_numeric(socket.AF_INET, text):
        raise ValueError
    return text


def _v6(text: str) -> str:
    if not _is_numeric(socket.AF_INET6, text):
        raise ValueError
    return text


def _v4_or_v6(text: str) -> str:
    return _v6(text) if ":" in text else _v4(text)


FilePath = Annotated[Path, BeforeValidator(_resolved)]
"""A path, absolute after a load: a relative path starts at the configuration file's folder."""
Port = Annotated[int, BeforeValidator(_port_number)]
ServerName = Annotated[str, AfterValidator(_server_name)]
"""A server's name, in lower case."""
TypeName = Annotated[str, AfterValidator(_type_name)]
Text = Annotated[str, AfterValidator(_some_text)]
VariableName = Annotated[str, AfterValidator(_variable)]
VariableValue = Annotated[str, AfterValidator(_no_nul)]
AllowedSender = Annotated[str, AfterValidator(_allowed_sender)]
Fingerprint = Annotated[str, AfterValidator(_fingerprint)]
"""A SHA-256 fingerprint as 64 lower-case hexadecimal digits, for any spelling in the file."""
PeerAddress = Annotated[str, AfterValidator(_peer_address)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderValue = Annotated[str, AfterValidator(_header_value)]
V4 = Annotated[str, AfterValidator(_v4)]
V6 = Annotated[str, AfterValidator(_v6)]
V4OrV6 = Annotated[str, AfterValidator(_v4_or_v6)]
