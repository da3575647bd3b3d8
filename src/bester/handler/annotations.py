"""Reads a function's signature: what it takes and what it returns, with the names in its annotations resolved."""

from __future__ import annotations

import inspect
import sys
from collections import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import or_
from types import FunctionType, MethodType, NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from msgspec import UNSET

from bester.protocol.commands import Command
from bester.protocol.requests import Request

_EMPTY = inspect.Parameter.empty
_STREAMS = {
    abc.AsyncIterator,
    abc.AsyncIterable,
    abc.AsyncGenerator,
    abc.Iterator,
    abc.Iterable,
    abc.Generator,
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter that is given something."""

    name: str
    kind: Any
    """The annotation; ``UNSET`` if there is none."""
    keyword: bool
    """Whether it must be given by its name."""

    def __str__(self) -> str:
        return self.name if self.kind is UNSET else f"{self.name}: {shown(self.kind)}"


@dataclass(frozen=True, slots=True)
class Signature:
    """A function's parameters and return annotation."""

    parameters: Sequence[Parameter]
    """Without those that have a default, which they keep, but for the request and the first one of a handler."""
    returns: Any
    """``UNSET`` if there is none."""
    name: str
    """The function's name and place, for errors."""


def signature_of(function: Callable[..., Any], local_names: Mapping[str, Any], handles: bool = False) -> Signature:
    """Returns the signature of a function.

    Args:
        function: any callable; one that shows no signature takes a single argument.
        local_names: names that annotations may use besides those that the function sees, and before them.
        handles: whether it handles messages: its first parameter then takes something in spite of a default.

    Raises:
        TypeError: the function has ``*args`` or ``**options``, an annotation that names nothing, or a default in vain.
    """
    name = _name(function)
    try:
        found = _inspected(function)
    except (TypeError, ValueError):  # written in C
        return Signature([Parameter("message", UNSET, False)], UNSET, name)
    names = {**_globals(function), **local_names}
    parameters: list[Parameter] = []
    kept: list[inspect.Parameter] = []
    for one in found.parameters.values():
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            raise TypeError(
                f"{name} has the parameter {one}, for which there is nothing to give; name its parameters"
                " (a decorator shows those of the function within if it uses functools.wraps)"
            )
        first = handles and not (parameters or kept) and one.kind is not one.KEYWORD_ONLY
        if first or one.default is _EMPTY or one.annotation in (Request, "Request"):
            kind = _resolved(one.annotation, names, f"{name}: the annotation of {one.name}")
            parameters.append(Parameter(one.name, kind, one.kind is one.KEYWORD_ONLY))
        else:
            kept.append(one)
    if handles and not any(one.kind is UNSET or one.kind is Request for one in parameters):
        for one in kept:
            if one.default is None and one.annotation is not _EMPTY:
                raise TypeError(f"{name}: the parameter {one} would always be None; leave out its default")
    returns = _resolved(found.return_annotation, names, f"{name}: the return annotation")
    return Signature(parameters, returns, name)


def _inspected(function: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        try:
            return inspect.signature(function)
        except NameError:  # a name that is imported for type checkers alone, or not yet
            return inspect.signature(function, annotation_format=Format.STRING)
    return inspect.signature(function)


def _resolved(annotation: Any, names: dict[str, Any], where: str) -> Any:
    if annotation is _EMPTY:
        return UNSET
    try:
        hints = get_type_hints(SimpleNamespace(__annotations__={"it": annotation}), names, names, include_extras=True)
    except Exception as error:  # an annotation is any expression
        text = annotation if isinstance(annotation, str) else shown(annotation)
        if text.rpartition(".")[2] in ("Request", "Response"):  # imported only for type checkers, most likely
            return UNSET
        raise TypeError(
            f"{where}, {text!r:.200}, cannot be resolved ({type(error).__name__}: {error}); "
            "import its names outside of TYPE_CHECKING, before the function is registered"
        ) from error
    return hints["it"]


def _globals(function: Any) -> dict[str, Any]:
    """Returns the names that a function sees, of the function itself and not of a wrapper."""
    while True:
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, MethodType):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif isinstance(function, FunctionType):
            closure = inspect.getclosurevars(function).nonlocals if function.__closure__ else {}
            return {**function.__globals__, **closure}
        elif isinstance(getattr(type(function), "__call__", None), FunctionType):  # noqa: B004 (not whether it has one)
            function = type(function).__call__
        else:
            return {}


def called_function(function: Any) -> Any:
    """Returns what a call runs: of an object that has ``__call__``, that method; of a partial, what it completes."""
    while isinstance(function, partial):
        function = function.func
    if isinstance(function, type | FunctionType | MethodType) or not hasattr(function, "__call__"):  # noqa: B004
        return function
    return type(function).__call__


def _name(function: Any) -> str:
    name = getattr(function, "__qualname__", None) or repr(function)
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code is not None else str(name)


def shown(kind: Any) -> str:
    """Returns a type as one writes it."""
    return kind.__qualname__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace("typing.", "")


def members(kind: Any) -> tuple[Any, ...]:
    """Returns the members of a union; those of any other type are itself."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def item_type(kind: Any) -> Any:
    """Returns the type of the items of an annotated iterator; ``UNSET`` if it does not say."""
    found = get_args(kind)
    return found[0] if get_origin(kind) in _STREAMS and found else UNSET


def is_async_stream(kind: Any) -> bool:
    """Returns whether an annotation is one of an async iterator."""
    return (get_origin(kind) or kind) in (abc.AsyncIterator, abc.AsyncIterable, abc.AsyncGenerator)


def value_type(kind: Any) -> Any:
    """Returns what a return annotation has besides commands and None; ``UNSET`` if there is nothing else."""
    values = [one for one in members(kind) if not _is_response(one)]
    return reduce(or_, values) if values and len(values) < len(members(kind)) else kind if values else UNSET


def _is_response(kind: Any) -> bool:
    if kind in (UNSET, None, NoneType, Any, object):
        return True
    origin = get_origin(kind)
    if origin is Annotated:
        return _is_response(get_args(kind)[0])
    if origin in (list, tuple, abc.Sequence):
        return any(_is_command(one) for item in get_args(kind) for one in members(item))
    return _is_command(kind)


def _is_command(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Command)
