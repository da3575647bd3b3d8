"""Reads the requests to a kitchen, of accounts and of other kitchens, and makes refusals (docs/kitchen.md)."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from bester import Refuse
from bester_gadgets.kitchen.rules import Rule

MAX_ID = 128


class Principal(Struct, frozen=True):
    """The asker: an account here, or one that another server's kitchen vouches for."""

    user: str
    server: str = ""
    """Empty: here."""


class Ask(Struct, tag_field="op", forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """The base of all questions."""

    at: str = ""
    """Another server, whose kitchen is meant."""
    id: str | None = None
    """Stands in the answer."""


class List(Ask, tag="list"):
    """A request for the list of devices."""


class State(Ask, tag="state"):
    """A request for a device's last readings; without a device, for those of all."""

    device: str | None = None


class Subscribe(Ask, tag="subscribe"):
    """Pushes of a device's state, or alarms by rules, or both; replaces what was subscribed before."""

    device: str
    rules: list[Rule] = []
    state: bool | None = None
    """Whether the state is pushed; without it: if there are no rules."""


class Unsubscribe(Ask, tag="unsubscribe"):
    """No more of a device; without a device: of any."""

    device: str | None = None


class Subscriptions(Ask, tag="subscriptions"):
    """A request for the asker's subscriptions."""


class Command(Ask, tag="command"):
    """Sets something of a device."""

    device: str
    set: dict[str, bool | int | float | str]


AnyAsk = List | State | Subscribe | Unsubscribe | Subscriptions | Command


class Asked(Struct, forbid_unknown_fields=True):
    """From a kitchen to another one: what an account there asks."""

    ask: AnyAsk
    user: str


class Told(Struct, forbid_unknown_fields=True):
    """From a kitchen to another one: what is for accounts there."""

    tell: msgspec.Raw
    kind: str
    """``answer``, ``state`` or ``alarm``."""
    users: list[str]


_ask = msgspec.json.Decoder(AnyAsk)
_between = msgspec.json.Decoder(dict[str, msgspec.Raw])
_asked = msgspec.json.Decoder(Asked)
_told = msgspec.json.Decoder(Told)


class Problem(Refuse):
    """An ask that cannot be answered; its code on the wire begins with ``kitchen.``."""

    def __init__(self, code: str, message: str, *, temporary: bool = False) -> None:
        super().__init__(message, code=f"kitchen.{code}", temporary=temporary)

    def as_answer(self) -> dict[str, Any]:
        """Returns it as it is told to those who asked through another kitchen, whose report was good."""
        return {"error": {"code": self.code, "message": self.message, "temporary": self.temporary}}


def read_ask(raw: bytes | msgspec.Raw) -> AnyAsk:
    """Returns what a client asks.

    Raises:
        Problem: badAsk.
    """
    try:
        ask: AnyAsk = _ask.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem("badAsk", str(error)) from error
    if ask.id is not None and len(ask.id) > MAX_ID:
        raise Problem("badAsk", f"an id has at most {MAX_ID} characters")
    return ask


def read_between(raw: bytes | msgspec.Raw) -> Asked | Told:
    """Returns what another server's kitchen says.

    Raises:
        Problem: badAsk.
    """
    try:
        keys = _between.decode(raw)
        return _told.decode(raw) if "tell" in keys else _asked.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem("badAsk", f"not what kitchens say to each other: {error}") from error
