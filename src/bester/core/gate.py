"""The gate of a type: what a message of a client or another server must pass before its handler is asked.

A type has a gate only if something is to be looked at, so that the messages of all others pay for one comparison.
"""

from __future__ import annotations

from collections.abc import Callable

from bester.core.dispatch import Dispatcher
from bester.core.reports import Reports
from bester.core.routing import Request
from bester.errors import BesterError
from bester.protocol.messages import Data

Validator = Callable[[Data], BesterError | None]
"""Returns why a message's data is refused, or None if it fits."""


class Gate:
    """The gate of one type; :meth:`admit` is the type's :attr:`~bester.core.routing.TypeRoute.gate`."""

    __slots__ = ("_dispatcher", "_reports", "tapped", "validate")

    def __init__(self, dispatcher: Dispatcher, reports: Reports) -> None:
        self._dispatcher = dispatcher
        self._reports = reports
        self.tapped = False
        """Whether the type has a tap, which sees no message of the shortest path."""
        self.validate: Validator | None = None
        """Looks at the data first."""

    @property
    def open(self) -> bool:
        """Whether nothing is to be looked at, so that the type needs no gate."""
        return self.validate is None and not self.tapped

    def admit(self, request: Request) -> None:
        """Hands a request on if it may pass; else reports why not."""
        error = self.validate(request.data) if self.validate is not None else None
        if error is None:
            self._dispatcher.hand_on(request)
        else:
            self._reports.note(request.envelope, error)
            self._reports.step_done(request.envelope)


class Gates:
    """The gates of all types."""

    __slots__ = ("_dispatcher", "_gates", "_reports")

    def __init__(self, dispatcher: Dispatcher, reports: Reports) -> None:
        self._dispatcher = dispatcher
        self._reports = reports
        self._gates: dict[str, Gate] = {}

    def validate(self, type: str, validator: Validator | None) -> None:
        """Looks at the data of a type's messages from now on, with another validator than before; None: no longer."""
        gate = self._gates.get(type) or Gate(self._dispatcher, self._reports)
        gate.validate = validator
        self._keep(type, gate)

    def tap(self, type: str, on: bool) -> None:
        """Lets a type's messages take the path on which its tap sees them (:mod:`bester.core.tap`)."""
        gate = self._gates.get(type) or Gate(self._dispatcher, self._reports)
        gate.tapped = on
        self._keep(type, gate)

    def refusal(self, type: str, data: Data) -> BesterError | None:
        """Returns why data that another node hands to a handler here is refused; only this node has the schema."""
        gate = self._gates.get(type)
        return gate.validate(data) if gate is not None and gate.validate is not None else None

    def _keep(self, type: str, gate: Gate) -> None:
        admit = gate.admit
        if gate.open:
            self._gates.pop(type, None)
            self._dispatcher.gates.pop(type, None)
        else:
            self._gates[type] = gate
            self._dispatcher.gates[type] = admit
        route = self._dispatcher.types.get(type)
        if route is not None:
            route.gate = None if gate.open else admit
