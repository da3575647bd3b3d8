"""Functions whose parameters are supplied by their annotations."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest
from msgspec import UNSET, Meta, Raw, Struct
from pydantic import BaseModel, Field

from bester import Account, Done, Handler, Peer, Refuse, Reply, Request, Response, SendClients, Sender
from bester.handler.registry import Registry
from bester.testing import call

if TYPE_CHECKING:
    from decimal import Decimal


class Order(Struct):
    dish: str
    size: Annotated[int, Meta(ge=1, le=10)] = 1


class Cancelled(Struct, tag="cancelled"):
    order: int


class Changed(Struct, tag="changed"):
    order: int
    size: int


@dataclass
class Ticket:
    number: int
    note: str = ""


class Seat(TypedDict):
    row: int


class Point(NamedTuple):
    x: int
    y: int


class Guest(BaseModel):
    name: str = Field(min_length=1)
    age: int = 0


class Receipt(Struct):
    ordered: str


SAMPLES: list[tuple[Any, Any, Any]] = [
    (Order, {"dish": "pizza"}, Order("pizza")),
    (Ticket, {"number": 1}, Ticket(1)),
    (Seat, {"row": 1}, {"row": 1}),
    (Point, [1, 2], Point(1, 2)),
    (str, "a", "a"),
    (int, 1, 1),
    (list[int], [1], [1]),
    (dict[str, int], {"a": 1}, {"a": 1}),
    (dict, {"a": 1}, {"a": 1}),
    (Order | None, None, None),
    (Cancelled | Changed, {"type": "changed", "order": 1, "size": 2}, Changed(1, 2)),
    (Annotated[str, Meta(max_length=3)], "abc", "abc"),
    (Literal["a", "b"], "a", "a"),
    (Guest, {"name": "ann"}, Guest(name="ann")),
    (list[Guest], [{"name": "ann"}], [Guest(name="ann")]),
    (Guest | int, {"name": "ann"}, Guest(name="ann")),
    (Any, {"a": [1]}, {"a": [1]}),
]


@pytest.mark.parametrize(("kind", "data", "expected"), SAMPLES, ids=str)
def test_data_of_every_kind(kind: Any, data: object, expected: object) -> None:
    got = []

    def function(data: Any) -> None:
        got.append(data)

    function.__annotations__["data"] = kind
    handler = Handler()
    handler.on("order")(function)
    assert call(handler, "order", data) == []
    assert got == [expected]


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        (Order, {"dish": "pizza", "size": 11}, "Expected `int` <= 10 - at `$.size`"),
        (Order, {"dish": 1}, "Expected `str`, got `int` - at `$.dish`"),
        (Order, {}, "Object missing required field `dish`"),
        (list[int], [1, "a"], "Expected `int`, got `str` - at `$[1]`"),
        (Annotated[int, Field(ge=1)], 0, "Input should be greater than or equal to 1 - at `$`"),
        (Guest, {"name": ""}, "String should have at least 1 character - at `$.name`"),
        (list[Guest], [{}], "Field required - at `$[0].name`"),
        (int, Raw(b"1" * 5000), "Integer value out of range"),
        (dict[str, str], {"a" * 5000: 1}, "Expected `str`, got `int`"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_function_is_called(kind: Any, data: object, said: str) -> None:
    def function(data: Any) -> None:
        raise AssertionError("not reached")

    function.__annotations__["data"] = kind
    handler = Handler()
    handler.on("order")(function)
    with pytest.raises(Refuse) as caught:
        call(handler, "order", data)
    assert said in caught.value.message
    assert caught.value.code == "badPayload"
    assert len(caught.value.message) <= 1000


def test_what_msgspec_alone_cannot_hold_is_read() -> None:
    handler = Handler()
    got: list[object] = []

    @handler.on("text")
    def text(text: str) -> None:
        got.append(text)

    call(handler, "text", Raw(b'"\\ud800"'))
    assert got == ["\ud800"]


def test_the_sender() -> None:
    handler = Handler()

    @handler.on("anybody")
    def anybody(sender: Sender) -> Response:
        return Reply(sender.user)

    @handler.on("account")
    def account(text: str, sender: Account) -> Response:
        return Reply([sender.user, sender.server, text])

    @handler.on("peer")
    def peer(sender: Peer) -> Response:
        return Reply(sender.server)

    @handler.on("both")
    def both(sender: Account | Peer) -> Response:
        return Reply(sender.user if isinstance(sender, Account) else sender.server)

    @handler.on("perhaps")
    def perhaps(sender: Account | None) -> Response:
        return Reply(sender is None)

    assert [call(handler, "perhaps"), call(handler, "perhaps", user=None)] == [[Reply(False)], [Reply(True)]]
    peer_sender: dict[str, Any] = {"user": None, "server": "l.example", "scope": "server"}
    assert call(handler, "anybody", user=None) == [Reply(None)]
    assert call(handler, "account", "x") == [Reply(["t", "localhost", "x"])]
    assert call(handler, "peer", **peer_sender) == [Reply("l.example")]
    assert [call(handler, "both"), call(handler, "both", **peer_sender)] == [[Reply("t")], [Reply("l.example")]]
    for type, sender in (
        ("account", peer_sender),
        ("peer", {}),
        ("peer", {**peer_sender, "verified": False}),
        ("both", {"user": None, "server": None, "verified": False}),
    ):
        with pytest.raises(Refuse, match=f"{type} is only for") as caught:
            call(handler, type, "x", **sender)
        assert caught.value.code == "notAllowed"


async def asynchronous(order: Order) -> Receipt:
    return Receipt(order.dish)


class Kitchen:
    def order(self, order: Order, *, sender: Account) -> Receipt:
        return Receipt(f"{order.dish} for {sender.user}")

    def __call__(self, order: Order) -> Receipt:
        return Receipt("called")


class Oven:
    async def __call__(self, order: Order) -> list[str]:
        return [order.dish]


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **options: Any) -> Any:
        return function(*args, **options)

    return wrapper


def with_more(order: Order, more: int, extra: str = "") -> Receipt:
    return Receipt(order.dish * more + extra)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (asynchronous, "pizza"),
        (Kitchen().order, "pizza for t"),
        (Kitchen(), "called"),
        (decorated(lambda message: Receipt(message.data["dish"])), "pizza"),
        (functools.partial(with_more, more=2), "pizzapizza"),
    ],
)
@pytest.mark.parametrize("thread", [False, True])
def test_functions_of_every_kind(function: Callable[..., Any], expected: str, thread: bool) -> None:
    handler = Handler()
    handler.on("order", thread=thread and function is not asynchronous)(function)
    assert call(handler, "order", Order("pizza")) == [Reply(Receipt(expected))]


@pytest.mark.parametrize(
    ("result", "annotation", "expected"),
    [
        (Receipt("x"), Receipt, [Reply(Receipt("x"))]),
        (None, Receipt | None, []),
        ("x", str, [Reply("x")]),
        (0, UNSET, [Reply(0)]),
        ([], list[int], [Reply([])]),
        ([], UNSET, []),
        ((1, 2), tuple[int, int], [Reply((1, 2))]),
        (Point(1, 2), Point, [Reply(Point(1, 2))]),
        ([Done()], list[int] | Sequence[SendClients], [Done()]),
        ([Done(), Reply(1)], Response, [Done(), Reply(1)]),
        (Done(), Receipt | Done, [Done()]),
        ([1], Annotated[list[int], "some"], [Reply([1])]),
    ],
)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_results(result: object, annotation: Any, expected: object, asynchronous: bool) -> None:
    def plain(message: Any) -> Any:
        return result

    async def coroutine(message: Any) -> Any:
        return result

    function: Any = coroutine if asynchronous else plain
    function.__annotations__ = {} if annotation is UNSET else {"return": annotation}
    handler = Handler()
    handler.on("order")(function)
    assert call(handler, "order") == expected


def test_a_default_is_kept_but_for_the_request() -> None:
    handler = Handler()

    @handler.on("order")
    def order(message: Request = None, more: int = 3) -> Response:  # type: ignore[assignment]
        return Reply([message.type, more])

    handler.on("oven")(Oven())
    assert call(handler, "order") == [Reply(["order", 3])]
    assert call(handler, "oven", Order("bread")) == [Reply(["bread"])]


def test_a_list_that_is_neither_commands_nor_annotated_is_an_error() -> None:
    handler = Handler()
    handler.on("order")(lambda message: [1])
    with pytest.raises(TypeError, match="not a command"):
        call(handler, "order")


def test_what_is_known_of_a_function() -> None:
    handler = Handler()

    @handler.on("order")
    def order(order: Order, sender: Sender) -> Receipt | SendClients | None:
        """Takes an order.

        And more.
        """
        return None

    @handler.on("plain")
    def plain(message: Request) -> Response:
        return None

    found, simple = handler.registry.get("order"), handler.registry.get("plain")
    assert found is not None
    assert (found.data_type, found.answer_type, found.part_type) == (Order, Receipt, UNSET)
    assert found.doc == "Takes an order.\n\nAnd more."
    assert simple is not None
    assert (simple.data_type, simple.answer_type, simple.doc) == (UNSET, UNSET, "")
    assert simple.call is plain, "nothing is between the request and a function that takes it"


def test_types_that_only_checkers_know() -> None:
    handler = Handler()

    with pytest.raises(TypeError, match=r"annotation of price, 'Decimal', cannot be resolved .*TYPE_CHECKING"):

        @handler.on("price")
        def price(price: Decimal) -> None: ...


def test_names_of_the_function_around() -> None:
    class Local(Struct):
        size: int

    handler = Handler()

    @handler.on("order")
    def order(order: Local) -> Response:
        return Reply(order.size)

    assert call(handler, "order", {"size": 3}) == [Reply(3)]


def no_name(*args: Request) -> None: ...
def no_options(message: Request, **options: int) -> None: ...
def two(order: list[int], more: str) -> None: ...
def two_structs(order: Order, ticket: Ticket) -> None: ...
def two_senders(one: Account, other: Account) -> None: ...
def two_requests(one, other): ...  # type: ignore[no-untyped-def]
def union(sender: Account | Order) -> None: ...
def annotated(sender: Annotated[Account, "x"]) -> None: ...
def several(senders: list[Sender]) -> None: ...
def perhaps_request(message: Request | None) -> None: ...
def foreign(pool: Kitchen) -> None: ...
def no_json(pool: Callable[[], None]) -> None: ...


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (no_name, r"no_name \(.*test_typed.py:\d+\) has the parameter \*args.*functools.wraps"),
        (no_options, r"\*\*options"),
        (two, r"2 parameters for the data, `order: list\[int\]`, `more: str`; a message has one"),
        (two_structs, "2 parameters for the data, `order: Order`, `ticket: Ticket`.*lifespan"),
        (two_senders, "takes the sender twice"),
        (two_requests, "takes the request twice"),
        (foreign, "nothing supplies the parameter `pool: Kitchen`"),
        (union, "`sender: .*Account.*`.*never read from its data"),
        (annotated, "never read from its data"),
        (several, "never read from its data"),
        (perhaps_request, "never read from its data"),
        (no_json, "nothing supplies the parameter `pool"),
    ],
)
def test_errors_at_registration(function: Callable[..., Any], said: str) -> None:
    handler = Handler()
    with pytest.raises(TypeError, match=said):
        _ = (handler.on("order")(function), handler.registry)


def test_models_are_encoded_wherever_they_are() -> None:
    class Table(Struct):
        guests: list[Guest]

    handler = Handler()
    handler.on("table")(lambda message: SendClients(["g"], Table([Guest(name="ann")])))
    handler.on("broken")(lambda message: SendClients(["g"], object()))
    [command] = call(handler, "table")
    assert isinstance(command, SendClients)
    [reply] = call(_echo(), "echo", command.data)
    assert isinstance(reply, Reply)
    assert msgspec.json.decode(reply.data) == {"guests": [{"name": "ann", "age": 0}]}
    with pytest.raises(TypeError, match="no JSON for the type object"):
        call(handler, "broken")


def _echo() -> Handler:
    handler = Handler()
    handler.on("echo")(lambda message: Reply(message.raw))
    return handler


def test_the_registry_of_a_handler_is_made_anew() -> None:
    handler = Handler()
    handler.on("one")(lambda message: None)
    assert isinstance(handler.registry, Registry)
    handler.on("two")(lambda message: None)
    assert handler.types == ["one", "two"]


class Calls:
    """Objects that are called: what their ``__call__`` is counts."""

    class Async:
        async def __call__(self, order: Order) -> str:
            return order.dish

    class Parts:
        def __call__(self, order: Order) -> Iterator[str]:
            yield order.dish

    class AsyncParts:
        async def __call__(self, order: Order):  # type: ignore[no-untyped-def]
            yield order.dish


@pytest.mark.parametrize("kind", [Calls.Async, Calls.Parts, Calls.AsyncParts])
def test_an_object_that_is_called(kind: Any) -> None:
    handler = Handler()
    handler.on("order")(kind())
    found = handler.registry.get("order")
    assert found is not None
    assert found.asynchronous
    assert found.streams == (kind is not Calls.Async)
    assert handler.registry.features[-1] == "cancel"
    [reply] = call(handler, "order", Order("bread"))
    assert isinstance(reply, Reply)
    assert reply.data in ("bread", b'"bread"') or bytes(reply.data) == b'"bread"'
    with pytest.raises(ValueError, match="not for a coroutine") if kind is not Calls.Parts else nullcontext():
        Handler().on("order", thread=True)(kind())


def test_what_registers_nothing_is_an_error() -> None:
    handler = Handler()
    with pytest.raises(TypeError, match=r'on\(\) takes types, as in @handler.on\("order"\); got .*order'):

        @handler.on  # type: ignore[arg-type]
        def order() -> None: ...

    with pytest.raises(TypeError, match=r"error\(\) takes classes of Exception, .*; got .*failed"):

        @handler.error  # type: ignore[arg-type]
        def failed(error: Exception, request: Request) -> None: ...

    with pytest.raises(TypeError, match=r"got BaseException"):
        handler.error(BaseException)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"on\(\) registers a function; got 5"):
        handler.on("order")(5)  # type: ignore[type-var]


def test_the_first_parameter_is_supplied_in_spite_of_its_default() -> None:
    handler = Handler()
    handler.on("plain")(lambda message=None: message.type)

    @handler.on("order")
    def order(order: Order | None = None, more: int = 3) -> Response:
        return Reply([order.dish if order else "nothing", more])

    assert call(handler, "plain") == [Reply("plain")]
    assert call(handler, "order", {"dish": "bread"}) == [Reply(["bread", 3])]
    assert call(handler, "order", None) == [Reply(["nothing", 3])]


def test_a_default_of_none_is_no_way_to_ask_for_something() -> None:
    def order(order: Order, sender: Account | None = None) -> None: ...

    with pytest.raises(TypeError, match=r"the parameter sender.* would always be None; leave out its default"):
        Handler().on("order")(order)

    def old(message: Request, sender: Account | None = None) -> Response:
        return Reply(sender)

    handler = Handler()
    handler.on("old")(old)
    assert call(handler, "old") == [Reply(None)]


def test_a_union_that_neither_library_knows_is_an_error() -> None:
    handler = Handler()

    @handler.on("order")
    def order(order: Order | Guest) -> None: ...

    with pytest.raises(TypeError, match=r"nothing supplies the parameter .*schema for.*Order"):
        handler.types  # noqa: B018


def test_places_within_a_model_are_whole() -> None:
    class Table(Struct):
        guest: Guest

    handler = Handler()

    @handler.on("table")
    def table(table: Table) -> None: ...

    with pytest.raises(Refuse, match=r"^[^$]*- at `\$\.guest\.name`; [^$]*- at `\$\.guest\.age`$"):
        call(handler, "table", {"guest": {"name": "", "age": "x"}})
