"""What other nodes of the same server ask for: answers of handlers, and deliveries to accounts (docs/scale.md)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw
from tests.core.events import (
    Acknowledges,
    Answers,
    Calls,
    ClassicAnswers,
    Comes,
    Deposited,
    Leaves,
    MailboxRead,
    Sends,
    SocketFills,
)
from tests.core.playbook import Asked, Effect, Event, Placeholder, Playbook, Received, Report
from tests.core.world import DONE, World, acking, clients

from bester.core.effects import CallClassic, Deposit, PresenceChanged, ReadMailbox, Share, TellNode
from bester.core.endpoint import NodePeer
from bester.core.limits import Limits
from bester.core.model import Relayed
from bester.core.rules import TypeRules
from bester.core.session import Phase, Session
from bester.protocol import frames
from bester.protocol.messages import HandlerMessage, decode_handler_message

HEAD = frames.request_head(
    frames.origin_part("client", "t", "j.example", True), 3, frames.type_part("chat"), b'"tag"', b',"more":1'
)


# -- asked by others --------------------------------------------------------------------------------------------------


def test_a_handler_here_answers_another_node(world: World) -> None:
    chat, node, request, tell = world.handler("chat"), NodePeer("n1"), Placeholder(), Placeholder()
    play = Playbook(world)
    assert (
        play
        >> Calls(world.exchange.remote.ask, node, 77, "chat", HEAD, Raw(b'{"a":1}'))
        << Asked(chat, {"a": 1}, type="chat", tag="tag", hops=3, header=request)
    )
    assert request()["from"]["user"] == "t"
    assert request()["more"] == 1
    assert world.exchange.reports.under_way == 1
    assert play >> Answers(chat, clients("g"), data=[1.0]) << Effect(TellNode, tell, node="n1")
    envelope = tell().envelope
    assert isinstance(envelope, Relayed)
    assert (envelope.number, envelope.error) == (77, None)
    assert envelope.answer is not None
    again = decode_handler_message(frames.answer_body("77", envelope.answer))
    assert isinstance(again, HandlerMessage)
    assert again.header.id == "77"
    assert again.payload is not None
    assert bytes(again.payload.data) == b"[1.0]"
    assert again.header.command is not None
    assert again.header.command.data == ["g"]
    assert world.at_rest(node)
    assert (world.exchange.batch.counters.accepted, world.exchange.batch.counters.good) == (0, 0)
    assert world.exchange.reports.receipts.entries == []


def test_a_classic_handler_here_answers_another_node(world: World) -> None:
    world.configure(classic=TypeRules(classic_socket="aSock"))
    call, tell = Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> Calls(world.exchange.remote.ask, NodePeer("n1"), 1, "classic", HEAD, Raw(b"5"))
        << Effect(CallClassic, call, data=5)
        >> ClassicAnswers(call, DONE)
        << Effect(TellNode, tell)
    )
    assert tell().envelope.error is None


def test_what_goes_wrong_here_is_told(world: World) -> None:
    chat, node, ask = world.handler("chat"), NodePeer("n1"), world.exchange.remote.ask
    nobody, failed = Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> Calls(ask, node, 1, "nothing", HEAD, Raw(b"5"))
        << Effect(TellNode, nobody)
        >> Calls(ask, node, 2, "chat", HEAD, Raw(b"5"))
        << Asked(chat)
        >> Answers(chat, status="1")
        << Effect(TellNode, failed)
    )
    assert [one().envelope.error.code for one in (nobody, failed)] == ["handlerUnavailable", "handlerError"]
    assert world.at_rest(node)


def test_a_node_is_never_sent_on_to_a_third_one(world: World) -> None:
    world.remote_handler("n2", "chat")
    tell = Placeholder()
    assert (
        Playbook(world)
        >> Calls(world.exchange.remote.ask, NodePeer("n1"), 1, "chat", HEAD, Raw(b"5"))
        << Effect(TellNode, tell)
    )
    assert tell().envelope.error is not None


def test_another_nodes_dry_run_is_never_sent_on_to_a_third_one(world: World) -> None:
    world.handler("chat")
    world.remote_handler("n2", "chat").dry_types = frozenset({"chat"})
    tell = Placeholder()
    assert (
        Playbook(world)
        >> Calls(world.exchange.remote.ask, NodePeer("n1"), 1, "chat", HEAD, Raw(b"5"), dry=True)
        << Effect(TellNode, tell)
    )
    assert tell().envelope.answer is None
    assert [step.status for step in tell().envelope.trail.steps] == ["notAsked"]


def test_another_nodes_dry_run_is_one_here(world: World) -> None:
    chat, tell = world.handler("chat"), Placeholder()
    chat.dry_types = frozenset({"chat"})
    assert (
        Playbook(world)
        >> Calls(world.exchange.remote.ask, NodePeer("n1"), 1, "chat", HEAD, Raw(b"5"), dry=True)
        << Asked(chat, 5)
        >> Answers(chat, clients("g"))
        << Effect(TellNode, tell)
    )
    assert isinstance(tell().envelope, Relayed)
    assert tell().envelope.answer is not None


def test_a_node_is_not_paused(world: World, limits: Limits) -> None:
    world.configure(limits)
    world.handler("chat", concurrency=1)
    node = NodePeer("n1")
    for number in range(100):
        world.exchange.remote.ask(node, number, "chat", HEAD, Raw(b"x" * 100))
    assert world.effects() == []
    assert not node.paused


@pytest.mark.parametrize(
    "message",
    [
        {
            "header": {"id": "1", "status": "0", "command": {"type": "sendHandler", "data": "x"}},
            "payload": {"type": "y"},
        },
        {"header": {"id": "1", "status": 0, "command": {"type": "done"}}, "payload": {"data": 5.0}, "data": None},
        {
            "header": {
                "id": "1",
                "status": "0",
                "commands": [
                    {"type": "sendClients", "data": ["a"], "transient": True, "payload": {"type": "t", "data": 1}},
                    {"type": "reply", "data": None},
                ],
            }
        },
        {"header": {"id": "1", "status": None}},
    ],
)
def test_an_answer_goes_back_as_it_was(message: dict[str, Any]) -> None:
    first = decode_handler_message(json.dumps(message).encode())
    assert isinstance(first, HandlerMessage)
    assert decode_handler_message(frames.answer_body("1", first)) == first


# -- brought by others ------------------------------------------------------------------------------------------------


def Brings(node: NodePeer, number: int = 9, *, copy: bool = False) -> Event:
    """Another node brings a message for g, which its handler wrote as G."""

    def bring(world: World) -> None:
        id = f"d{number}"
        assert world.exchange.remote.bring(node, number, "g", id, "chat", Raw(b"1"), to="G", copy=copy)

    return Event(bring, (), {})


def results(tell: Placeholder) -> list[Any]:
    """What another node is told became of the recipients."""
    return [json.loads(one) for one in tell().envelope.results]


def test_what_another_node_brings_is_delivered_and_told(world: World) -> None:
    g, node, tell = world.session("g"), NodePeer("n1"), Placeholder()
    assert Playbook(world) >> Brings(node) << Received(g, "chat", 1) << Effect(TellNode, tell)
    assert results(tell) == [{"to": "G", "status": "delivered"}]
    assert world.at_rest(node)


def test_what_is_brought_to_an_account_that_is_away_is_not_taken(world: World) -> None:
    assert not world.exchange.remote.bring(NodePeer("n1"), 9, "g", "d9", "chat", Raw(b"1"), to="G")
    assert world.effects() == []
    assert world.at_rest()


def test_what_is_brought_waits_for_an_acknowledgement_and_is_kept_without_one(world: World) -> None:
    g, node, first, second, deposit = acking(world), NodePeer("n1"), Placeholder(), Placeholder(), Placeholder()
    play = Playbook(world)
    assert play >> Brings(node) << Received(g, "chat", 1, id="d9")
    assert (node.in_flight, node.waiting) == (0, 1)
    assert play >> Acknowledges(g, "d9") << Effect(TellNode, first)
    assert results(first) == [{"to": "G", "status": "delivered"}]
    assert world.at_rest(node)
    assert (
        play
        >> Brings(node, 10)
        << Received(g, "chat", 1, id="d10")
        >> Leaves(g)
        << Effect(PresenceChanged)
        << Effect(Deposit, deposit, id="d10")
        >> Deposited(deposit)
        << Effect(TellNode, second)
    )
    assert results(second) == [{"to": "G", "status": "stored"}]
    assert node.waiting == 0


def test_what_is_brought_to_a_session_that_catches_up_goes_behind_its_mail(world: World) -> None:
    deposit, tell = Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> Comes(Session("g", "j.example"), has_mail=True)
        << Effect(PresenceChanged)
        << Effect(ReadMailbox)
        >> Brings(NodePeer("n1"))
        << Effect(Deposit, deposit)
        >> Deposited(deposit)
        << Effect(TellNode, tell)
    )
    assert results(tell) == [{"to": "G", "status": "stored"}]


def test_what_is_brought_and_not_taken_by_the_socket_is_kept_under_its_own_id(world: World) -> None:
    g, node, deposit, tell = world.session("g"), NodePeer("n1"), Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> SocketFills(g)
        >> Brings(node)
        << Received(g, "chat", 1)
        >> Leaves(g)
        << Effect(PresenceChanged)
        << Effect(Deposit, deposit, id="d9", to="G")
        >> Deposited(deposit)
        << Effect(TellNode, tell)
    )
    assert results(tell) == [{"to": "G", "status": "stored"}]
    assert world.at_rest(node)


def test_what_is_brought_under_the_very_name_of_the_account_says_so(world: World) -> None:
    g, tell = world.session("g"), Placeholder()
    bring = Calls(world.exchange.remote.bring, NodePeer("n1"), 9, "g", "d", "chat", Raw(b"1"))
    assert Playbook(world) >> bring << Received(g, "chat", 1) << Effect(TellNode, tell)
    assert results(tell) == [{"to": "g", "status": "delivered"}]


def test_nobody_waits_for_a_copy(world: World) -> None:
    g, node, deposit = world.session("g"), NodePeer("n1"), Placeholder()
    play = Playbook(world)
    assert play >> Brings(node, copy=True) << Received(g, "chat", 1)
    assert (node.in_flight, world.exchange.reports.under_way) == (0, 0)
    assert (
        play
        >> Comes(Session("h", "j.example"), has_mail=True)
        << Effect(PresenceChanged)
        << Effect(ReadMailbox)
        >> Calls(world.exchange.remote.bring, node, 0, "h", "d", "chat", Raw(b"2"), copy=True)
        << Effect(Deposit, deposit, settled=True)
    )


@pytest.mark.parametrize("status", ["delivered", "stored"])
def test_what_two_nodes_bring_has_one_outcome_for_both(world: World, status: str) -> None:
    """A node whose session has left brings what this one's session was given and has not acknowledged."""
    g, one, other, deposit = acking(world), NodePeer("n1"), NodePeer("n2"), Placeholder()
    first, second = Placeholder(), Placeholder()
    play = Playbook(world)
    assert play >> Brings(one) << Received(g, "chat", 1, id="d9") >> Brings(other) << Received(g, "chat", 1, id="d9")
    if status == "delivered":
        assert play >> Acknowledges(g, "d9") << Effect(TellNode, first) << Effect(TellNode, second)
    else:
        left = play >> Leaves(g) << Effect(PresenceChanged) << Effect(Deposit, deposit, id="d9")
        assert left >> Deposited(deposit) << Effect(TellNode, first) << Effect(TellNode, second)
    assert results(first) == results(second) == [{"to": "G", "status": status}]
    assert (one.waiting, other.waiting) == (0, 0)


