"""The gate of a type: what a message of a client or another server must pass before its handler is asked.

A type has a gate only if something is to be looked at, so that the messages of all others pay for one comparison. The
data is validated first. Then guards are asked (:mod:`bester.core.guard`), all messages of a sender at the same time and
each message one guard after the other; what the guards let pass is handed on in the order in which it came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec import Struct

from bester.core.dispatch import Dispatcher
from bester.core.effects import HoldBack
from bester.core.endpoint import Consented, Endpoint
from bester.core.guard import Verdict, is_asked, refused, verdict_of, without_verdict
from bester.core.metrics import Drop
from bester.core.reports import Reports
from bester.core.routing import Question, Request
from bester.core.rules import GuardRule
from bester.errors import BadResponse, BesterError, Cancelled, HandlerFailed, HandlerTimeout, NoHandler
from bester.protocol.messages import Data, HandlerMessage

Validator = Callable[[Data], BesterError | None]
"""Returns why a message's data is refused, or None if it fits."""
HELD = "held"


class Passage(Struct, gc=False, eq=False):
    """One message on its way past the guards."""

    request: Request
    rules: tuple[GuardRule, ...]
    """Those that apply."""
    place: int = 0
    """The index of the guard that is asked."""
    guard: str = ""
    """The guard that wants it held back; empty if none does."""
    holder: str | None = None
    """The account that may then consent; None: the operators."""
    decided: bool = False
    error: BesterError | None = None
    """Why it does not pass, if it is decided."""
    question: Question | None = None
    """What the guard is asked that has not answered."""


class Gate:
    """The gate of one type; :meth:`admit` is the type's :attr:`~bester.core.routing.TypeRoute.gate`."""

    __slots__ = ("_gates", "_lines", "rules", "tapped", "validate")

    def __init__(self, gates: Gates) -> None:
        self._gates = gates
        self.tapped = False
        """Whether the type has a tap, which sees no message of the shortest path."""
        self.validate: Validator | None = None
        """Looks at the data first."""
        self.rules: tuple[GuardRule, ...] = ()
        self._lines: dict[Endpoint, deque[Passage]] = {}
        """By sender, the messages that have not passed yet, in their order."""

    @property
    def open(self) -> bool:
        """Whether nothing is to be looked at, so that the type needs no gate."""
        return self.validate is None and not self.tapped and not self.rules and not self._lines

    def admit(self, request: Request) -> None:
        """Hands a request on if it may pass; else reports why not."""
        gates = self._gates
        origin = request.envelope.origin
        if isinstance(origin, Consented):
            gates.dispatcher.hand_on(request)
            return
        error = self.validate(request.data) if self.validate is not None else None
        if error is not None:
            gates.refuse(request, error)
            return
        rules = tuple(rule for rule in self.rules if is_asked(rule, origin, gates.known))
        line = self._lines.get(origin)
        if line is None:
            if not rules:
                gates.dispatcher.hand_on(request)
                return
            line = self._lines[origin] = deque()
        passage = Passage(request, rules, decided=not rules)
        line.append(passage)
        request.envelope.untracked = False
        gates.batch.hold(origin, request.size)
        if rules:
            gates.ask(self, passage)
        else:
            self.advance(origin)

    def advance(self, origin: Endpoint) -> None:
        """Lets the first messages of a sender pass, as far as they are decided."""
        line = self._lines.get(origin)
        while line and line[0].decided:
            passage = line[0]
            if passage.guard and passage.error is None:
                trail = passage.request.envelope.trail
                if trail is None or not trail.dry:
                    passage.decided = False  # until it is kept
                    self._gates.hold_back(self, passage)
                    return
                line.popleft()
                self._gates.finish(passage)
            else:
                line.popleft()
                self._gates.let_pass(passage)
        if line is not None and not line:
            del self._lines[origin]
            self._gates.forget_if_open(self)

    def cancel(self, origin: Endpoint, unwanted: Callable[[Request], bool]) -> None:
        """Has messages of a sender reported as cancelled, in their order; one that is being kept stays."""
        for passage in self._lines.get(origin, ()):
            if passage.error is None and (passage.decided or passage.question) and unwanted(passage.request):
                if passage.question is not None:
                    self._gates.withdraw(passage.question, Cancelled.code)
                passage.question, passage.decided, passage.error = None, True, Cancelled()
        self.advance(origin)

    def held_back(self, passage: Passage, *, passes: bool) -> None:
        """The first message of a sender is kept, or its holder has consented before; goes on with the next."""
        origin = passage.request.envelope.origin
        line = self._lines[origin]
        if passes:
            passage.guard, passage.decided = "", True
        else:
            line.popleft()
            self._gates.finish(passage)
        self.advance(origin)


class Asked(NamedTuple):
    """A question that a guard has not answered."""

    since: float
    gate: Gate
    passage: Passage
    question: Question | None


