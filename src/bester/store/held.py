"""The interface of stores for messages that are held for somebody's consent (docs/protocol.md, section 3.8)."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

OPERATORS = ""
"""The holder of what only the operators can consent to; no account has this name."""

HoldOutcome = Literal["held", "passes", "full"]


class HeldHead(msgspec.Struct, frozen=True, gc=False):
    """All of a held message but its data."""

    type: str
    message_id: str
    """The id that the sender gave it."""
    user: str | None
    """The sender, as handlers are told it; an account, if it is one of this server's."""
    server: str | None
    verified: bool
    hops: int
    guard: str
    """The guard that has it held."""
    trace: str = ""
    """The message's W3C traceparent."""

    @property
    def sender(self) -> str:
        """Identifies the sender among all senders; empty for a server that proved no name."""
        if self.user is not None:
            return f"user:{self.user}"
        return f"server:{self.server}" if self.server is not None else ""


class HeldMessage(msgspec.Struct, frozen=True, gc=False):
    """A message that is to be held."""

    id: str
    """Unique; the delivery ids of what becomes of the message follow from it."""
    holder: str
    """The account that may consent, or :data:`OPERATORS`."""
    head: HeldHead
    data: bytes
    """JSON, exactly as received."""


class Held(msgspec.Struct, frozen=True, gc=False):
    """A message that is held, or released and not handled yet."""

    position: int
    """The id for people; a sender's messages for one holder are in this order."""
    message: HeldMessage
    created: float


class HeldBounds(msgspec.Struct, frozen=True):
    """The limits of what is held."""

    messages: int
    """For one holder."""
    bytes: int
    """The limit of the data together, for one holder."""
    total: int
    """For all holders."""


class HeldStore(Protocol):
    """Messages that wait for consent, and the senders that their holders trust.

    A message is *held* until it is *released*, and then stays until it is handled (:meth:`remove_held`). What
    :class:`~bester.store.ports.MessageStore` says about its methods holds for these, too.
    """

    async def hold(self, messages: Sequence[HeldMessage], bounds: HeldBounds, now: float) -> builtins.list[HoldOutcome]:
        """Holds messages; returns for each what became of it.

        ``passes`` if the holder trusts the sender, so that it need not be held; but while released messages of the
        sender for this holder are left, it is released behind them, and that is ``held``, too. ``full``: beyond the
        bounds.
        """

    async def list_held(self, holder: str, after: int, limit: int) -> builtins.list[Held]:
        """Returns what is held for a holder and not released, behind a position, oldest first."""

    async def count_held(self) -> tuple[int, int]:
        """Returns how many messages are held and not released: for the operators, and for all accounts together."""

    async def release_held(self, holder: str, positions: Sequence[int]) -> int:
        """Releases messages of a holder; returns how many. Ignores unknown ones."""

    async def release_sender(self, holder: str, sender: str, *, always: bool, now: float) -> int:
        """Releases what is held of a sender for a holder; with ``always``, the holder trusts it from then on."""

    async def refuse_held(self, holder: str, positions: Sequence[int]) -> int:
        """Removes messages of a holder that are not released; returns how many."""

    async def refuse_sender(self, holder: str, sender: str) -> int:
        """Removes what is held of a sender for a holder, which trusts it no longer; returns how many messages."""

    async def trusted(self, holder: str) -> builtins.list[str]:
        """Returns the senders that a holder trusts, sorted."""

    async def released(self, after: int, limit: int) -> builtins.list[Held]:
        """Returns released messages of all holders behind a position, oldest first."""

    async def remove_held(self, positions: Sequence[int]) -> None:
        """Removes released messages that have been handled; ignores unknown ones."""

    async def expire_held(self, before: float, limit: int) -> int:
        """Removes up to ``limit`` messages that have been held since before a time; returns how many."""

    async def clear_held(self, holder: str) -> int:
        """Removes all that is held for an account, its trust, and the trust in it; returns how many messages."""
