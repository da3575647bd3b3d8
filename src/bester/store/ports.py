"""The interfaces of stores; every driver of one passes the same tests.

Usernames are canonical (``bester.protocol.names``). Times are seconds of the server's steady clock (``bester.clock``);
only the time at which an account was created is shown to people, and is the system clock's. Every method can raise
``Internal`` when the store cannot be reached. A cancelled call may or may not have had its effect.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Protocol

import msgspec

from bester.clock import SteadyClock
from bester.errors import MailboxFull
from bester.store.held import HeldStore

MAX_TOKENS = 100
"""How many tokens an account has; a new one replaces the oldest."""


class Account(msgspec.Struct, frozen=True):
    """An account, as others may see it."""

    username: str
    roles: tuple[str, ...]
    created: float


class StoredAccount(Account, frozen=True):
    """An account with the hash of its password."""

    password_hash: str
    sure: bool = True
    """Whether this is the newest state; if not, as in a cluster without a leader, it must be read again later."""


class AccountStore(Protocol):
    """Accounts and their tokens (docs/protocol.md, section 5).

    A change is on disk when its method returns, as far as the driver promises that at all.
    """

    async def open(self) -> None:
        """Opens the store; called once, before all other methods.

        Raises:
            BadConfiguration: the store cannot be used as it is configured.
        """

    async def close(self) -> None:
        """Finishes all calls under way and closes the store; does nothing when called again."""

    async def add(
        self, username: str, password_hash: str, roles: tuple[str, ...] = (), created: float | None = None
    ) -> None:
        """Adds an account; ``created`` defaults to now.

        Raises:
            AccountExists: the name is taken.
        """

    async def find(self, username: str) -> StoredAccount | None:
        """Returns the account of this name."""

    async def exists(self, usernames: Sequence[str]) -> set[str]:
        """Returns the names of existing accounts among these, with one query."""

    async def set_password(self, username: str, password_hash: str) -> None:
        """Replaces the password and ends the account's tokens.

        Raises:
            UnknownAccount: there is no such account.
        """

    async def set_roles(self, username: str, roles: tuple[str, ...]) -> None:
        """Replaces the roles.

        Raises:
            UnknownAccount: there is no such account.
        """

    async def remove(self, username: str) -> None:
        """Removes the account and ends its tokens.

        Raises:
            UnknownAccount: there is no such account.
        """

    async def list(self, after: str = "", limit: int = 1000) -> builtins.list[Account]:
        """Returns up to ``limit`` accounts that sort after a name, by code points."""

    async def count(self) -> int:
        """Returns how many accounts there are."""

    async def add_token(self, username: str, token_hash: bytes, expires: float, now: float) -> None:
        """Adds a token, and ends the account's oldest tokens beyond :data:`MAX_TOKENS`.

        Raises:
            UnknownAccount: there is no such account.
        """

    async def find_token(self, token_hash: bytes, now: float) -> StoredAccount | None:
        """Returns the account of a token that has not expired."""

    async def remove_token(self, token_hash: bytes) -> None:
        """Ends a token, if it exists."""

    async def purge_tokens(self, now: float) -> None:
        """Removes tokens that have expired."""


# -- messages ---------------------------------------------------------------------------------------------------


class Letter(msgspec.Struct, frozen=True, gc=False):
    """A message that is to wait in an account's mailbox."""

    username: str
    delivery_id: str
    type: str
    data: bytes
    """JSON, exactly as received."""


class MailboxLetter(msgspec.Struct, frozen=True, gc=False):
    """A letter in a mailbox."""

    position: int
    """Grows with each letter of the store; a mailbox is read in this order."""
    delivery_id: str
    type: str
    data: bytes


class MailboxBounds(msgspec.Struct, frozen=True):
    """The limits of one account's mailbox."""

    messages: int
    bytes: int
    """The limit of the letters' data together."""
    lifetime_s: float
    """After this time a letter expires."""


class MailboxSize(msgspec.Struct, frozen=True):
    """The size of an account's mailbox."""

    username: str
    messages: int
    bytes: int


def account_queue(username: str) -> str:
    """Returns the destination under which the outbox has an account's dead letters; no server has such an address."""
    return f"@{username}"


