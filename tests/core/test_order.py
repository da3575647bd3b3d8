"""What handlers of other nodes answer: carried out there where that can be, here where it cannot, in order."""

from __future__ import annotations

from collections import deque
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given
from msgspec import Raw
from tests.core.world import DONE, REPLY, World, acking, clients, send_handler

from bester.core import remote
from bester.core.effects import AskRemote, Deposit, TellNode
from bester.core.endpoint import NodePeer
from bester.core.model import Delivery, Relayed
from bester.core.routing import RemoteHandler
from bester.core.session import Session
from bester.core.trail import Trail
from bester.errors import Internal
from bester.protocol import frames
from bester.protocol.messages import HandlerMessage, decode_handler_message

HEAD = frames.request_head(
    frames.origin_part("client", "t", "j.example", True), 0, frames.type_part("work"), b'""', b""
)


class Two:
    """Node A, whose clients ask the handlers of node B, and what goes between them, in order for each direction."""

    def __init__(self) -> None:
        self.a, self.b = World(), World()
        self.chat = self.b.handler("chat")
        self.node = RemoteHandler("b", "j.example", 64)
        self.a.exchange.dispatcher.attach_remote(self.node, "chat", 30.0)
        self.peer = NodePeer("a")
        self.t = self.a.session("t")
        self.to_b: deque[AskRemote | tuple[int, Delivery]] = deque()
        self.to_a: deque[TellNode] = deque()
        self.brought: dict[int, Delivery] = {}
        self.requests: deque[tuple[str, Any]] = deque()

    def send(self, number: int, *, traced: bool = False) -> None:
        self.a.send(self.t, "chat", number, str(number), trail=Trail(told=False) if traced else None)
        self.gather()

    def answer(self, *commands: dict[str, Any]) -> None:
        id, data = self.requests.popleft()
        self.b.answer(self.chat, id, *commands, data=data)
        self.gather()

    def gather(self) -> None:
        for world in (self.a, self.b):
            world.exchange.written()
        for effect in self.a.effects():
            if isinstance(effect, Deposit):
                number = 1000 + len(self.brought)
                self.brought[number] = effect.delivery
                self.to_b.append((number, effect.delivery))
            else:
                assert isinstance(effect, AskRemote)
                self.to_b.append(effect)
        for effect in self.b.effects():
            assert isinstance(effect, TellNode)
            self.to_a.append(effect)
        for id, data in self.b.asked(self.chat):
            self.requests.append((id, data))

    def reach_b(self) -> None:
        item = self.to_b.popleft()
        exchange = self.b.exchange
        if isinstance(item, AskRemote):
            exchange.remote.ask(
                self.peer, item.number, item.type, item.head, item.data, order=item.order, epoch=item.epoch
            )
        else:
            number, delivery = item
            assert exchange.remote.bring(
                self.peer, number, delivery.username, delivery.id, delivery.type, delivery.data, to=delivery.to
            )
        self.gather()

    def reach_a(self) -> None:
        envelope = self.to_a.popleft().envelope
        exchange = self.a.exchange
        if not isinstance(envelope, Relayed):
            exchange.replay.deposited(self.brought[int(envelope.id)], "delivered", None)
        elif envelope.carried:
            results = b",".join(envelope.results or ())
            exchange.remote.carried_out(self.node, str(envelope.number), results, envelope.error)
        else:
            assert envelope.answer is not None
            message = decode_handler_message(frames.answer_body(str(envelope.number), envelope.answer))
            assert isinstance(message, HandlerMessage)
            exchange.answer(self.node, message)
        self.gather()

    def drain(self, *commands: dict[str, Any]) -> None:
        while self.to_a or self.to_b or self.requests:
            if self.requests:
                self.answer(*commands)
            if self.to_b:
                self.reach_b()
            if self.to_a:
                self.reach_a()


@pytest.fixture
def two() -> Two:
    return Two()


def results(world: World, session: Session) -> list[Any]:
    return [frame["payload"].get("results") for frame in world.got(session)]


def test_an_answer_for_clients_of_the_other_node_is_carried_out_there(two: Two) -> None:
    g, h = two.b.session("g"), two.b.session("h")
    two.send(1)
    two.reach_b()
    two.answer(clients("G", "h"))
    assert two.b.received(g) == two.b.received(h) == [("chat", 1)]
    (told,) = two.to_a
    assert isinstance(told.envelope, Relayed)
    assert told.envelope.carried
    two.reach_a()
    assert results(two.a, two.t) == [[{"to": "G", "status": "delivered"}, {"to": "h", "status": "delivered"}]]
    assert two.a.at_rest(two.t)
    assert two.b.at_rest(two.peer)
    assert two.a.exchange.batch.counters.good == 1
    assert two.b.exchange.batch.counters.deliveries == 2
    assert two.a.exchange.dispatcher.types["chat"].metrics.answered == 1


