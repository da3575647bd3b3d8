"""What other nodes of the same server ask for, and what they are asked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw
from tests.core.world import DONE, World, acking, clients, given, stored

from bester.core.effects import AskRemote, CallClassic, Deposit, ReadMailbox, Share, TellNode
from bester.core.endpoint import NodePeer
from bester.core.limits import Limits
from bester.core.model import Relayed
from bester.core.routing import RemoteHandler
from bester.core.rules import TypeRules
from bester.core.session import Phase
from bester.core.trail import Trail
from bester.protocol import frames
from bester.protocol.messages import HandlerMessage, Payload, decode_handler_message

HEAD = frames.request_head(
    frames.origin_part("client", "t", "j.example", True), 3, frames.type_part("chat"), "tag", b',"more":1'
)


def elsewhere(world: World, node: str, type: str, concurrency: int = 64) -> RemoteHandler:
    handler = RemoteHandler(node, "j.example", concurrency)
    world.exchange.dispatcher.attach_remote(handler, type, 30.0)
    return handler


def answer(world: World, handler: RemoteHandler, number: int, *commands: dict[str, Any], **more: Any) -> None:
    body = json.dumps({"header": {"id": str(number), "status": "0", "commands": list(commands)}, **more}).encode()
    message = decode_handler_message(body)
    assert isinstance(message, HandlerMessage)
    world.exchange.answer(handler, message)


# -- asking others ----------------------------------------------------------------------------------------------------


def test_a_type_that_only_another_node_serves_is_asked_there(world: World) -> None:
    node = elsewhere(world, "n1", "chat")
    t = world.session("t")
    world.send(t, "chat", {"a": 1}, id="tag", hops=2)
    asked = world.only(AskRemote)
    assert (asked.handler.node, asked.type, bytes(asked.data), asked.dry) == ("n1", "chat", b'{"a": 1}', False)
    whole = frames.relayed_request(str(asked.number), asked.head, asked.data)
    request = json.loads(whole[4:])
    assert request["payload"] == {"type": "chat", "id": "tag", "data": {"a": 1}}
    assert request["header"]["hops"] == 2
    assert request["header"]["from"]["user"] == "t"
    assert request["header"]["traceparent"] == world.exchange.traces.whole("1")
    answer(world, node, asked.number, clients("t"), payload={"data": 5})
    assert world.got(t)[0]["payload"]["data"] == 5
    assert world.at_rest(t)


def test_requests_may_be_numbered_from_anywhere_on(world: World) -> None:
    world.exchange.dispatcher.count_from(10**11 - 1)
    elsewhere(world, "n1", "chat")
    world.send(world.session("t"), "chat", 1, id="1")
    asked = world.only(AskRemote)
    assert asked.number == 10**11
    request = json.loads(frames.relayed_request(str(asked.number), asked.head, asked.data)[4:])
    assert request["header"]["traceparent"] == world.exchange.traces.whole(str(10**11))
    assert len(request["header"]["traceparent"]) == 55


def test_who_is_attached_here_is_preferred_and_the_least_busy_node_helps(world: World) -> None:
    one, other = elsewhere(world, "n1", "work"), elsewhere(world, "n2", "work")
    here = world.handler("work", concurrency=1)
    t = world.session("t")
    for number in range(4):
        world.send(t, "work", number)
    assert [data for _, data in world.asked(here)] == [0]
    assert [(one.handler.node, bytes(one.data)) for one in world.all(AskRemote)] == [
        ("n1", b"1"),
        ("n2", b"2"),
        ("n1", b"3"),
    ]
    assert (len(one.outstanding), len(other.outstanding)) == (2, 1)
    world.answer(here, "1", DONE)
    world.send(t, "work", 4)
    assert [data for _, data in world.asked(here)] == [4]


def test_busy_nodes_let_messages_wait(world: World) -> None:
    node = elsewhere(world, "n1", "work", concurrency=1)
    t = world.session("t")
    for number in range(3):
        world.send(t, "work", number)
    first = world.only(AskRemote)
    assert t.held_bytes > 0
    answer(world, node, first.number, DONE)
    second = world.only(AskRemote)
    assert bytes(second.data) == b"1"
    answer(world, node, second.number, DONE)
    answer(world, node, world.only(AskRemote).number, DONE)
    assert world.at_rest(t)


def test_a_classic_handler_here_is_asked_and_nobody_else(world: World) -> None:
    world.configure(classic=TypeRules(classic_socket="aSock", classic_concurrency=1))
    elsewhere(world, "n1", "classic")
    t = world.session("t")
    world.send(t, "classic", 1)
    world.send(t, "classic", 2)
    call = world.only(CallClassic)
    world.answer_classic(call, DONE)
    assert bytes(world.only(CallClassic).request.data) == b"2"


def test_a_node_that_is_gone_fails_what_it_had_and_its_types_go(world: World) -> None:
    node = elsewhere(world, "n1", "chat")
    t = world.session("t")
    world.send(t, "chat", 1)
    world.effects()
    world.exchange.dispatcher.remove(node)
    assert world.code(t) == "handlerUnavailable"
    assert "chat" not in world.exchange.dispatcher.types
    assert world.at_rest(t)


def test_a_node_that_takes_too_long_is_not_waited_for(world: World) -> None:
    elsewhere(world, "n1", "chat")
    t = world.session("t")
    world.send(t, "chat", 1)
    world.exchange.batch.now += 31
    world.exchange.sweep()
    assert world.code(t) == "handlerTimeout"


def test_the_rules_of_a_type_hold_for_other_nodes_too(world: World) -> None:
    world.configure(attached={"chat": TypeRules(timeout_s=1.0)})
    elsewhere(world, "n1", "chat")
    assert world.exchange.dispatcher.types["chat"].rules.timeout_s == 1.0


def test_numbers_that_grow_longer_stay_in_step(world: World) -> None:
    node = elsewhere(world, "n1", "chat")
    t = world.session("t")
    for number in range(1, 12):
        world.send(t, "chat", number)
        asked = world.only(AskRemote)
        assert asked.number == number
        answer(world, node, number, DONE)
    assert len(world.got(t)) == 11


@pytest.mark.parametrize("able", [True, False])
def test_a_dry_run_asks_a_node_that_takes_part(world: World, able: bool) -> None:
    node = elsewhere(world, "n1", "chat")
    if able:
        node.dry_types = frozenset({"chat"})
    t = world.session("t")
    world.exchange.admission.message(t, Payload("chat", "1", Raw(b"1")), 10, trail=Trail(dry=True))
    if able:
        asked = world.only(AskRemote)
        assert asked.dry
        assert b'"dryRun":true' in asked.head
        answer(world, node, asked.number, clients("t"))
    assert [step["status"] for step in world.report(t)["route"]] == (["good", "planned"] if able else ["notAsked"])


# -- asked by others --------------------------------------------------------------------------------------------------


def test_a_handler_here_answers_another_node(world: World) -> None:
    chat, node = world.handler("chat"), NodePeer("n1")
    world.exchange.remote.ask(node, 77, "chat", HEAD, Raw(b'{"a":1}'))
    (request,) = world.requests(chat)
    assert request["payload"] == {"type": "chat", "id": "tag", "data": {"a": 1}}
    assert request["header"]["from"]["user"] == "t"
    assert (request["header"]["hops"], request["header"]["more"]) == (3, 1)
    assert world.exchange.reports.under_way == 1
    world.answer(chat, request["header"]["id"], clients("g"), data=[1.0])
    told = world.only(TellNode)
    envelope = told.envelope
    assert isinstance(envelope, Relayed)
    assert (told.node, envelope.number, envelope.error) == ("n1", 77, None)
    assert envelope.answer is not None
    again = decode_handler_message(frames.answer_body("77", envelope.answer))
    assert isinstance(again, HandlerMessage)
    assert again.header.id == "77"
    assert bytes(again.data) == b"[1.0]"
    assert again.header.commands is not None
    assert again.header.commands[0].data == ["g"]
    assert world.at_rest(node)
    assert (world.exchange.batch.counters.accepted, world.exchange.batch.counters.good) == (0, 0)
    assert world.exchange.reports.receipts.entries == []


def test_a_classic_handler_here_answers_another_node(world: World) -> None:
    world.configure(classic=TypeRules(classic_socket="aSock"))
    node = NodePeer("n1")
    world.exchange.remote.ask(node, 1, "classic", HEAD, Raw(b"5"))
    call = world.only(CallClassic)
    assert bytes(call.request.data) == b"5"
    world.answer_classic(call, DONE)
    assert world.only(TellNode).envelope.error is None


def test_what_goes_wrong_here_is_told(world: World) -> None:
    chat, node = world.handler("chat"), NodePeer("n1")
    world.exchange.remote.ask(node, 1, "nothing", HEAD, Raw(b"5"))
    world.exchange.remote.ask(node, 2, "chat", HEAD, Raw(b"5"))
    world.answer(chat, world.asked(chat)[0][0], header={"status": "1"})
    told = world.all(TellNode)
    assert [one.envelope.error.code for one in told if one.envelope.error] == ["handlerUnavailable", "handlerError"]
    assert world.at_rest(node)


def test_a_node_is_never_sent_on_to_a_third_one(world: World) -> None:
    elsewhere(world, "n2", "chat")
    world.exchange.remote.ask(NodePeer("n1"), 1, "chat", HEAD, Raw(b"5"))
    assert world.only(TellNode).envelope.error is not None


def test_another_nodes_dry_run_is_one_here(world: World) -> None:
    chat, node = world.handler("chat"), NodePeer("n1")
    chat.dry_types = frozenset({"chat"})
    world.exchange.remote.ask(node, 1, "chat", HEAD, Raw(b"5"), dry=True)
    world.answer(chat, world.asked(chat)[0][0], clients("g"))
    envelope = world.only(TellNode).envelope
    assert isinstance(envelope, Relayed)
    assert envelope.answer is not None


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


def bring(world: World, number: int = 9, data: bytes = b"1", **more: Any) -> NodePeer | None:
    node = NodePeer("n1")
    here = world.exchange.remote.bring(node, number, "g", f"d{number}", "chat", Raw(data), to="G", **more)
    return node if here else None


def outcome(world: World) -> dict[str, Any]:
    told = world.only(TellNode)
    assert told.envelope.results is not None
    found: dict[str, Any] = json.loads(told.envelope.results[0])
    return found


def test_what_another_node_brings_is_delivered_and_told(world: World) -> None:
    g = world.session("g")
    node = bring(world)
    assert node is not None
    assert world.received(g) == [("chat", 1)]
    assert outcome(world) == {"to": "G", "status": "delivered"}
    assert world.at_rest(node)


def test_what_is_brought_to_nobody_is_not_taken(world: World) -> None:
    assert bring(world) is None
    assert world.effects() == []
    assert world.at_rest()


def test_what_is_brought_waits_for_an_acknowledgement_and_is_kept_without_one(world: World) -> None:
    g = acking(world)
    node = bring(world)
    assert node is not None
    assert given(world, g) == [("d9", 1)]
    assert (node.in_flight, node.waiting) == (0, 1)
    world.exchange.deliveries.acknowledged(g, ["d9"])
    assert outcome(world) == {"to": "G", "status": "delivered"}
    assert world.at_rest(node)
    node = bring(world, 10)
    world.exchange.deliveries.remove_session(g)
    (deposit, _) = sorted(world.effects(), key=lambda one: not isinstance(one, Deposit))
    assert isinstance(deposit, Deposit)
    stored(world, deposit)
    assert outcome(world) == {"to": "G", "status": "stored"}
    assert node is not None
    assert node.waiting == 0


def test_what_is_brought_to_a_session_that_catches_up_goes_behind_its_mail(world: World) -> None:
    world.session("g", has_mail=True)
    world.effects()
    bring(world)
    stored(world, world.only(Deposit))
    told = [one for one in world.effects() if isinstance(one, TellNode)]
    assert told[0].envelope.results == [b'{"to":"G","status":"stored"}']


def test_what_is_brought_and_not_taken_by_the_socket_is_kept_under_its_own_id(world: World) -> None:
    g = world.session("g")
    node = bring(world)
    assert node is not None
    world.exchange.deliveries.session_blocked(g)
    world.exchange.deliveries.remove_session(g)
    world.exchange.written()
    (deposit,) = [one for one in world.effects() if isinstance(one, Deposit)]
    assert (deposit.delivery.id, deposit.delivery.to) == ("d9", "G")
    stored(world, deposit)
    assert outcome(world) == {"to": "G", "status": "stored"}
    assert world.at_rest(node)


def test_what_is_brought_under_the_very_name_of_the_account_says_so(world: World) -> None:
    world.session("g")
    assert world.exchange.remote.bring(NodePeer("n1"), 9, "g", "d", "chat", Raw(b"1"))
    world.exchange.written()
    assert outcome(world) == {"to": "g", "status": "delivered"}


def test_nobody_waits_for_a_copy(world: World) -> None:
    g = world.session("g")
    node = bring(world, copy=True)
    assert node is not None
    assert world.received(g) == [("chat", 1)]
    assert world.effects() == []
    assert (node.in_flight, world.exchange.reports.under_way) == (0, 0)
    catching_up = world.session("h", has_mail=True)
    world.effects()
    world.exchange.remote.bring(node, 0, "h", "d", "chat", Raw(b"2"), copy=True)
    assert world.only(Deposit).delivery.settled
    assert world.received(catching_up) == []


# -- accounts with sessions on several nodes --------------------------------------------------------------------------


def test_the_others_of_a_shared_account_get_a_copy(world: World) -> None:
    chat = world.handler("chat")
    t, g = world.session("t"), world.session("g")
    world.exchange.deliveries.share("g", True)
    world.send(t, "chat", 1)
    world.answer(chat, "1", clients("g"), payload={"data": 1})
    assert world.received(g) == [("chat", 1)]
    shared = world.only(Share)
    assert (shared.delivery.username, bytes(shared.delivery.data)) == ("g", b"1")
    assert world.report(t)["results"] == [{"to": "g", "status": "delivered"}]
    world.exchange.deliveries.share("g", False)
    world.exchange.deliveries.share("nobody", True)
    world.send(t, "chat", 2)
    world.answer(chat, "2", clients("g"), payload={"data": 2})
    assert world.effects() == []


def test_a_session_looks_for_mail_that_came_on_another_node(world: World) -> None:
    world.session("g")
    world.exchange.replay.mail_came("g")
    assert world.only(ReadMailbox).session.username == "g"
    world.exchange.replay.mail_came("g")
    world.exchange.replay.mail_came("nobody")
    assert world.effects() == []
    (session,) = world.exchange.presence.sessions("g")
    world.exchange.replay.page(session, [])  # which was read before the second time
    assert world.only(ReadMailbox).after == 0
    world.exchange.replay.page(session, [])
    assert session.phase is Phase.LIVE
    assert world.effects() == []


def test_what_was_brought_elsewhere_has_its_outcome(world: World) -> None:
    chat = world.handler("chat")
    t = world.session("t")
    world.send(t, "chat", 1)
    world.answer(chat, "1", clients("g"))
    world.exchange.replay.deposited(world.only(Deposit).delivery, "delivered")
    assert world.report(t)["results"] == [{"to": "g", "status": "delivered"}]
    assert world.at_rest(t)
