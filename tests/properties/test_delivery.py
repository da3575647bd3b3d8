"""Messages for accounts, whatever their sessions do: what is reported good is there or is kept, once, in order.

The model is the account's own: what a session *has* (it acknowledged it, or its socket took it), and what the store
holds. Reports are compared with that the moment they are written.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.core.world import answered

from bester.core import delivery, replay, window
from bester.core.effects import CutOff, Deposit, ReadMailbox, RemoveLetter
from bester.core.exchange import Exchange
from bester.core.redelivery import ACK_S
from bester.core.replay import Letter
from bester.core.routing import AttachedHandler
from bester.core.session import Phase, Session

ACCOUNTS = ["g", "h"]
picks = st.integers(0, 1000)
TYPES = ["even", "odd"]


def type_of(number: int) -> str:
    return TYPES[number % 2]


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a few messages go beyond."""
    for module in (window, replay):
        monkeypatch.setattr(module, "WINDOW_MESSAGES", 4)
    monkeypatch.setattr(replay, "_MIN_PAGE", 1)
    monkeypatch.setattr(delivery, "QUEUE_MESSAGES", 3)


class End:
    """A client's end of a session."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.socket: list[tuple[str | None, int]] = []
        """Frames that were written and that the socket did not take."""
        self.unacknowledged: list[str] = []
        self.got: list[int] = []
        """Numbers of the messages that came, repeats left out."""


class DeliveryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.exchange = Exchange("j.example")
        self.exchange.batch.now = 100.0
        self.sender = Session("t", "j.example")
        self.exchange.deliveries.add_session(self.sender)
        self.handler = AttachedHandler("chat", "j.example", 65_536)
        self.exchange.dispatcher.attach(self.handler, ["chat"], 1e9)
        self.ends: list[End] = []
        self.number = 0
        self.request = 0
        self.jobs: deque[Deposit | RemoveLetter | ReadMailbox] = deque()
        """What the store was asked, in order; it answers later."""
        self.mail: dict[str, dict[str, tuple[int, int]]] = {name: {} for name in ACCOUNTS}
        """By delivery id: position and number."""
        self.position = 0
        self.numbers: dict[tuple[str, str], int] = {}
        self.has: dict[str, set[int]] = {name: set() for name in ACCOUNTS}
        self.reported: set[int] = set()
        self.choosy = False
        """Whether some session ever took messages of one type alone: between types there is no order then."""
        self.write()

    # -- the server's part --

    def write(self, choke: frozenset[int] = frozenset()) -> None:
        """Writes, with the sockets of some sessions taking nothing of it."""
        exchange = self.exchange
        while exchange.settle():
            effects, exchange.batch.effects = exchange.batch.effects, []
            for effect in effects:
                if isinstance(effect, Deposit | RemoveLetter | ReadMailbox):
                    self.jobs.append(effect)
                elif isinstance(effect, CutOff) and not effect.session.closed:
                    self.end(next(end for end in self.ends if end.session is effect.session))
            dirty, exchange.batch.dirty = exchange.batch.dirty, []
            for endpoint in dirty:
                endpoint.listed = False
                frames = [json.loads(frame[4:]) for frame in endpoint.out]
                end = next((end for end in self.ends if end.session is endpoint), None)
                if end is not None and not end.session.closed:
                    self.into_socket(end, frames, self.ends.index(end) in choke)
                elif endpoint is self.sender:
                    for frame in frames:
                        self.check_report(frame)
                endpoint.out.clear()
            exchange.written()

    def into_socket(self, end: End, frames: list[Any], choke: bool) -> None:
        takes = end.session.takes
        for frame in frames:
            number, type = frame["payload"]["data"], frame["payload"]["type"]
            assert type == type_of(number)
            assert takes is None or type in takes
            end.socket.append((frame["payload"].get("deliveryId"), frame["payload"]["data"]))
        if choke and end.socket and not end.session.blocked:
            self.exchange.deliveries.session_blocked(end.session)
        if not end.session.blocked:
            self.read_socket(end)

    def read_socket(self, end: End) -> None:
        for id, number in end.socket:
            if number not in end.got:
                end.got.append(number)
            if id is None:
                self.has[end.session.username].add(number)
            else:
                self.numbers[end.session.username, id] = number
                end.unacknowledged.append(id)
        end.socket.clear()

    def check_report(self, frame: Any) -> None:
        number = int(frame["payload"]["id"])
        assert number not in self.reported
        self.reported.add(number)
        assert frame["header"]["status"] == "good"
        for result in frame["payload"]["results"]:
            name = result["to"]
            kept = {stored for _, stored in self.mail[name].values()}
            assert number in self.has[name] | kept, (result, number)

    def end(self, end: End) -> None:
        self.ends.remove(end)
        self.exchange.deliveries.remove_session(end.session)

    # -- what happens --

    @rule(
        name=st.sampled_from(ACCOUNTS),
        ack=st.booleans(),
        takes=st.none() | st.frozensets(st.sampled_from(TYPES), max_size=1),
    )
    def connect(self, name: str, ack: bool, takes: frozenset[str] | None) -> None:
        has_mail = bool(self.mail[name])
        if takes is not None and not takes:
            ack = has_mail = False
        self.choosy = self.choosy or bool(takes)
        session = Session(name, "j.example", features=("ack",) if ack else (), takes=takes)
        self.ends.append(End(session))
        self.exchange.deliveries.add_session(session, has_mail=has_mail)

    @precondition(lambda self: self.ends)
    @rule(pick=picks)
    def disconnect(self, pick: int) -> None:
        self.end(self.ends[pick % len(self.ends)])

    @rule(names=st.lists(st.sampled_from(ACCOUNTS), min_size=1, unique=True), times=st.integers(1, 3))
    def send(self, names: list[str], times: int) -> None:
        for _ in range(times):
            self.number += 1
            self.request += 1
            number = b"%d" % self.number
            self.exchange.admission.untracked_message(self.sender, "chat", b'"%b"' % number, number, 10)
            header = {"id": str(self.request), "status": "0", "command": {"type": "sendClients", "data": names}}
            payload = {"type": type_of(self.number), "data": self.number}
            answered(self.exchange, self.handler, {"header": header, "payload": payload})

    @rule(choke=st.frozensets(st.integers(0, 3)))
    def batch_ends(self, choke: frozenset[int]) -> None:
        self.write(choke)

    @precondition(lambda self: self.ends)
    @rule(pick=picks)
    def socket_drains(self, pick: int) -> None:
        self.write()
        end = self.ends[pick % len(self.ends)] if self.ends else None
        if end is not None and end.session.blocked:
            self.read_socket(end)
            self.exchange.deliveries.session_unblocked(end.session)

    @precondition(lambda self: self.ends)
    @rule(pick=picks, which=st.lists(st.integers(0, 5), max_size=4))
    def acknowledge(self, pick: int, which: list[int]) -> None:
        end = self.ends[pick % len(self.ends)]
        ids = [end.unacknowledged[at] for at in set(which) if at < len(end.unacknowledged)]
        for id in ids:
            end.unacknowledged.remove(id)
            self.has[end.session.username].add(self.numbers[end.session.username, id])
        self.exchange.deliveries.acknowledged(end.session, ids)

    @precondition(lambda self: self.jobs)
    @rule(count=st.integers(1, 4))
    def store_answers(self, count: int) -> None:
        for _ in range(min(count, len(self.jobs))):
            job = self.jobs.popleft()
            if isinstance(job, Deposit):
                entry = job.delivery
                self.position += 1
                number = json.loads(bytes(entry.data))
                self.mail[entry.username].setdefault(entry.id, (self.position, number))
                self.exchange.replay.deposited(entry, "stored")
            elif isinstance(job, RemoveLetter):
                self.mail[job.username].pop(job.id, None)
            else:
                found = [
                    Letter(position, id, type_of(number), b"%d" % number)
                    for id, (position, number) in self.mail[job.session.username].items()
                    if position > job.after
                ][:2]
                self.exchange.replay.page(job.session, found)

    @rule(seconds=st.sampled_from([0.5, 3.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.exchange.batch.now += seconds
        self.exchange.sweep()

    # -- what is always true --

    @invariant()
    def accounts_are_written_to_directly_only_when_every_session_takes_it(self) -> None:
        for name in ACCOUNTS:
            account = self.exchange.presence.find(name)
            if account is not None and account.direct:
                assert all(
                    session.phase is Phase.LIVE and not session.blocked and not session.queue
                    for session in account.sessions
                )
        for end in self.ends:
            session = end.session
            assert session.phase is Phase.LIVE or not session.queue
            assert session.unacked_bytes == sum(len(one.data) + 256 for one in session.unacked.values())
            assert session.queue_bytes == sum(len(one.data) + 256 for one in session.queue)

    @invariant()
    def the_oldest_unacknowledged_comes_first(self) -> None:
        for end in self.ends:
            missed = [number for number in end.got if number not in self.has[end.session.username]]
            assert missed == sorted(missed)

    @invariant()
    def sessions_without_ack_get_each_message_once_and_in_order(self) -> None:
        for end in self.ends:
            if not end.session.acknowledges:
                parts = [[number for number in end.got if number % 2 == one] for one in (0, 1)]
                for got in parts if self.choosy else [end.got]:
                    assert got == sorted(got)

    def teardown(self) -> None:
        """Everybody reads and acknowledges: then all is reported, and nothing waits any more."""
        for _ in range(10_000):
            self.write()
            for end in self.ends:
                if end.session.blocked:
                    self.read_socket(end)
                    self.exchange.deliveries.session_unblocked(end.session)
                if end.unacknowledged:
                    self.acknowledge(self.ends.index(end), list(range(5)))
            if self.jobs:
                self.store_answers(4)
            elif (
                not self.exchange.batch.dirty
                and not self.exchange.batch.effects
                and not any(end.unacknowledged for end in self.ends)
            ):
                break
        assert self.exchange.reports.under_way == 0
        assert self.reported == set(range(1, self.number + 1))
        for name in ACCOUNTS:
            kept = {number for _, number in self.mail[name].values()}
            for end in self.ends:
                if end.session.username == name:
                    assert end.session.phase is Phase.LIVE
                    assert not end.session.unacked
            open = [end.session for end in self.ends if end.session.username == name]
            for number in kept - self.has[name]:
                assert not any(session.takes is None or type_of(number) in session.takes for session in open)


TestDelivery = DeliveryMachine.TestCase
TestDelivery.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)

assert ACK_S < 31.0
