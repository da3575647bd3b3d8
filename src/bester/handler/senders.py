"""The senders that a function may ask for by an annotation; messages of all others are refused before it is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

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


SENDERS = (Sender, Account, Peer)
"""The types of a parameter that takes the sender; of :class:`Account` and :class:`Peer` also the union."""
_WHO = {
    frozenset((Account,)): "accounts of this server",
    frozenset((Peer,)): "servers that prove their names",
    frozenset((Account, Peer)): "accounts of this server, and servers that prove their names",
}


def sender_reader(kinds: frozenset[Any]) -> Callable[[Request], Sender | Account | Peer]:
    """Returns the function that takes the sender of a request as one of these types.

    Args:
        kinds: of :data:`SENDERS`; :class:`bester.Sender` only alone.
    """
    if Sender in kinds:
        return lambda request: request.sender
    accounts, peers = Account in kinds, Peer in kinds
    who = _WHO[kinds]

    def read(request: Request) -> Account | Peer:
        sender = request.sender
        if accounts and sender.user is not None:
            return Account(sender.user, sender.server or "")
        if peers and sender.user is None and sender.verified and sender.server is not None:
            return Peer(sender.server)
        raise Refuse(f"{request.type} is only for {who}", code="notAllowed")

    return read
