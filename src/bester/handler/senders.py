"""The senders that a function may ask for by an annotation; messages of all others are refused before it is called."""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import Any

from msgspec import Struct

from bester.handler.annotations import members
from bester.protocol.refusals import Refuse
from bester.protocol.requests import Request, Sender


class Account(Struct, frozen=True, gc=False):
    """A client of this server, by the account that it proved to be."""

    user: str
    """The account's name."""
    server: str
    """The account's own server: this one."""


class Peer(Struct, frozen=True, gc=False):
    """Another server, which proved its name."""

    server: str
    """Its name."""


SENDERS = frozenset((Sender, Account, Peer))
"""The types of a parameter that takes the sender."""


def sender_kinds(kind: Any) -> frozenset[Any] | None:
    """Returns which senders a parameter takes, ``NoneType`` among them if None stands for all others.

    Returns None if its type is not one of a sender.
    """
    kinds = frozenset(members(kind))
    return kinds if kinds & SENDERS and kinds <= SENDERS | {NoneType} else None


def sender_reader(kinds: frozenset[Any]) -> Callable[[Request], Sender | Account | Peer | None]:
    """Returns the function that takes the sender of a request as one of these types.

    Args:
        kinds: as :func:`sender_kinds` returns them.
    """
    if Sender in kinds:
        return lambda request: request.sender
    who = ", and ".join(text for kind, text in _WHO.items() if kind in kinds)

    def read(request: Request) -> Account | Peer | None:
        sender = request.sender
        if sender.user is not None:
            if Account in kinds:
                return Account(sender.user, sender.server or "")
        elif sender.verified and sender.server is not None and Peer in kinds:
            return Peer(sender.server)
        if NoneType in kinds:
            return None
        raise Refuse(f"{request.type} is only for {who}", code="notAllowed")

    return read


_WHO = {Account: "accounts of this server", Peer: "servers that prove their names"}
