"""Answers in parts of handlers on other nodes, and for them."""

from __future__ import annotations

import pytest
from tests.core.events import Answers, AnswersInPart, Calls, Grants, Passes, Sends
from tests.core.playbook import Asked, Cancelled, Effect, Granted, Part, Placeholder, Playbook, Received, Report
from tests.core.world import DONE, REPLY, World, clients

from bester.core.effects import AskRemote, TellHandler, TellNode, TellPart
from bester.core.endpoint import NodePeer
from bester.core.session import Session
from bester.protocol import frames
from bester.protocol.frames import encode_text
from bester.protocol.messages import decode_handler_message


@pytest.fixture
def t(world: World) -> Session:
    return world.session("t", features=("parts", "replyTo"))


def test_a_handler_of_another_node_answers_in_parts(world: World, t: Session) -> None:
    there = world.remote_handler("n1", "count")
    there.parts = there.cancels = True
    assert (
        Playbook(world)
        >> Sends(t, "count", id="6")
        << Effect(AskRemote, parts=-1)
        >> Sends(t, "count", id="7", parts=1)
        << Effect(AskRemote, number=2, parts=1, order=0)
        >> AnswersInPart(there, id="2", data=1)
        << Part(t, "7", 1)
        >> Grants(t, "7", 4)
        << Effect(TellHandler, number=2, parts=4)
        >> Answers(there, REPLY, id="2", data=2)
        << Received(t, "count", 2, reply_to="7")
        << Report(t, "good")
        >> Sends(t, "count", id="8", parts=1)
        << Effect(AskRemote, number=3, parts=1)
        >> Passes(31)
        << Effect(TellHandler, number=3, parts=0)
        << Report(t, "handlerTimeout", id="6")
        << Report(t, "handlerTimeout", id="8")
    )


def test_a_node_that_knows_no_parts_answers_once(world: World, t: Session) -> None:
    there = world.remote_handler("n1", "count")
    assert (
        Playbook(world)
        >> Sends(t, "count", id="7", parts=1)
        << Effect(AskRemote, parts=-1)
        >> Grants(t, "7", 1)
        >> Passes(31)
        << Report(t, "handlerTimeout")
    )
    assert there.outstanding == {}


def test_parts_go_back_to_the_node_that_asked(world: World) -> None:
    count = world.handler("count", features="parts cancel")
    node = NodePeer("n2")
    head = frames.request_head(b'","scope":"client","hops":', 0, frames.type_part("count"), b'"7"', b"")
    told = Placeholder()

    def ask(number: int, parts: int) -> None:
        world.exchange.remote.ask(node, number, "count", head, b"null", parts=parts)

    assert (
        Playbook(world)
        >> Calls(ask, 5, 1)
        << Asked(count, id="1", header={"messageType": "request", "id": "1", "parts": 1, "scope": "client", "hops": 0})
        >> AnswersInPart(count, clients("t"), data=1)
        << Effect(TellPart, told)
        >> Calls(world.exchange.streams.grant, node, b"5", 3)
        << Granted(count, "1", 3)
        >> Answers(count, DONE)
        << Effect(TellNode, node="n2")
        >> Calls(ask, 6, 1)
        << Asked(count, id="2")
        >> Calls(world.exchange.parts.cancel, node, b"6")
        << Cancelled(count, "2")
        >> Answers(count, status="1")
        << Effect(TellNode, node="n2")
        >> Calls(ask, 7, 1)
        << Asked(count, id="3")
        >> Calls(world.exchange.parts.left, node)
        << Cancelled(count, "3")
        >> Answers(count)
        << Effect(TellNode)
    )
    body = frames.answer_body("5", told().message, more=True)
    message = decode_handler_message(body)
    assert not isinstance(message, str)
    assert message.header.more is True
    assert encode_text(message.header.id) == b'"5"'
