"""Functions for types, with what belongs to them: lifespans, middleware, error handlers, further routers."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any, TypeVar

from msgspec import UNSET

from bester.handler.annotations import Signature, called_function, item_type, signature_of
from bester.handler.binding import check
from bester.protocol.descriptions import MAX_SAMPLES, MAX_VERSION
from bester.protocol.names import RESERVED_TYPES
from bester.protocol.values import encode_data

F = TypeVar("F", bound=Callable[..., Any])
L = TypeVar("L", bound=Callable[..., AsyncIterator[Any]])


@dataclass(frozen=True, slots=True)
class Declared:
    """A function as it was registered."""

    function: Callable[..., Any]
    signature: Signature
    thread: bool = False
    dry_run: bool | None = None
    version: str = ""
    samples: tuple[Any, ...] = ()


class Router:
    """Functions for types; a :class:`bester.Handler` is a router that runs, and includes others.

    ::

        router = Router("shop.")

        @router.on("order")  # handles shop.order
        def order(order: Order) -> Receipt:
            ...

        handler.include(router)

    Args:
        prefix: put before the types of its functions, and of the routers that it includes.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.dry_run = True
        """Whether functions that do not say so are called in dry runs; not if a router around this one has False."""
        self.functions: dict[str, Declared] = {}
        """By their types, without the prefix."""
        self.lifespans: list[Declared] = []
        self.wraps: list[Declared] = []
        """The middleware, the outermost first."""
        self.catches: dict[type[Exception], Declared] = {}
        """The error handlers."""
        self.routers: list[Router] = []
        """The routers that it includes."""

    def on(
        self,
        *types: str,
        thread: bool = False,
        dry_run: bool | None = None,
        version: str = "",
        samples: Sequence[Any] = (),
    ) -> Callable[[F], F]:
        """Registers the decorated function as the handler of these types.

        Its parameters are supplied by their annotations: :class:`bester.Request`, the sender (:class:`bester.Sender`,
        or :class:`bester.Account` or :class:`bester.Peer` to refuse all others), what a lifespan made; and the data,
        as any type that msgspec or pydantic reads. Data of another type is refused with the reason ``badPayload``. A
        parameter without an annotation takes the request.

        It returns a command, a list of commands, None to send nothing, or a value, which is replied. It may be
        ``async def``; then messages are handled concurrently, and answers are sent as soon as they are ready. A ``def``
        is called in the event loop, in order, so it must be quick. What a generator yields is sent as it comes to a
        client that takes parts, and to all others at the end.

        Args:
            types: the types to handle; without any, the environment's ``BESTER_TYPE``.
            thread: call the ``def`` in a thread, because it takes long or blocks.
            dry_run: whether the function is called in dry runs; None: not if its handler has ``dry_run=False``, or a
                handler that includes it.
            version: of the types, told with the docstring and the schemas of the annotations (docs/schemas.md).
            samples: at most 16 examples of the data, told likewise.

        Raises:
            ValueError: a type has a function already, or cannot be handled; a sample has no JSON form.
            TypeError: nothing can supply one of the parameters; a sample has no JSON form.
        """
        for one in types:
            if not isinstance(one, str):
                raise TypeError(f'on() takes types, as in @handler.on("order"); got {_shown(one)}')
        named = types or tuple(filter(None, (os.environ.get("BESTER_TYPE"),)))
        if not named:
            raise ValueError("on() needs a type, and BESTER_TYPE is not set")

        if len(version) > MAX_VERSION:
            raise ValueError(f"a version has at most {MAX_VERSION} characters")
        if len(samples) > MAX_SAMPLES:
            raise ValueError(f"a type has at most {MAX_SAMPLES} samples; got {len(samples)}")
        for sample in samples:
            encode_data(sample)

        def register(function: F) -> F:
            if not callable(function):
                raise TypeError(f"on() registers a function; got {_shown(function)}")
            signature = signature_of(function, _names_around(function), handles=True)
            check(signature)
            called = called_function(function)
            if thread and (iscoroutinefunction(called) or isasyncgenfunction(called)):
                raise ValueError("thread=True is for a plain function, not for a coroutine function")
            for type in named:
                whole = self.prefix + type
                if not type or whole in RESERVED_TYPES:
                    raise ValueError(f"the type {whole!r} cannot be handled: it is empty, or belongs to the protocol")
                if type in self.functions:
                    raise ValueError(f"the type {whole!r} has a function already")
                self.functions[type] = Declared(function, signature, thread, dry_run, version, tuple(samples))
            return function

        return register

    def lifespan(self, function: L) -> L:
        """Registers an async generator that yields once: what it makes, for parameters annotated with its type.

        ::

            @handler.lifespan
            async def database() -> AsyncIterator[Database]:
                async with connect() as database:
                    yield database

        It starts before the handler attaches, and goes on when nothing is outstanding any more. Lifespans start in
        their order, and end in the opposite one. One may take what earlier ones made.

        Raises:
            TypeError: it is no async generator, or its return annotation does not name the type.
        """
        signature = signature_of(function, _names_around(function))
        makes: bool = isasyncgenfunction(function)
        if not makes or item_type(signature.returns) is UNSET:
            raise TypeError(
                f"{signature.name} must be an async generator with its type: async def ... -> AsyncIterator[T]"
            )
        self.lifespans.append(Declared(function, signature))
        return function

    def middleware(self, function: F) -> F:
        """Registers a coroutine function that is called around each message; the first one is the outermost.

        ::

            @handler.middleware
            async def timed(request: Request, call_next: CallNext) -> Response:
                start = perf_counter()
                try:
                    return await call_next(request)
                finally:
                    print(request.type, perf_counter() - start)

        Further parameters take what lifespans made.

        Raises:
            TypeError: it is no coroutine function.
        """
        signature = signature_of(function, _names_around(function))
        if not iscoroutinefunction(function):
            raise TypeError(f"{signature.name} must be async def: middleware awaits call_next(request)")
        self.wraps.append(Declared(function, signature))
        return function

    def error(self, *kinds: type[Exception]) -> Callable[[F], F]:
        """Registers the function that answers a message whose function raised one of these exceptions.

        ::

            @handler.error(KeyError)
            def unknown(error: KeyError, request: Request) -> Response:
                raise Refuse("there is no such thing", code="shop.unknown")

        It returns what functions return, or raises; the handler of the nearest class is called. Further parameters
        take what lifespans made.

        Raises:
            ValueError: an exception has a function already.
        """
        if not kinds:
            raise ValueError("error() needs an exception")
        for kind in kinds:
            if not (isinstance(kind, type) and issubclass(kind, Exception)):
                raise TypeError(
                    f"error() takes classes of Exception, as in @handler.error(KeyError); got {_shown(kind)}"
                )

        def register(function: F) -> F:
            signature = signature_of(function, _names_around(function))
            for kind in kinds:
                if kind in self.catches:
                    raise ValueError(f"the exception {kind.__name__} has a function already")
                self.catches[kind] = Declared(function, signature)
            return function

        return register

    def include(self, router: Router) -> None:
        """Adds all that a router has, now or later; its middleware and error handlers are for its own types alone.

        Raises:
            ValueError: the router includes this one.
        """
        if self in router.included():
            raise ValueError("a router cannot include itself")
        self.routers.append(router)

    def included(self) -> list[Router]:
        """Returns this router and all that it includes, depth first."""
        found = [self]
        for router in self.routers:
            found += router.included()
        return found


def _shown(value: object) -> str:
    return getattr(value, "__qualname__", None) or f"{value!r:.100}"


def _names_around(function: Any) -> Mapping[str, Any]:
    """Returns the local names of the function that registers another one, which the other's annotations may use."""
    frame = sys._getframe(2)
    own = getattr(function, "__globals__", None)
    return frame.f_locals if own is frame.f_globals and frame.f_locals is not own else {}
