"""Routers, lifespans, middleware and error handlers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.waiting import PATIENCE_S

from bester import CallNext, Client, Handler, Refuse, Reply, Request, Response, Router
from bester.testing import call, call_async, server

if TYPE_CHECKING:
    from tests.sdk.conftest import Peer


class Database:
    def __init__(self, name: str = "") -> None:
        self.name = name


class Cache:
    def __init__(self, database: Database) -> None:
        self.database = database


# -- lifespans --------------------------------------------------------------------------------------------------


async def test_lifespans_go_around_the_attachment() -> None:
    said: list[str] = []

    async with server() as running:
        handler = Handler(running.handlers_path)

        @handler.lifespan
        async def database() -> AsyncIterator[Database]:
            said.append("database starts")
            yield Database("pears")
            said.append("database ends")

        router = Router()

        @router.lifespan
        async def cache(database: Database) -> AsyncIterator[Cache]:
            said.append("cache starts")
            try:
                yield Cache(database)
            finally:
                said.append("cache ends")

        @router.on("cached")
        async def cached(text: str, cache: Cache) -> str:
            await asyncio.sleep(0.01)
            said.append("handled")
            return f"{text} {cache.database.name}"

        @handler.on("stored")
        def stored(database: Database) -> str:
            return database.name

        handler.include(router)
        async with handler, Client(running.url("t"), features=["replyTo"]) as t:
            assert (await t.ask("cached", "two", timeout=PATIENCE_S)).data == "two pears"
            assert (await t.ask("stored", timeout=PATIENCE_S)).data == "pears"
            asking = asyncio.ensure_future(t.ask("cached", "last", timeout=PATIENCE_S))
            while not (await t.send("stored")).good:
                pass
            await handler.stop()
            assert (await asking).data == "last pears"
    assert said == ["database starts", "cache starts", "handled", "handled", "cache ends", "database ends"]


async def test_a_lifespan_that_fails(peer: Peer) -> None:
    ended = []
    handler = Handler(peer.path)
    handler.on("chat")(lambda message: None)

    @handler.lifespan
    async def first() -> AsyncIterator[Database]:
        try:
            yield Database()
        finally:
            ended.append("first")

    @handler.lifespan
    async def second() -> AsyncIterator[Cache]:
        raise OSError("no cache")
        yield

    with pytest.raises(OSError, match="no cache"):
        await handler.start(PATIENCE_S)
    assert ended == ["first"]
    assert peer.connections == [], "it did not attach"


def test_lifespans_are_given_in_tests() -> None:
    handler = Handler()

    @handler.lifespan
    async def database() -> AsyncIterator[Database]:
        yield Database()

    @handler.on("stored")
    def stored(database: Database) -> str:
        return database.name

    assert call(handler, "stored", given={Database: Database("fake")}) == [Reply("fake")]
    with pytest.raises(Exception, match=r"Database is made by a lifespan.*given=\{Database"):
        call(handler, "stored")


def test_what_does_not_fit_together() -> None:
    handler = Handler()

    with pytest.raises(TypeError, match="must be an async generator"):

        @handler.lifespan
        async def untyped():  # type: ignore[no-untyped-def]
            yield

    @handler.lifespan
    async def cache(database: Database) -> AsyncIterator[Cache]:
        yield Cache(database)

    with pytest.raises(TypeError, match="no lifespan makes `database: Database`; what they make is: nothing"):
        _ = handler.registry
    twice = Handler()
    for _ in range(2):

        @twice.lifespan
        async def database() -> AsyncIterator[Database]:
            yield Database()

    with pytest.raises(ValueError, match="make the same type"):
        _ = twice.registry
    with pytest.raises(TypeError, match="must be async def"):
        twice.middleware(lambda request, call_next: None)
    short = Handler()
    short.on("chat")(lambda message: None)

    @short.error(KeyError)
    def short_one(error: KeyError) -> None: ...

    with pytest.raises(TypeError, match="must take 2 parameters"):
        _ = short.registry


# -- middleware and errors --------------------------------------------------------------------------------------


def make(said: list[Any]) -> Handler:
    handler, router = Handler(), Router("shop.")

    @handler.middleware
    async def outer(request: Request, call_next: CallNext) -> Response:
        said.append(f"outer {request.type}")
        response = await call_next(request)
        said.append(response)
        return response

    @router.middleware
    async def inner(request: Request, call_next: CallNext, database: Database) -> Response:
        said.append(f"inner {database.name}")
        return await call_next(request)

    @handler.lifespan
    async def database() -> AsyncIterator[Database]:
        yield Database("pears")

    @handler.error(LookupError)
    def missing(error: LookupError, request: Request) -> Response:
        raise Refuse(f"no {error.args[0]}", code="shop.unknown")

    @router.error(KeyError)
    async def unknown(error: KeyError, request: Request, database: Database) -> str:
        return f"{database.name}: {error.args[0]}"

    @router.on("plain", "index")
    def plain(name: str) -> str:
        if name == "key":
            raise KeyError("key")
        if name == "index":
            raise IndexError("index")
        return name

    @router.on("async")
    async def asynchronous(name: str) -> Response:
        return Reply(plain(name))

    @router.on("thread", thread=True)
    def thread(name: str) -> str:
        return plain(name)

    @handler.on("outside")
    def outside(name: str) -> str:
        return plain(name)

    handler.include(router)
    return handler


@pytest.mark.parametrize("type", ["shop.plain", "shop.async", "shop.thread"])
def test_routers_have_their_own_around(type: str) -> None:
    said: list[Any] = []
    handler = make(said)
    given = {Database: Database("db")}
    assert call(handler, type, "x", given=given) == [Reply("x")]
    assert said == [f"outer {type}", "inner db", Reply("x")]
    assert call(handler, type, "key", given=given) == [Reply("db: key")]
    with pytest.raises(Refuse, match="no index") as caught:
        call(handler, type, "index", given=given)
    assert caught.value.code == "shop.unknown"
    with pytest.raises(Refuse, match="no key"):
        call(handler, "outside", "key", given=given)


async def test_in_a_loop() -> None:
    assert await call_async(make([]), "shop.async", "x", given={Database: Database()}) == [Reply("x")]


def test_error_handlers_alone_leave_a_plain_function_plain() -> None:
    handler = Handler()

    @handler.error(KeyError, ValueError)
    def unknown(error: Exception, request: Request) -> Response:
        return Reply(f"{type(error).__name__} in {request.type}")

    async def later(message: Request) -> Response:
        raise KeyError

    handler.on("later")(lambda message: later(message))
    handler.on("data")(lambda message: {}[message.data])

    @handler.on("typed")
    def typed(number: int) -> None: ...

    found = handler.registry.get("data")
    assert found is not None
    assert not found.asynchronous
    assert call(handler, "data", 1) == [Reply("KeyError in data")]
    assert call(handler, "later") == [Reply("KeyError in later")]
    assert call(handler, "typed", "x") == [Reply("BadPayload in typed")], "it is a ValueError"


def test_routers() -> None:
    handler, shop, orders = Handler(), Router("shop."), Router("orders.")
    shop.include(orders)
    handler.include(shop)

    @orders.on("add")
    def add(number: int) -> int:
        return number

    assert handler.types == ["shop.orders.add"]
    assert call(orders, "orders.add", 1) == [Reply(1)]
    assert call(handler, "shop.orders.add", 1) == [Reply(1)]
    other = Handler()
    other.include(handler)
    assert other.types == handler.types
    with pytest.raises(ValueError, match="cannot include itself"):
        orders.include(shop)
    with pytest.raises(ValueError, match="needs an exception"):
        orders.error()
    handler.on("shop.orders.add")(lambda message: None)
    with pytest.raises(ValueError, match=r"'shop\.orders\.add' has a function already"):
        _ = handler.registry


def test_a_type_or_an_exception_has_one_function() -> None:
    router = Router("shop.")
    router.on("order")(lambda message: None)
    router.error(KeyError)(lambda error, request: None)
    with pytest.raises(ValueError, match=r"'shop\.order' has a function already"):
        router.on("order")(lambda message: None)
    with pytest.raises(ValueError, match="KeyError has a function already"):
        router.error(KeyError)(lambda error, request: None)
    with pytest.raises(ValueError, match="cannot be handled"):
        router.on("")(lambda message: None)


async def test_a_lifespan_keeps_its_defaults() -> None:
    handler = Handler()
    handler.on("order")(lambda message: None)

    @handler.lifespan
    async def open_it(path: str = "menu.db", mode: str | None = None) -> AsyncIterator[Path]:
        yield Path(path, mode or "")

    registry = handler.registry
    async with registry.lifespans():
        assert registry.made[Path] == Path("menu.db")


def test_an_included_handler_keeps_whether_it_is_called_in_dry_runs() -> None:
    inner, cautious, outer = Handler(), Handler(dry_run=False), Handler()
    inner.on("inner")(lambda message: None)
    inner.on("never", dry_run=False)(lambda message: None)
    cautious.on("cautious")(lambda message: None)
    cautious.on("safe", dry_run=True)(lambda message: None)
    for one in (inner, cautious):
        outer.include(one)
    assert outer.registry.dry_types == ["inner", "safe"]
    around = Handler(dry_run=False)
    around.include(outer)
    assert around.registry.dry_types == ["safe"]
