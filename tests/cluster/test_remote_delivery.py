"""Messages for accounts on other nodes keep their order when they go to the mailbox, without NATS."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from msgspec import Raw

from bester.core.effects import Deposit
from bester.core.exchange import Exchange
from bester.core.model import Delivery
from bester.protocol.frames import result
from bester.server.cluster.remote_delivery import TAKE_S, RemoteDelivery


class Node:
    """A node's RemoteDelivery, whose NATS messages and deposits are recorded."""

    def __init__(self) -> None:
        self.exchange = Exchange("j.example")
        self.exchange.batch.now = 1000.0
        self.deposits: list[str] = []
        self.replies: list[str] = []
        self.keeps = False
        """Whether something is on its way into the mailbox."""
        bus = SimpleNamespace(up=True, inbox="inbox.", subscribe=lambda subject, callback: None)
        batcher: Any = SimpleNamespace(
            bus=bus,
            subjects=SimpleNamespace(account=lambda username: username),
            publish=lambda subject, items, reply: self.replies.append(reply),
            to_node=lambda *item: None,
        )
        mailboxes: Any = SimpleNamespace(
            keeps=lambda username: self.keeps, deposit=lambda effect: self.deposits.append(effect.delivery.id)
        )
        membership: Any = SimpleNamespace(some_silent=False, all_heard=lambda seconds: True)
        runtime: Any = SimpleNamespace(exchange=self.exchange, turn=lambda: self.exchange)
        self.remote = RemoteDelivery(runtime, mailboxes, batcher, membership)

    def bring(self, id: str) -> int:
        """Brings a message to g; returns its number."""
        self.exchange.replay.depositing["g"] = self.exchange.replay.depositing.get("g", 0) + 1
        delivery = Delivery(None, 0, "g", "g", id, "chat", Raw(b"1"), in_mailbox=True, settled=True)
        assert self.remote.bring(Deposit(delivery))
        self.remote.flush()
        return next(reversed(self.remote._under_way))

    def nobody(self) -> None:
        """NATS says that nobody listens for the message that was brought last."""
        self.remote._nobody(self.replies[-1], "", b"", b"")


def test_a_letter_waits_for_an_older_one_that_another_node_puts_into_the_mailbox() -> None:
    node = Node()
    first = node.bring("first")
    node.remote.taken("b", first)
    node.bring("second")
    node.nobody()
    assert node.deposits == []
    node.remote.outcome("b", first, result("g", "stored"))
    assert node.deposits == ["second"]


def test_a_letter_does_not_wait_long_for_an_older_one() -> None:
    node = Node()
    node.remote.taken("b", node.bring("first"))
    node.exchange.batch.now += TAKE_S / 2
    node.bring("second")
    node.nobody()
    node.exchange.batch.now += TAKE_S
    node.remote.sweep(node.exchange.batch.now)
    assert node.deposits == ["second"]


def test_a_letter_waits_for_an_older_one_that_was_handed_to_a_node_by_guess() -> None:
    node = Node()
    found = node.bring("found")
    node.remote.outcome("b", found, b"")  # so the next one is handed to that node
    handed = node.bring("handed")
    node.remote.node_leaves("b")
    node.bring("second")
    node.nobody()
    assert node.deposits == []
    node.remote.gone("b", handed)
    assert node.deposits == ["handed", "second"]


def test_a_letter_waits_for_an_older_one_also_where_one_is_on_its_way_into_the_mailbox() -> None:
    node = Node()
    node.bring("first")
    node.keeps = True
    node.bring("second")
    assert node.deposits == []
    node.nobody()
    assert node.deposits == ["first", "second"]
