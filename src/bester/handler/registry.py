"""Builds what a running handler needs of a router: each type's function, ready to be called; and the lifespans."""

from __future__ import annotations

import asyncio
import inspect
from collections import abc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from types import TracebackType
from typing import Annotated, Any, get_args, get_origin

from msgspec import UNSET

from bester.handler.annotations import called_function, is_async_stream, item_type, members, value_type
from bester.handler.around import Catch, Wrap, catching, wrapped
from bester.handler.binding import Made, bind, data_parameter, made_for, replied_value
from bester.handler.parts import at_once, closing, in_thread
from bester.handler.registered import Call, Registered
from bester.handler.router import Declared, Router
from bester.protocol.requests import Request


class Registry:
    """The functions of a router and of all that it includes, each bound to what it takes.

    Args:
        router: where they are registered.

    Raises:
        TypeError: a function takes what nothing supplies.
        ValueError: two functions have one type, or two lifespans make one.
    """

    def __init__(self, router: Router) -> None:
        self._functions: dict[str, Registered] = {}
        self.made = Made()
        """What the lifespans made, while they run."""
        self._lifespans = _unique([one for each in router.included() for one in each.lifespans])
        self._known: dict[Any, str] = {}
        for lifespan in self._lifespans:
            kind = item_type(lifespan.signature.returns)
            if kind in self._known:
                raise ValueError(f"{lifespan.signature.name} and {self._known[kind]} make the same type")
            made_for(lifespan.signature, 0, self.made, self._known)
            self._known[kind] = lifespan.signature.name
        self._add(router, "", [])
        self.get = self._functions.get
        """Returns a type's function, or None."""

    @property
    def types(self) -> list[str]:
        return list(self._functions)

    @property
    def dry_types(self) -> list[str]:
        """The types whose functions are called in dry runs."""
        return [type for type, registered in self._functions.items() if registered.dry_run]

    @property
    def features(self) -> list[str]:
        """The features of an attached handler that its functions make use of."""
        every = self._functions.values()
        wanted = {
            "dryRun": any(one.dry_run for one in every),
            "parts": any(one.streams for one in every),
            "cancel": any(one.asynchronous and not one.thread for one in every),
        }
        return [name for name, has in wanted.items() if has]

    @asynccontextmanager
    async def lifespans(self) -> AsyncIterator[None]:
        """Starts the lifespans, and ends them in the opposite order."""
        async with AsyncExitStack() as stack:
            stack.callback(self.made.clear)
            for one in self._lifespans:
                arguments = made_for(one.signature, 0, self.made, self._known)()
                context = _Lifespan(asynccontextmanager(one.function)(*arguments), one.signature.name)
                self.made[item_type(one.signature.returns)] = await stack.enter_async_context(context)
            yield

    # -- to build -----------------------------------------------------------------------------------------------

    def _add(self, router: Router, prefix: str, outer: Sequence[Router]) -> None:
        inner_first = [router, *outer]
        for type, declared in router.functions.items():
            whole = prefix + router.prefix + type
            if whole in self._functions:
                raise ValueError(f"the type {whole!r} has a function already")
            self._functions[whole] = self._registered(declared, inner_first)
        for one in router.routers:
            self._add(one, prefix + router.prefix, inner_first)

    def _registered(self, declared: Declared, routers: Sequence[Router]) -> Registered:
        signature, function = declared.signature, declared.function
        data = data_parameter(signature, self._known)
        call = bind(function, signature, data, self.made)
        streams = _streams(declared)
        kind = item_type(signature.returns) if streams else signature.returns
        value = value_type(kind)
        asynchronous = inspect.iscoroutinefunction(called_function(function)) or declared.thread or streams
        if streams:
            call = _parts(call, declared, _may_be_list(value))
        else:
            if _may_be_list(value):
                call = _replying(call)
            if declared.thread:
                call = _threaded(call)
        around: Callable[[Call], Call] | None = None
        if any(router.wraps or router.catches for router in routers):
            around = self._around(routers)
        if around is not None and not streams:
            call, asynchronous = self._surrounded(call, asynchronous, routers)
        return Registered(
            call=call,
            asynchronous=asynchronous,
            dry_run=all(one.dry_run for one in routers) if declared.dry_run is None else declared.dry_run,
            thread=declared.thread and not streams,
            streams=streams,
            around=around if streams else None,
            data_type=data.kind if data is not None else UNSET,
            answer_type=UNSET if streams else value,
            part_type=value if streams else UNSET,
            doc=inspect.getdoc(function) or "",
            version=declared.version,
            samples=declared.samples,
        )

    def _around(self, routers: Sequence[Router]) -> Callable[[Call], Call]:
        return lambda call: self._surrounded(call, True, routers)[0]

    def _surrounded(self, call: Call, asynchronous: bool, routers: Sequence[Router]) -> tuple[Call, bool]:
        for router in routers:
            if router.catches:
                catches = {kind: self._catch(one) for kind, one in router.catches.items()}
                call = catching(catches, call, asynchronous)
            for one in reversed(router.wraps):
                call, asynchronous = wrapped(self._wrap(one), call), True
        return call, asynchronous

    def _catch(self, declared: Declared) -> Catch:
        further = made_for(declared.signature, 2, self.made, self._known)
        return lambda error, request: declared.function(error, request, *further())

    def _wrap(self, declared: Declared) -> Wrap:
        further = made_for(declared.signature, 2, self.made, self._known)
        return lambda request, call_next: declared.function(request, call_next, *further())


