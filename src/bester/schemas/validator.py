"""JSON Schemas: whether one is right, and whether data fits it. The extra ``schema`` brings what looks (jsonschema-rs).

Schemas come from handlers, and so are bounded: nothing outside of a schema is fetched, and a ``pattern`` that cannot be
matched in a limited time does not match.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from bester.errors import BadPayload
from bester.protocol.descriptions import place
from bester.protocol.messages import Data
from bester.protocol.values import decode_data

MAX_TEXT = 300
"""The longest text about what is wrong, in characters."""
_PATTERN_BYTES = 1 << 20
_PATTERN_STEPS = 10_000
_VALUE = "the value"


class BadSchema(ValueError):
    """A JSON Schema that is none, or is not allowed here."""


class Validator:
    """Judges data by one schema; a call returns why it is refused, or None if it fits.

    Raises:
        BadSchema: the schema is wrong.
    """

    def __init__(self, schema: Any, where: str) -> None:
        library = import_module("jsonschema_rs")
        self._error = library.ValidationError
        try:
            patterns = library.FancyRegexOptions(
                backtrack_limit=_PATTERN_STEPS, size_limit=_PATTERN_BYTES, dfa_size_limit=_PATTERN_BYTES
            )
            made = library.validator_for(schema, mask=_VALUE, offline=True, pattern_options=patterns)
        except library.ValidationError as error:
            raise BadSchema(f"{place(where, error.instance_path)}: {error.message}"[:MAX_TEXT]) from error
        self._fits = made.is_valid
        self._validate = made.validate

    def __call__(self, data: Data) -> BadPayload | None:
        try:
            value = decode_data(data)
            if self._fits(value):
                return None
            self._validate(value)
        except self._error as error:
            return BadPayload(f"{place('data', error.instance_path)}: {error.message}"[:MAX_TEXT])
        except UnicodeEncodeError:
            return BadPayload("data: a lone surrogate escape cannot be judged")
        except (ValueError, RecursionError) as error:
            return BadPayload(f"data: {error}"[:MAX_TEXT])
        return None


def can_validate() -> bool:
    """Whether the extra ``schema`` is installed."""
    return find_spec("jsonschema_rs") is not None