def test_an_answer_that_asks_for_nothing_is_done_there(two: Two) -> None:
    two.send(1)
    two.reach_b()
    two.answer(DONE)
    assert [isinstance(one.envelope, Relayed) and one.envelope.carried for one in two.to_a] == [True]
    two.reach_a()
    assert two.a.code(two.t) == ""
    assert two.a.at_rest(two.t)


@pytest.mark.parametrize(
    "commands",
    [
        [clients("g"), {"type": "reply"}],
        [{"type": "reply"}, clients("g")],
        [clients("g", "away")],
        [clients("g", "t")],
        [clients(*["g"] * 10_001)],
    ],
)
def test_an_answer_that_is_not_for_clients_of_the_other_node_alone_comes_back(
    two: Two, commands: list[dict[str, Any]]
) -> None:
    two.b.session("g")
    two.send(1)
    two.reach_b()
    two.answer(*commands)
    (told,) = two.to_a
    assert isinstance(told.envelope, Relayed)
    assert told.envelope.answer is not None
    assert not told.envelope.carried


def test_an_account_with_sessions_on_other_nodes_is_not_served_there_alone(two: Two) -> None:
    g = two.b.session("g")
    two.b.exchange.deliveries.share("g", True)
    two.send(1)
    two.reach_b()
    two.answer(clients("g"))
    assert two.b.got(g) == []


def test_nothing_is_carried_out_there_while_something_comes_back(two: Two) -> None:
    g = two.b.session("g")
    for number in range(3):
        two.send(number)
    for _ in range(3):
        two.reach_b()
    two.answer(clients("g"), {"type": "reply"})
    two.answer(clients("g"))  # asked before anybody knew
    assert two.b.received(g) == []
    two.reach_a()
    two.send(3)  # asked while the first is under way here
    asked = [item for item in two.to_b if isinstance(item, AskRemote)]
    assert asked[0].order == 0
    two.drain(clients("g"))
    assert [data for _, data in two.b.received(g)] == [0, 1, 2, 3]
    two.a.got(two.t)
    two.send(4)
    two.reach_b()
    two.answer(clients("g"))
    assert two.b.received(g) == [("chat", 4)]


def test_that_an_answer_went_back_is_forgotten_in_time(two: Two) -> None:
    for number in range(2):
        two.b.exchange.batch.now += number * remote.BACK_S
        two.a.send(two.a.session(f"s{number}"), "chat", 1)
        two.gather()
        two.reach_b()
        two.answer({"type": "reply"})
    assert len(two.peer.answered_back) == 1


ANSWERS = {
    "there": [clients("g")],
    "with reply": [clients("g"), {"type": "reply"}],
    "reply": [{"type": "reply"}],
    "done": [DONE],
}
steps = st.lists(
    st.sampled_from(["message", "message", "traced", *ANSWERS, "to b", "to b", "to a", "to a"]), max_size=60
)


@given(steps)
@example(["message", "message", "to b", "reply", "to a", "message"])
def test_the_order_of_a_sender_is_kept(does: list[str]) -> None:
    two = Two()
    g = two.b.session("g")
    sent = 0
    for step in does:
        if step in ("message", "traced"):
            two.send(sent, traced=step == "traced")
            sent += 1
        elif step == "to b" and two.to_b:
            two.reach_b()
        elif step == "to a" and two.to_a:
            two.reach_a()
        elif two.requests and step in ANSWERS:
            two.answer(*ANSWERS[step])
    two.drain(clients("g"))
    numbers = [data for _, data in two.b.received(g)]
    assert numbers == sorted(numbers)
    assert two.a.at_rest(two.t)
    assert two.b.at_rest(two.peer)
    order = two.t.order
    assert order is None or (order.answered_locally, order.asked, order.older) == (0, 0, 0)


# -- what takes a while -----------------------------------------------------------------------------------------------


def under_way(two: Two) -> Session:
    """A message that another node carries out, whose recipient has not acknowledged it."""
    g = acking(two.b, "g")
    two.send(1)
    two.reach_b()
    two.answer(clients("g"))
    assert [envelope.pending for envelope in two.b.exchange.remote.fresh] == [1]
    two.a.exchange.remote.answered_remotely(two.node, "1")
    assert not two.node.outstanding
    assert (two.t.in_flight, two.t.waiting) == (0, 1)
    return g


def test_a_recipient_that_takes_its_time_holds_up_nobody(two: Two) -> None:
    g = under_way(two)
    assert two.a.exchange.dispatcher.types["chat"].metrics.answered == 1
    (given,) = two.b.got(g)
    two.b.exchange.deliveries.acknowledged(g, [given["payload"]["deliveryId"]])
    two.gather()
    two.reach_a()
    assert results(two.a, two.t) == [[{"to": "g", "status": "delivered"}]]
    assert two.a.at_rest(two.t)
    assert two.t.waiting == 0
    assert two.a.exchange.dispatcher.types["chat"].metrics.answered == 1