class Gates:
    """The gates of all types, and the questions that guards have not answered."""

    __slots__ = (
        "_gates",
        "_holding",
        "_last",
        "_open",
        "_rules",
        "batch",
        "dispatcher",
        "known",
        "reports",
        "verdicts",
    )

    def __init__(self, dispatcher: Dispatcher, reports: Reports) -> None:
        self.dispatcher = dispatcher
        self.reports = reports
        self.batch = dispatcher.batch
        self.known: frozenset[str] = frozenset()
        """The servers that are no strangers, by their proven names."""
        self.verdicts: dict[tuple[str, str], int] = {}
        """How many verdicts there were since the start, by guard and verdict."""
        self._gates: dict[str, Gate] = {}
        self._rules: tuple[GuardRule, ...] = ()
        self._open: dict[float, dict[int, Asked]] = {}
        """By time limit, and then by number, the oldest first."""
        self._holding: dict[int, tuple[Gate, Passage]] = {}
        self._last = 0
        dispatcher.gate_of = self._gate_of

    # -- which types have a gate ---------------------------------------------------------------------------------

    def validate(self, type: str, validator: Validator | None) -> None:
        """Looks at the data of a type's messages from now on, with another validator than before; None: no longer."""
        gate = self._gates.get(type) or self._new(type)
        gate.validate = validator
        self._keep(type, gate)

    def tap(self, type: str, on: bool) -> None:
        """Lets a type's messages take the path on which its tap sees them (:mod:`bester.core.tap`)."""
        gate = self._gates.get(type) or self._new(type)
        gate.tapped = on
        self._keep(type, gate)

    def refusal(self, type: str, data: Data) -> BesterError | None:
        """Returns why data that another node hands to a handler here is refused; only this node has the schema."""
        gate = self._gates.get(type)
        return gate.validate(data) if gate is not None and gate.validate is not None else None

    def guard(self, rules: Sequence[GuardRule], known: frozenset[str]) -> None:
        """Asks other guards from now on; messages that are being asked about go on.

        Args:
            rules: the guards, in the order in which they are asked.
            known: the servers that are no strangers.
        """
        self.known = known
        self._rules = tuple(rules)
        for type in dict.fromkeys((*self._gates, *self.dispatcher.types)):
            gate = self._gates.get(type) or self._new(type)
            gate.rules = self.rules_of(type)
            self._keep(type, gate)

    def rules_of(self, type: str) -> tuple[GuardRule, ...]:
        """Returns the rules that apply to a type, in the order in which the guards are asked."""
        is_guard = any(rule.guard == type for rule in self._rules)
        return tuple(
            rule
            for rule in self._rules
            if (not is_guard if rule.types is None else type in rule.types) and rule.guard != type
        )

    def _new(self, type: str) -> Gate:
        gate = Gate(self)
        gate.rules = self.rules_of(type)
        return gate

    def _gate_of(self, type: str) -> Callable[[Request], None] | None:
        gate = self._gates.get(type)
        if gate is None:
            gate = self._new(type)
            if gate.open:
                return None
            self._gates[type] = gate
        return gate.admit

    def _keep(self, type: str, gate: Gate) -> None:
        admit = gate.admit
        if gate.open:
            self._gates.pop(type, None)
        else:
            self._gates[type] = gate
        route = self.dispatcher.types.get(type)
        if route is not None:
            route.gate = None if gate.open else admit

    def forget_if_open(self, gate: Gate) -> None:
        """Removes a gate that had messages to let pass, and has nothing more to look at."""
        if gate.open:
            for type in [type for type, one in self._gates.items() if one is gate]:
                self._keep(type, gate)

    # -- asking --------------------------------------------------------------------------------------------------

    def ask(self, gate: Gate, passage: Passage) -> None:
        """Asks the next guard of a message."""
        request, rule = passage.request, passage.rules[passage.place]
        envelope, now = request.envelope, self.batch.now
        self.dispatcher.traces.of(envelope)  # with a trace of its own the request is not made the quick way
        step = envelope.trail.add("guard", rule.guard, now) if envelope.trail is not None else None
        route = self.dispatcher.types.get(rule.guard)
        if route is None:
            if step is not None:
                step.end(now, NoHandler.code)
            self._judged(Asked(now, gate, passage, None), None)
            return
        self._last += 1
        question = Question(envelope, route, request.data, request.hops, now, request.size, step=step)
        question.guards, question.timeout_s = request.route.name, rule.timeout_s
        question.number, question.judge = self._last, self._answered
        passage.question = question
        self._open.setdefault(rule.timeout_s, {})[self._last] = Asked(now, gate, passage, question)
        self.dispatcher.hand_on(question)

    def _answered(self, question: Question, message: HandlerMessage | None, error: BesterError | None) -> None:
        """A guard has answered, or gives no answer."""
        asked = self._open[question.timeout_s].pop(question.number, None)
        if asked is None:
            if message is not None:
                self.batch.counters.drops.count(Drop.ANSWER_LATE)
            return
        verdict: Verdict | None = None
        if message is not None:
            route, now = question.route, self.batch.now
            try:
                verdict = verdict_of(message, route.name)
            except BadResponse as wrong:
                route.metrics.failed += 1
                route.last_error = f"{wrong.code}: {wrong.message}"
                if question.step is not None:
                    question.step.end(now, wrong.code)
            else:
                route.metrics.took(now - question.since)
                if question.step is not None:
                    question.step.end(now, verdict.status)
        elif error is None:
            verdict = Verdict("accept")  # it takes no part in dry runs
        elif isinstance(error, HandlerFailed):  # of another node
            verdict = refused(error)
        self._judged(asked, verdict)

    def _judged(self, asked: Asked, verdict: Verdict | None) -> None:
        """Goes by a guard's verdict; without one, by the rule."""
        gate, passage = asked.gate, asked.passage
        rule = passage.rules[passage.place]
        key = rule.guard, "failure" if verdict is None else verdict.kind
        self.verdicts[key] = self.verdicts.get(key, 0) + 1
        verdict = verdict or without_verdict(rule)
        passage.question = None
        passage.error = verdict.error
        if verdict.kind == "hold" and not passage.guard:
            passage.guard, passage.holder = rule.guard, verdict.holder
        passage.place += 1
        if passage.error is None and passage.place < len(passage.rules):
            self.ask(gate, passage)
        else:
            passage.decided = True
            gate.advance(passage.request.envelope.origin)

    def sweep(self) -> None:
        """Waits no longer for guards that take too long; called a few times a second."""
        now = self.batch.now
        for timeout_s, questions in list(self._open.items()):  # asking the next guard may add to it
            while questions:
                asked = next(iter(questions.values()))
                if now - asked.since < timeout_s:
                    break
                question = asked.question
                assert question is not None
                self.withdraw(question, HandlerTimeout.code)
                question.route.last_error = "handlerTimeout: a guard gave no verdict in time"
                self._judged(asked, None)

    def withdraw(self, question: Question, why: str) -> None:
        """Waits no longer for a guard's answer; if the guard has the question, its answer matches nothing."""
        del self._open[question.timeout_s][question.number]
        if question.route.withdraw_one(question):
            if question.route.tap is not None:
                question.route.tap.forget(question)
            self.batch.release(question.envelope.origin, question.size)
        if question.step is not None:
            question.step.end(self.batch.now, why)

    def cancel(self, origins: Sequence[Endpoint], unwanted: Callable[[Request], bool]) -> None:
        """Has messages that have not passed yet reported as cancelled."""
        for gate in list(self._gates.values()):
            for origin in origins:
                gate.cancel(origin, unwanted)

    # -- passing -------------------------------------------------------------------------------------------------

    def refuse(self, request: Request, error: BesterError) -> None:
        """Reports why a message does not pass."""
        self.reports.note(request.envelope, error)
        self.reports.step_done(request.envelope)

    def let_pass(self, passage: Passage) -> None:
        """Hands on a message that all guards accept, or reports why it does not pass."""
        request = passage.request
        self.batch.release(request.envelope.origin, request.size)
        if passage.error is not None:
            self.refuse(request, passage.error)
        else:
            request.route = self.dispatcher.types.get(request.route.name, request.route)  # it may be served anew
            self.dispatcher.hand_on(request)

    def hold_back(self, gate: Gate, passage: Passage) -> None:
        """Has a message kept until somebody consents to it."""
        self._last += 1
        self._holding[self._last] = gate, passage
        self.batch.effects.append(HoldBack(self._last, passage.request, passage.holder, passage.guard))

    def finish(self, passage: Passage) -> None:
        """Goes no further with a message that is kept; in a dry run, with one that would be."""
        self.batch.release(passage.request.envelope.origin, passage.request.size)
        self.reports.step_done(passage.request.envelope)

    def held_back(self, number: int, status: str, error: BesterError | None = None) -> None:
        """A :class:`~bester.core.effects.HoldBack` is done.

        Args:
            number: its number.
            status: ``held``, ``passes`` if the holder has consented to all of this sender, or ``failed``.
            error: why it failed.
        """
        gate, passage = self._holding.pop(number)
        request = passage.request
        envelope = request.envelope
        if status != "passes":
            to = passage.holder if passage.holder is not None else self.reports.server_name
            slot = self.reports.await_result(envelope)
            if status == HELD:
                envelope.durable = True
            self.reports.settled(envelope, slot, to, status, error)
        gate.held_back(passage, passes=status == "passes")
