"""Reads the data of a request as the type of a function's parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import msgspec
from msgspec import inspect as kinds

from bester.protocol.refusals import MAX_TEXT, BadPayload
from bester.protocol.requests import Request
from bester.protocol.values import decode_data
from bester.protocol.withdata import faults, read_inner


def data_reader(kind: Any) -> Callable[[Request], Any]:
    """Returns the function that reads a request's data; it raises :class:`BadPayload` for data of another type.

    Raises:
        TypeError: the type has no JSON form.
    """
    if kind is Any or kind is object:
        return lambda request: request.data
    if is_model(kind):
        return _model_reader(kind)
    try:
        known = kinds.type_info(kind)
        decode = msgspec.json.Decoder(kind, dec_hook=read_inner).decode
    except Exception as error:  # msgspec raises TypeError, ValueError, and what an annotation within the type raises
        raise TypeError(str(error)) from error
    if isinstance(known, kinds.CustomType):
        raise TypeError("JSON has no form for it")

    def read(request: Request) -> Any:
        try:
            return decode(request.raw)
        except msgspec.ValidationError as error:
            raise BadPayload(_told(error)) from error
        except msgspec.DecodeError:  # msgspec does not hold every number and every text that JSON has
            return _convert(request, kind)

    return read


def _told(error: Exception) -> str:
    """Returns the text of an error, with whole places: msgspec puts that of a model behind those within the model."""
    text = str(error)
    if isinstance(error.__cause__, ValueError):  # what read_inner raised
        found, _, outer = text.rpartition(" - at `$")
        text = found.replace(" - at `$", f" - at `${outer[:-1]}") if found else text
    return text[:MAX_TEXT]


def _convert(request: Request, kind: Any) -> Any:
    try:
        return msgspec.convert(decode_data(request.raw), kind, dec_hook=read_inner)
    except ValueError as error:
        raise BadPayload(_told(error)) from error


def is_model(kind: Any) -> bool:
    """Returns whether a type is for pydantic: a model, or a constraint of pydantic's, is part of it.

    Models that are fields of Structs and dataclasses do not count: msgspec reads those.
    """
    if hasattr(kind, "model_validate_json"):
        return True
    constraints = getattr(kind, "__metadata__", ())
    return any(type(one).__module__.partition(".")[0] in _PYDANTIC for one in constraints) or any(
        map(is_model, get_args(kind))
    )


_PYDANTIC = ("pydantic", "annotated_types")


def _model_reader(kind: Any) -> Callable[[Request], Any]:
    from pydantic import TypeAdapter, ValidationError  # loaded already: the annotation needs it
    from pydantic.errors import PydanticUserError

    try:
        validate = TypeAdapter(kind).validate_json
    except PydanticUserError as error:
        raise TypeError(str(error.message).partition("\n")[0]) from error

    def read(request: Request) -> Any:
        try:
            return validate(bytes(request.raw))
        except ValidationError as error:
            raise BadPayload(faults(error)[:MAX_TEXT]) from error

    return read