class _Lifespan:
    """A running lifespan, whose errors say which one it is."""

    def __init__(self, context: AbstractAsyncContextManager[Any], name: str) -> None:
        self._context = context
        self._name = name

    async def __aenter__(self) -> Any:
        with self._noting("start"):
            return await self._context.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        with self._noting("end"):
            return await self._context.__aexit__(kind, error, trace)

    @contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            error.add_note(f"at the {what} of the lifespan {self._name}, which must yield once")
            raise


def _unique(lifespans: Sequence[Declared]) -> list[Declared]:
    """Returns each lifespan once: those of a router that is included twice are the same."""
    return list({id(one): one for one in lifespans}.values())


def _streams(declared: Declared) -> bool:
    function = called_function(declared.function)
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        return True
    return is_async_stream(declared.signature.returns) and not inspect.iscoroutinefunction(function)


def _may_be_list(kind: Any) -> bool:
    """Returns whether a value of this type may be a list or a tuple, which is else taken as one of commands."""
    for one in members(kind):
        bare = get_args(one)[0] if get_origin(one) is Annotated else one
        cls = get_origin(bare) or bare
        if isinstance(cls, type) and (issubclass(cls, list | tuple) or cls in _LISTS):
            return True
    return False


_LISTS = (abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable)


def _replying(call: Call) -> Call:
    async def reply_later(result: Awaitable[Any]) -> Any:
        return replied_value(await result)

    def reply(request: Request) -> Any:
        result = call(request)
        return reply_later(result) if hasattr(result, "__await__") else replied_value(result)

    return reply


def _threaded(call: Call) -> Callable[[Request], Awaitable[Any]]:
    return lambda request: asyncio.to_thread(call, request)


def _parts(call: Call, declared: Declared, lists: bool) -> Callable[[Request], AsyncIterator[Any]]:
    if inspect.isgeneratorfunction(called_function(declared.function)):
        iterate: Callable[[Iterator[Any]], AsyncIterator[Any]] = in_thread if declared.thread else at_once
        plain = call
        call = lambda request: iterate(plain(request))  # noqa: E731
    if not lists:
        return call

    async def replying(request: Request) -> AsyncIterator[Any]:
        async with closing(call(request)) as parts:
            async for part in parts:
                yield replied_value(part)

    return replying