def test_a_node_that_dies_meanwhile_makes_no_false_report(two: Two) -> None:
    under_way(two)
    two.a.exchange.dispatcher.remove(two.node)
    assert two.a.code(two.t) == "handlerUnavailable"
    assert two.a.at_rest(two.t)


def test_a_node_that_never_says_is_not_waited_for(two: Two) -> None:
    under_way(two)
    two.a.exchange.batch.now += remote.CARRY_S - 1
    two.a.exchange.sweep()
    assert two.a.got(two.t) == []
    two.a.exchange.batch.now += 1
    two.a.exchange.sweep()
    assert two.a.code(two.t) == "handlerTimeout"
    two.a.exchange.remote.carried_out(two.node, "1", b"", None)
    two.a.exchange.remote.answered_remotely(two.node, "1")
    assert two.a.got(two.t) == []
    assert two.a.at_rest(two.t)


def test_what_went_wrong_there_is_reported(two: Two) -> None:
    two.send(1)
    entries = [frames.result(f"user{number:050}", "delivered") for number in range(100)]
    two.a.exchange.remote.carried_out(two.node, "1", b",".join(entries), Internal())
    report = two.a.report(two.t)
    assert report["error"]["code"] == "internal"
    assert len(report["results"]) == 100


def test_results_of_several_handlers_stand_together(two: Two) -> None:
    here = two.a.handler("first")
    g = two.a.session("g")
    two.a.send(two.t, "first", 1)
    ((id, _),) = two.a.asked(here)
    two.a.answer(here, id, clients("g"), {"type": "sendHandler", "data": "chat"})
    two.b.session("h")
    two.gather()
    two.reach_b()
    two.answer(clients("h"))
    two.reach_a()
    assert [one["to"] for one in results(two.a, two.t)[0]] == ["g", "h"]
    assert two.a.received(g)


# -- who is asked -----------------------------------------------------------------------------------------------------


def test_what_came_from_a_node_waits_for_a_handler_here(two: Two) -> None:
    here = two.a.handler("work", concurrency=1)
    free = RemoteHandler("c", "j.example", 64)
    two.a.exchange.dispatcher.attach_remote(free, "work", 30.0)
    for number in range(3):
        two.a.exchange.remote.ask(NodePeer("b"), number, "work", HEAD, Raw(b"%d" % number))
    assert two.a.effects() == []
    two.a.send(two.t, "work", "mine")  # goes past them, to where there is room
    assert bytes(two.a.only(AskRemote).data) == b'"mine"'
    ((id, _),) = two.a.asked(here)
    two.a.answer(here, id, DONE)
    assert [data for _, data in two.a.asked(here)] == [1]


def asked_twice(two: Two) -> None:
    """A message that a handler here sends on to the other node's handler twice."""
    first = two.a.handler("first")
    two.a.send(two.t, "first", 1)
    two.a.answer(first, two.a.asked(first)[0][0], *[send_handler("chat")] * 2, data=1)
    two.gather()
    for _ in range(2):
        two.reach_b()


def test_a_message_counts_against_its_sender_until_all_of_it_waits_for_recipients(two: Two) -> None:
    asked_twice(two)
    g = acking(two.b, "g")
    for outstanding, in_flight in ((1, 1), (0, 0)):
        two.answer(clients("g"))
        two.a.exchange.remote.answered_remotely(two.node, next(iter(two.node.outstanding)))
        assert (len(two.node.outstanding), two.t.in_flight, two.t.waiting) == (outstanding, in_flight, 1 - in_flight)
    two.b.exchange.deliveries.acknowledged(g, [frame["payload"]["deliveryId"] for frame in two.b.got(g)])
    two.gather()
    for _ in range(2):
        two.reach_a()
    assert results(two.a, two.t) == [[{"to": "g", "status": "delivered"}] * 2]
    assert two.a.at_rest(two.t)


def test_a_message_that_comes_back_several_times_is_counted_once(two: Two) -> None:
    asked_twice(two)
    for _ in range(2):
        two.answer(REPLY)
    two.reach_a()
    order = two.t.order
    assert order is not None
    assert (order.epoch, order.answered_locally, order.older) == (2, 1, 1)
    two.reach_a()
    assert [frame["payload"].get("data") for frame in two.a.got(two.t)] == [1, 1, None]
    assert (order.epoch, order.answered_locally, order.asked, order.older) == (2, 0, 0, 0)
    assert two.a.at_rest(two.t)


def test_a_node_that_carries_out_what_it_was_not_asked_to_is_believed(two: Two) -> None:
    two.send(1, traced=True)
    two.a.exchange.remote.carried_out(two.node, "1", b"", None)
    assert two.a.code(two.t) == ""
    assert two.a.at_rest(two.t)
