"""Binds a function to what it takes, once: what comes out takes a request alone.

A parameter takes, by its annotation, the :class:`bester.Request` (so does one without annotation), the sender, what a
lifespan made, or else the data. Parameters that have a default keep it, but for one of the request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, get_args, get_origin

from msgspec import UNSET

from bester.handler.annotations import Parameter, Signature, shown
from bester.handler.payload import data_reader
from bester.handler.registered import Call
from bester.handler.senders import Account, Peer, sender_kinds, sender_reader
from bester.protocol.commands import Command, Reply, Response
from bester.protocol.requests import Request, Sender

_PLAIN = (str, int, float, bool, bytes, list, dict, tuple, set, frozenset)
"""Types that only data has: no lifespan makes one."""


class NotMade(Exception):
    """A function needs what a lifespan makes, and the lifespan has not started."""


class Made(dict[Any, Any]):
    """What the lifespans of a running handler made, by its type."""

    def __missing__(self, kind: Any) -> Any:
        raise NotMade(
            f"{shown(kind)} is made by a lifespan, which has not started; in a test of a function alone, give it: "
            f"call(..., given={{{shown(kind)}: ...}})"
        )


Source = Callable[[Request], Any]


def check(signature: Signature) -> None:
    """Makes sure that some set of lifespans could supply a function's parameters.

    Raises:
        TypeError: none can.
    """
    plain = [one for one in signature.parameters if (get_origin(one.kind) or one.kind) in _PLAIN]
    if len(plain) > 1:
        raise TypeError(_two(signature, plain))
    senders = [one for one in signature.parameters if sender_kinds(one.kind) is not None]
    requests = [one for one in signature.parameters if one.kind is UNSET or one.kind is Request]
    for what, found in (("the sender", senders), ("the request", requests)):
        if len(found) > 1:
            raise TypeError(f"{signature.name} takes {what} twice: {_listed(found)}")


def data_parameter(signature: Signature, made: Mapping[Any, str]) -> Parameter | None:
    """Returns the parameter that takes the data, or None.

    Args:
        signature: the function's.
        made: the types of what lifespans make.

    Raises:
        TypeError: there are several.
    """
    found = [one for one in signature.parameters if not (_is_known(one.kind) or _is_made(one.kind, made))]
    if len(found) > 1:
        raise TypeError(_two(signature, found))
    return found[0] if found else None


def _is_known(kind: Any) -> bool:
    return kind is UNSET or kind is Request or sender_kinds(kind) is not None


def _is_made(kind: Any, made: Mapping[Any, str]) -> bool:
    return any(kind == one for one in made)  # not every annotation has a hash


def _two(signature: Signature, found: Sequence[Parameter]) -> str:
    return (
        f"{signature.name} has {len(found)} parameters for the data, {_listed(found)}; a message has one. "
        "What a lifespan makes is given to parameters of exactly the type that its return annotation names"
    )


def _listed(found: Sequence[Parameter]) -> str:
    return ", ".join(f"`{one}`" for one in found)


def bind(function: Callable[..., Any], signature: Signature, data: Parameter | None, made: Made) -> Call:
    """Returns the function that takes a request alone: the function itself, if that is all it takes.

    Raises:
        TypeError: nothing can supply one of its parameters.
    """
    sources = [_source(signature, one, one is data, made) for one in signature.parameters]
    by_name = {one.name: source for one, source in zip(signature.parameters, sources, strict=True) if one.keyword}
    by_place = [source for one, source in zip(signature.parameters, sources, strict=True) if not one.keyword]
    if by_name:
        return lambda request: function(
            *[source(request) for source in by_place], **{name: source(request) for name, source in by_name.items()}
        )
    match by_place:
        case []:
            return lambda request: function()
        case [only] if only is _request:
            return function
        case [only]:
            return lambda request: function(only(request))
        case [first, second]:
            return lambda request: function(first(request), second(request))
        case _:
            return lambda request: function(*[source(request) for source in by_place])


def _request(request: Request) -> Request:
    return request


def _source(signature: Signature, parameter: Parameter, is_data: bool, made: Made) -> Source:
    kind = parameter.kind
    if kind is UNSET or kind is Request:
        return _request
    if not is_data:
        senders = sender_kinds(kind)
        return sender_reader(senders) if senders is not None else lambda request: made[kind]
    try:
        if _is_the_servers(kind):
            raise TypeError("what the server says of a message is never read from its data")
        return data_reader(kind)
    except TypeError as error:
        raise TypeError(
            f"{signature.name}: nothing supplies the parameter `{parameter}`: it is neither a Request, the sender, "
            f"nor what a lifespan makes, and no data can be read as it ({error})"
        ) from error


def _is_the_servers(kind: Any) -> bool:
    """Returns whether a sender or a request is part of a type."""
    own = isinstance(kind, type) and issubclass(kind, Request | Sender | Account | Peer)
    return own or any(map(_is_the_servers, get_args(kind)))


def made_for(signature: Signature, skipped: int, made: Made, known: Mapping[Any, str]) -> Callable[[], list[Any]]:
    """Returns the function that returns the further arguments of middleware and the like: what lifespans made.

    Args:
        signature: of the middleware, error handler or lifespan.
        skipped: how many parameters are given otherwise.
        made: what was made.
        known: the types of what lifespans make.

    Raises:
        TypeError: the function has too few parameters, or one of them is nothing that a lifespan makes.
    """
    if len(signature.parameters) < skipped:
        raise TypeError(f"{signature.name} must take {skipped} parameters at least")
    further = signature.parameters[skipped:]
    for one in further:
        if not _is_made(one.kind, known):
            makes = ", ".join(map(shown, known)) or "nothing"
            raise TypeError(f"{signature.name}: no lifespan makes `{one}`; what they make is: {makes}")
    wanted = [one.kind for one in further]
    return lambda: [made[kind] for kind in wanted]


def replied(value: object) -> Response:
    """Returns a function's result as a response: a value that is no command becomes a reply of it."""
    if value is None or isinstance(value, Command | list | tuple):
        return cast("Response", value)
    return Reply(value)


def replied_value(value: object) -> Response:
    """Returns the result of a function whose annotation has a value: a list is one too, unless commands are in it."""
    if value is None or isinstance(value, Command):
        return value
    if isinstance(value, list | tuple) and value and isinstance(value[0], Command):
        return value
    return Reply(value)