def account_of(destination: str) -> str | None:
    """Returns the account whose dead letters have this destination; None if the destination is a server."""
    return destination[1:] if destination.startswith("@") else None


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """A message for another server, which could not be sent yet."""

    destination: str
    """The canonical text of the server's address (``str(Address)``); for a dead letter of an account,
    :func:`account_queue`."""
    message_id: str
    """The id by which the other server recognises a repeat; unique for each destination."""
    type: str
    data: bytes
    hops: int
    trace: str = ""
    """The message's W3C traceparent."""


class Queued(msgspec.Struct, frozen=True, gc=False):
    """A message in the outbox, or a dead letter."""

    position: int
    """The id for operators; grows with each message of the store."""
    message: Outgoing
    created: float
    tries: int
    next_try: float
    """When to retry the message separately; 0 if it is still in line with the others."""
    last_error: str
    """``code: text`` of the last try; empty before the first."""
    dead: bool
    """Whether the message was given up, which makes it a dead letter."""


class QueueSize(msgspec.Struct, frozen=True):
    """The number and size of one destination's messages."""

    destination: str
    waiting: int
    dead: int
    bytes: int
    oldest: float
    """When the oldest waiting message was created; 0 if none waits."""


class Remembered(msgspec.Struct, frozen=True):
    """The outcome of a ``once`` message (docs/protocol.md, section 4)."""

    key: bytes
    """A hash of the sender and the message's id, of 16 bytes."""
    digest: bytes
    """A hash of the type and the data, of 16 bytes."""
    report: bytes
    """The report's complete frame."""