# -- accounts with sessions on several nodes --------------------------------------------------------------------------


def test_the_sessions_that_a_shared_account_has_elsewhere_get_a_copy(world: World) -> None:
    chat, share = world.handler("chat"), world.exchange.deliveries.share
    t, g = world.session("t"), world.session("g")
    assert (
        Playbook(world)
        >> Calls(share, "g", True)
        >> Sends(t, "chat", 1)
        << Asked(chat)
        >> Answers(chat, clients("g"), payload={"data": 1})
        << Received(g, "chat", 1)
        << Effect(Share, username="g", data=1)
        << Report(t, "good", "g delivered")
        >> Calls(share, "g", False)
        >> Calls(share, "nobody", True)
        >> Sends(t, "chat", 2)
        << Asked(chat)
        >> Answers(chat, clients("g"), payload={"data": 2})
        << Received(g, "chat", 2)
        << Report(t, "good", "g delivered")
    )


def test_a_session_looks_for_mail_that_came_on_another_node(world: World) -> None:
    g, mail_came = world.session("g"), world.exchange.replay.mail_came
    assert (
        Playbook(world)
        >> Calls(mail_came, "g")
        << Effect(ReadMailbox, session=g)
        >> Calls(mail_came, "g")
        >> Calls(mail_came, "nobody")
        >> MailboxRead(g)  # which was read before the second time
        << Effect(ReadMailbox, session=g, after=0)
        >> MailboxRead(g)
    )
    assert g.phase is Phase.LIVE


def test_what_was_brought_to_a_session_on_another_node_has_its_outcome(world: World) -> None:
    chat, t, deposit = world.handler("chat"), world.session("t"), Placeholder()
    assert (
        Playbook(world)
        >> Sends(t, "chat", 1)
        << Asked(chat)
        >> Answers(chat, clients("g"))
        << Effect(Deposit, deposit)
        >> Deposited(deposit, "delivered")
        << Report(t, "good", "g delivered")
    )
    assert world.at_rest(t)
