"""Nodes that claim a ``once`` message: whatever comes in whatever order, it is with one of them at a time."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.world import DONE, World

from bester.cluster.items import Claimed, Kind, Replied, pack, read, unpack
from bester.core.effects import Finished, Recall
from bester.server.cluster.once_claims import OnceClaims

NAMES = ["a", "b", "c"]


class Node:
    """One node's exchange and claims; what it sends waits in lines, one for each that hears it."""

    def __init__(self, play: Play, name: str) -> None:
        self.play = play
        self.node = name
        self.world = World()
        self.exchange = self.world.exchange
        self.exchange.admission.may_recall = lambda key: True
        self.handler = self.world.handler("pay")
        self.senders = [self.world.session("t") for _ in range(2)]
        self.requests: list[str] = []
        self.disk: deque[Coroutine[Any, Any, None]] = deque()
        """Questions to the disk, which is as empty as it was."""
        self.bus = SimpleNamespace(up=True)
        runtime: Any = SimpleNamespace(
            exchange=self.exchange,
            clock=lambda: 1000.0,
            spawn=self.disk.append,
            turn=lambda: self.exchange,
        )
        mailboxes: Any = SimpleNamespace(look_up=_nothing)
        batcher: Any = self
        membership: Any = SimpleNamespace(
            others={other: SimpleNamespace(hello=SimpleNamespace(claims=True)) for other in NAMES if other != name}
        )
        self.once_claims = OnceClaims(runtime, mailboxes, batcher, membership)

    # -- what stands for its batcher --

    def to_all(self, kind: Kind, note: Any = None, number: int = 0, *body: bytes) -> None:
        for other in NAMES:
            if other != self.node:
                self.to_node(other, kind, number, note, *body)

    def to_node(self, node: str, kind: Kind, number: int = 0, note: Any = None, *body: bytes) -> None:
        self.play.lines[self.node, node].append(pack(kind, number, note, *body))

    # -- what happens --

    def hear(self, node: str, item: bytes) -> None:
        _, ((kind, number, note, body),) = unpack(b"\x01\x00" + item)
        if kind == Kind.CLAIM:
            self.once_claims.asked(node, number, body)
        elif kind == Kind.CLAIMED:
            self.once_claims.answered(node, number, read(note, Claimed).known, body)
        else:
            self.once_claims.replied(node, number, read(note, Replied), body)

    def send(self, sender: int) -> None:
        self.exchange.admission.message(self.senders[sender], "pay", b'"1"', b"1", 100, once=True)

    def flush(self) -> None:
        while self.exchange.batch.effects:
            effects, self.exchange.batch.effects = self.exchange.batch.effects, []
            for effect in effects:
                if isinstance(effect, Recall):
                    self.once_claims.recall(effect)
                else:
                    assert isinstance(effect, Finished), effect
        self.requests += [request["header"]["id"] for request in self.world.requests(self.handler)]
        self.once_claims.flush()


class Play:
    def __init__(self) -> None:
        self.lines: dict[tuple[str, str], deque[bytes]] = {
            (here, there): deque() for here in NAMES for there in NAMES if here != there
        }
        self.nodes = {name: Node(self, name) for name in NAMES}
        self.sent = self.reported = self.good = 0

    def choices(self) -> list[tuple[Any, ...]]:
        """What may happen next without anybody's sending something."""
        found: list[tuple[Any, ...]] = [("hear", *line) for line, items in self.lines.items() if items]
        found += [("disk", name) for name, node in self.nodes.items() if node.disk]
        return found

    def do(self, what: str, *names: str) -> None:
        node = self.nodes[names[-1]]
        if what == "hear":
            node.hear(names[0], self.lines[names[0], names[1]].popleft())
        elif what == "disk":
            with contextlib.suppress(StopIteration):
                node.disk.popleft().send(None)
        node.flush()
        self.check()

    def send(self, name: str, sender: int) -> None:
        self.sent += 1
        self.nodes[name].send(sender)
        self.nodes[name].flush()
        self.check()

    def answer(self, good: bool) -> bool:
        """The handler that has it answers, if one has."""
        for node in self.nodes.values():
            if node.requests:
                id = node.requests.pop()
                if good:
                    node.world.answer(node.handler, id, DONE)
                    self.good += 1
                else:
                    node.exchange.dispatcher.remove(node.handler)  # which is a temporary error
                    node.handler = node.world.handler("pay")
                node.flush()
                self.check()
                return True
        return False

    def check(self) -> None:
        assert sum(len(node.requests) for node in self.nodes.values()) <= (not self.good)
        for node in self.nodes.values():
            for sender in node.senders:
                self.reported += len(node.world.got(sender))


async def _nothing(key: bytes) -> None:
    return None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_once_message_is_with_one_node_at_a_time(data: st.DataObject) -> None:
    play = Play()
    try:
        _claims(data, play)
    finally:  # an example may end in the midst of it
        for node in play.nodes.values():
            for looking in node.disk:
                looking.close()


def _claims(data: st.DataObject, play: Play) -> None:
    moves = ["send"] * 2 + ["happen"] * 6 + ["fail", "answer"]
    for move in data.draw(st.lists(st.sampled_from(moves), max_size=60)):
        if move == "send" and play.sent < 8:
            play.send(data.draw(st.sampled_from(NAMES)), data.draw(st.integers(0, 1)))
        elif move == "happen" and (choices := play.choices()):
            play.do(*data.draw(st.sampled_from(choices)))
        elif move in ("fail", "answer"):
            play.answer(move == "answer")
    while (choices := play.choices()) or play.answer(good=True):
        if choices:
            play.do(*choices[0])
    # Everybody has a report in the end, and nothing is waited for.
    assert play.reported == play.sent
    for node in play.nodes.values():
        assert not node.once_claims._open
        assert not node.once_claims._by_key
        assert node.world.at_rest(*node.senders)
