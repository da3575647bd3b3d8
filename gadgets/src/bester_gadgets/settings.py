"""Reads a gadget's settings: a TOML file, or JSON by its ending, checked whole, with all its errors at once."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from bester.errors import InvalidName
from bester.protocol.names import RESERVED_TYPES, type_name
from bester.protocol.values import decode_text

MAX_FILE_BYTES = 1024 * 1024


class Settings(BaseModel):
    """The base of every gadget's settings; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def handled_type(text: str) -> str:
    """Returns the name of a type that a handler may have; for validators.

    Raises:
        ValueError: it is no type's name, or the server's own type.
    """
    if text in RESERVED_TYPES:
        raise ValueError(f"the type {text} is the server's own")
    try:
        return type_name(text)
    except InvalidName as error:
        raise ValueError(error.message) from error


def reason(error: Exception) -> str:
    """Returns why a file or a socket cannot be used, without a number and without its name once more."""
    return getattr(error, "strerror", None) or str(error)


class SettingsError(Exception):
    """The settings are wrong; the text has a line for each error: key path, what is wrong, what is allowed."""


S = TypeVar("S", bound=Settings)


def read_settings(path: Path, model: type[S]) -> S:
    """Returns the checked settings of a file; validators find the file's folder in their ``info.context``.

    Raises:
        SettingsError: it cannot be read, or is wrong; the text never shows a value, which may be a secret.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise SettingsError(f"{path}: it is larger than {MAX_FILE_BYTES} bytes")
        text = content.decode()
        tree = decode_text(text) if path.suffix in (".json", ".conf") else tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except ValueError as error:
        raise SettingsError(f"{path}: {error}") from error
    try:
        return model.model_validate(tree, context=path.parent)
    except ValidationError as error:
        lines = (f"{'.'.join(map(str, one['loc'])) or '(top level)'}: {_what(one)}" for one in error.errors())
        raise SettingsError("\n".join(lines)) from error


def _what(error: ErrorDetails) -> str:
    """Says what is wrong, in the words of our validators, or in pydantic's where they are for people."""
    match error["type"]:
        case "value_error":
            return str(error["ctx"]["error"])
        case "extra_forbidden":
            return "there is no such key"
        case "missing":
            return "it is missing"
        case _:
            return error["msg"]