class MessageStore(HeldStore, Protocol):
    """Mailboxes, the outbox, what is held for consent, and ``once`` records (docs/protocol.md, section 4).

    A change is on disk when its method returns. Methods for several items take and return them in order. They may be
    called again before an earlier call has returned, and take effect in the order of the calls. In addition to the
    errors named below, each method that adds can raise ``StorageFull`` (then nothing was changed), and each can raise
    ``Internal``.
    """

    async def open(self) -> None:
        """Opens the store; called once, before all other methods.

        Raises:
            BadConfiguration: the store cannot be used as it is configured.
        """

    async def close(self) -> None:
        """Finishes all calls under way and closes the store; does nothing when called again."""

    # time

    async def restore_clock(self, clock: SteadyClock) -> None:
        """Sets the clock, by which lifetimes are counted, to where it stopped; called once, after :meth:`open`."""

    async def save_clock(self, clock: SteadyClock) -> None:
        """Saves the clock's time for the next start."""

    # mailboxes

    async def deposit(
        self, letters: Sequence[Letter], bounds: MailboxBounds, now: float
    ) -> builtins.list[MailboxFull | None]:
        """Puts letters into mailboxes, and returns for each whether its mailbox was full.

        A letter whose delivery id is in the mailbox already is not added again: the first one stays, and there is no
        error. A letter that does not fit does not exclude later ones that do. Letters that have expired count until
        :meth:`expire_letters` has removed them.
        """

    async def has_mail(self, username: str) -> bool:
        """Returns whether an account's mailbox holds any letters, expired or not."""

    async def read_mailbox(
        self, username: str, after: int, limit: int, max_bytes: int, now: float
    ) -> builtins.list[MailboxLetter]:
        """Returns letters after a position, oldest first, without those that have expired.

        At most ``limit`` letters, with at most ``max_bytes`` of data together, but at least one if there is one.
        """

    async def remove_letters(self, letters: Sequence[tuple[str, str]]) -> None:
        """Removes letters that were delivered, by username and delivery id; ignores unknown ones."""

    async def bury_letters(self, letters: Sequence[tuple[Letter, int]], why: str, now: float) -> None:
        """Removes letters from their mailboxes, and makes them dead letters of their accounts (:func:`account_queue`).

        Args:
            letters: each with the number of its tries; a letter that is in no mailbox becomes a dead letter too.
            why: their ``last_error``.
            now: their ``created``.
        """

    async def clear_mailbox(self, username: str) -> int:
        """Removes all letters of an account, and returns how many there were."""

    async def expire_letters(self, now: float, limit: int) -> int:
        """Removes up to ``limit`` letters that have expired, and returns how many."""

    async def mailbox_sizes(self, after: str = "", limit: int = 1000) -> builtins.list[MailboxSize]:
        """Returns the sizes of mailboxes that are not empty, of accounts that sort after a name."""

    async def mailbox_size(self, username: str) -> MailboxSize:
        """Returns the size of one mailbox."""

    # the outbox

    async def enqueue(self, messages: Sequence[Outgoing], now: float) -> builtins.list[int]:
        """Puts messages into the outbox, and returns their positions.

        A message that waits there already stays as it is, with its position. A dead letter keeps its position and its
        data too, but waits again as if new, as after :meth:`revive`: its sender has just sent it again.
        """

    async def read_outbox(
        self, destination: str, after: int, limit: int, max_bytes: int, now: float
    ) -> builtins.list[Queued]:
        """Returns waiting messages for a destination after a position, oldest first.

        Dead letters, and messages whose ``next_try`` is later than ``now``, are left out. Limited as
        :meth:`read_mailbox` is.
        """

    async def remove_sent(self, positions: Sequence[int]) -> None:
        """Removes messages that the other server has, or that are dropped; ignores unknown ones."""

    async def note_failures(self, failures: Sequence[tuple[int, float, str]]) -> None:
        """Records failed tries: position, ``next_try`` (0: it stays in line) and ``last_error``."""

    async def bury(self, letters: Sequence[tuple[int, str]]) -> None:
        """Turns messages into dead letters, by position, with their ``last_error``; counts no try.

        Messages that are dead or unknown are ignored.
        """

    async def give_up_before(self, created: float, why: str, limit: int, destination: str | None = None) -> int:
        """Turns up to ``limit`` waiting messages from before a time into dead letters, the oldest first.

        Returns how many. Includes all destinations, unless one is given.
        """

    async def revive(self, positions: Sequence[int], now: float) -> int:
        """Schedules dead letters, and messages with a ``next_try``, for an immediate retry; returns how many.

        They become like new (``created`` is now, without tries or error), but keep their places in the order.
        """

    async def queue_sizes(self) -> builtins.list[QueueSize]:
        """Returns the sizes of all destinations that have messages, sorted by destination."""

    async def list_queue(
        self, destination: str | None = None, dead: bool | None = None, after: int = 0, limit: int = 100
    ) -> builtins.list[Queued]:
        """Returns messages after a position, for operators: of one destination or all, waiting or dead or both."""

    async def find_queued(self, position: int) -> Queued | None:
        """Returns one message of the outbox."""

    # once

    def may_recall(self, key: bytes) -> bool:
        """Returns whether there may be a record of a ``once`` message; if False, there is none.

        Never waits: a key counts as soon as :meth:`remember` was called with it, before that has returned.
        """

    async def recall(self, key: bytes) -> Remembered | None:
        """Returns the record of a ``once`` message."""

    async def remember(self, records: Sequence[Remembered], now: float) -> None:
        """Records the outcomes of ``once`` messages; a key that has a record keeps it."""

    async def forget_before(self, time: float, at_most: int) -> None:
        """Removes records from before a time, and the oldest beyond a number; in steps, so that other calls run."""


# -- leases -----------------------------------------------------------------------------------------------------


class Lease(msgspec.Struct, frozen=True):
    """The exclusive right of one node of a server to do something, for a time."""

    name: str
    node: str
    """The holder."""
    version: int
    """Grows each time that the lease is taken or renewed."""


class LeaseStore(Protocol):
    """Leases for tasks that only one node of a server may do at a time (docs/scale.md).

    A lease ends by itself when its lifetime is over on the store's clock. Its holder must count from before it asked,
    by a clock that never goes back, and stop somewhat earlier.
    """

    async def open(self) -> None:
        """Opens the store; called once, before all other methods.

        Raises:
            BadConfiguration: the store cannot be used as it is configured.
        """

    async def close(self) -> None:
        """Closes the store; leases last until they end. Does nothing when called again."""

    async def take(self, name: str, node: str, lifetime_s: int) -> Lease:
        """Takes a lease for whole seconds, at least one, and returns it; or returns the lease of another holder.

        A node that holds it already, from before a restart, gets it again.
        """

    async def renew(self, lease: Lease, lifetime_s: int) -> Lease | None:
        """Extends a lease, and returns its new state; None if it has ended, even if no other node holds it now."""

    async def give_back(self, lease: Lease) -> None:
        """Ends a lease; does nothing if it was renewed or has ended since."""

    async def list(self) -> builtins.list[Lease]:
        """Returns all leases, sorted by name."""
