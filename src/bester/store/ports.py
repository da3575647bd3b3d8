"""What the server asks of a store; each driver implements it, and passes the same tests.

Usernames are canonical already (``bester.protocol.names``). Times are seconds of the server's steady clock
(``bester.clock``); only when an account was created is shown to people, and goes by the system clock. Every method can
raise ``Internal`` when the store cannot be reached, and a cancelled call may or may not have had its effect.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Protocol

import msgspec

from bester.clock import SteadyClock
from bester.errors import MailboxFull

MAX_TOKENS = 100
"""How many tokens an account has; the oldest make room for a new one."""


class Account(msgspec.Struct, frozen=True):
    """Who somebody is."""

    username: str
    roles: tuple[str, ...]
    created: float


class StoredAccount(Account, frozen=True):
    """An account with what its password is checked against."""

    password_hash: str
    sure: bool = True
    """Whether that is the newest, as far as anybody knows; else it is to be looked at again (a cluster without a
    leader)."""


class AccountStore(Protocol):
    """Accounts and their tokens (docs/protocol.md, section 5).

    What a method changed is on disk when it returns, as far as the driver promises that at all.
    """

    async def open(self) -> None:
        """Gets ready; called once, before all others.

        Raises:
            BadConfiguration: the store cannot be used as it is configured.
        """

    async def close(self) -> None:
        """Finishes what was asked for and lets go; the second time it does nothing."""

    async def add(
        self, username: str, password_hash: str, roles: tuple[str, ...] = (), created: float | None = None
    ) -> None:
        """Adds an account, created now unless said otherwise.

        Raises:
            AccountExists: the name is taken.
        """

    async def find(self, username: str) -> StoredAccount | None:
        """Returns the account of this name."""

    async def exists(self, usernames: Sequence[str]) -> set[str]:
        """Returns those of the names that are accounts, in one query."""

    async def set_password(self, username: str, password_hash: str) -> None:
        """Replaces the password and ends the account's tokens.

        Raises:
            UnknownAccount: there is none.
        """

    async def set_roles(self, username: str, roles: tuple[str, ...]) -> None:
        """Replaces the roles.

        Raises:
            UnknownAccount: there is none.
        """

    async def remove(self, username: str) -> None:
        """Removes the account and ends its tokens.

        Raises:
            UnknownAccount: there is none.
        """

    async def list(self, after: str = "", limit: int = 1000) -> builtins.list[Account]:
        """Returns up to ``limit`` accounts that sort after a name, by code points."""

    async def count(self) -> int:
        """Returns how many accounts there are."""

    async def add_token(self, username: str, token_hash: bytes, expires: float, now: float) -> None:
        """Adds a token that is good until it expires, and ends the account's oldest beyond :data:`MAX_TOKENS`.

        Raises:
            UnknownAccount: there is none of this name.
        """

    async def find_token(self, token_hash: bytes, now: float) -> StoredAccount | None:
        """Returns the account of a token that is good at this time."""

    async def remove_token(self, token_hash: bytes) -> None:
        """Ends a token, if there is such."""

    async def purge_tokens(self, now: float) -> None:
        """Frees the room of the tokens that have expired."""


# -- messages ---------------------------------------------------------------------------------------------------


class Letter(msgspec.Struct, frozen=True, gc=False):
    """A message for an account that is away."""

    username: str
    delivery_id: str
    type: str
    data: bytes
    """JSON, as it came."""


class KeptLetter(msgspec.Struct, frozen=True, gc=False):
    """A letter in a mailbox."""

    position: int
    """Grows with each letter of the store; a mailbox is read in its order."""
    delivery_id: str
    type: str
    data: bytes


class MailboxBounds(msgspec.Struct, frozen=True):
    """What one account's mailbox holds at most."""

    messages: int
    bytes: int
    """Of their data."""
    lifetime_s: float
    """How long a letter is kept."""


class MailboxSize(msgspec.Struct, frozen=True):
    """What is in an account's mailbox."""

    username: str
    messages: int
    bytes: int


def account_queue(username: str) -> str:
    """Returns where an account's dead letters stand among the queues of other servers: under no server's address."""
    return f"@{username}"


def account_of(destination: str) -> str | None:
    """Returns the account whose dead letters stand there; None for another server."""
    return destination[1:] if destination.startswith("@") else None


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """A message for another server that could not be sent yet."""

    destination: str
    """The canonical text of its address (``str(Address)``); of a letter that was given up, :func:`account_queue`."""
    message_id: str
    """What the other server recognises a repeat by; with the destination it is unique."""
    type: str
    data: bytes
    hops: int
    trace: str = ""
    """Its W3C traceparent."""


class Queued(msgspec.Struct, frozen=True, gc=False):
    """A message in the outbox, or a dead letter."""

    position: int
    """Its id for operators; grows with each message of the store."""
    message: Outgoing
    created: float
    tries: int
    next_try: float
    """Not tried alone before then; 0 for one that has not stepped aside."""
    last_error: str
    """``code: text`` of the last try; empty before the first."""
    dead: bool
    """Whether it was given up."""


class QueueSize(msgspec.Struct, frozen=True):
    """What waits for one destination."""

    destination: str
    waiting: int
    dead: int
    bytes: int
    oldest: float
    """When the oldest that waits was created; 0 if none waits."""


class Remembered(msgspec.Struct, frozen=True):
    """What became of a ``once`` message (docs/protocol.md, section 4)."""

    key: bytes
    """16 bytes that stand for the sender and its id."""
    digest: bytes
    """16 bytes that stand for the type and the data."""
    report: bytes
    """The report's whole frame."""


class MessageStore(Protocol):
    """Mailboxes, the outbox, and what is remembered of ``once`` messages (docs/protocol.md, section 4).

    What a method changed is on disk when it returns. Methods for several things at once take and return them in order;
    they may be called again before the last call has returned, and take effect in the order of the calls. Beside what
    is said, each can raise ``StorageFull`` (nothing was changed; only those that add) and ``Internal``.
    """

    async def open(self) -> None:
        """Gets ready; called once, before all others.

        Raises:
            BadConfiguration: the store cannot be used as it is configured.
        """

    async def close(self) -> None:
        """Finishes what was asked for and lets go; the second time it does nothing."""

    # time

    async def resume_clock(self, clock: SteadyClock) -> None:
        """Lets the clock that lifetimes are counted by go on from where it was; called once, after :meth:`open`."""

    async def keep_clock(self, clock: SteadyClock) -> None:
        """Keeps what the clock says, for the next start."""

    # mailboxes

    async def deposit(
        self, letters: Sequence[Letter], bounds: MailboxBounds, now: float
    ) -> builtins.list[MailboxFull | None]:
        """Puts letters into mailboxes, and says for each whether its mailbox was full.

        A letter whose delivery id is in that mailbox already is there once, as it came first, and counts as put. One
        that does not fit does not keep out those behind it that do. What has expired takes room until
        :meth:`expire_letters` has removed it.
        """

    async def has_mail(self, username: str) -> bool:
        """Whether an account's mailbox holds anything, expired or not."""

    async def read_mailbox(
        self, username: str, after: int, limit: int, max_bytes: int, now: float
    ) -> builtins.list[KeptLetter]:
        """Returns letters behind a position, oldest first: at most ``limit``, and of at most ``max_bytes`` together,
        but at least one if there is one. Letters that have expired are passed over."""

    async def take_letters(self, letters: Sequence[tuple[str, str]]) -> None:
        """Removes letters that were delivered: pairs of username and delivery id; unknown ones are passed over."""

    async def bury_letters(self, letters: Sequence[tuple[Letter, int]], why: str, now: float) -> None:
        """Takes letters out of their mailboxes, and makes them dead letters of their accounts (:func:`account_queue`).

        Args:
            letters: each with the number of its tries; one that is in no mailbox becomes a dead letter too.
            why: the ``last_error`` of all.
            now: when they are ``created``.
        """

    async def clear_mailbox(self, username: str) -> int:
        """Removes all letters of an account, and returns how many there were."""

    async def expire_letters(self, now: float, limit: int) -> int:
        """Removes up to ``limit`` letters that have expired, and returns how many."""

    async def mailbox_sizes(self, after: str = "", limit: int = 1000) -> builtins.list[MailboxSize]:
        """Returns the mailboxes that hold something, of accounts that sort after a name."""

    async def mailbox_size(self, username: str) -> MailboxSize:
        """Returns what one mailbox holds."""

    # the outbox

    async def enqueue(self, messages: Sequence[Outgoing], now: float) -> builtins.list[int]:
        """Puts messages into the outbox, and returns their positions.

        One that waits there already stays as it is, and keeps its position. A dead letter, too, keeps its position and
        its data, but waits again as if new, as after :meth:`revive`: its sender has just sent it once more.
        """

    async def read_outbox(
        self, destination: str, after: int, limit: int, max_bytes: int, now: float
    ) -> builtins.list[Queued]:
        """Returns what waits for a destination behind a position, oldest first, dead letters and those whose
        ``next_try`` is later than ``now`` left out; bounded as :meth:`read_mailbox`."""

    async def remove_sent(self, positions: Sequence[int]) -> None:
        """Removes messages that the other server has, or that are dropped; unknown ones are passed over."""

    async def note_failures(self, failures: Sequence[tuple[int, float, str]]) -> None:
        """Notes tries that failed: position, ``next_try`` (0: it does not step aside) and ``last_error``."""

    async def bury(self, letters: Sequence[tuple[int, str]]) -> None:
        """Makes dead letters: position and why, which becomes ``last_error``. It counts no try; those that are dead or
        unknown are passed over."""

    async def give_up_before(self, created: float, why: str, limit: int, destination: str | None = None) -> int:
        """Makes dead letters of up to ``limit`` waiting messages from before a time, the oldest first, and returns how
        many; of one destination or all."""

    async def revive(self, positions: Sequence[int], now: float) -> int:
        """Lets dead letters, and those that stepped aside, be tried again now, as if new (``created`` is now, without
        tries or error); returns how many. They keep their places in the order."""

    async def queue_sizes(self) -> builtins.list[QueueSize]:
        """Returns the destinations that have messages, sorted."""

    async def list_queue(
        self, destination: str | None = None, dead: bool | None = None, after: int = 0, limit: int = 100
    ) -> builtins.list[Queued]:
        """Returns messages behind a position for the operator: of one destination or all, waiting or dead or both."""

    async def find_queued(self, position: int) -> Queued | None:
        """Returns one message of the outbox."""

    # once

    def may_recall(self, key: bytes) -> bool:
        """Whether a ``once`` message may be remembered; when False, it is surely not. Without waiting for anything: a
        key counts as soon as :meth:`remember` was called with it, before that has returned."""

    async def recall(self, key: bytes) -> Remembered | None:
        """Returns what is remembered."""

    async def remember(self, records: Sequence[Remembered], now: float) -> None:
        """Remembers what became of ``once`` messages; a key that is known already keeps its first record."""

    async def forget_before(self, time: float, at_most: int) -> None:
        """Forgets records from before a time, and the oldest beyond a number; in steps, between which others go on."""


# -- leases -----------------------------------------------------------------------------------------------------


class Lease(msgspec.Struct, frozen=True):
    """What one node of a server does alone, for a time."""

    name: str
    node: str
    """Who has it."""
    version: int
    """Grows each time that it is taken or renewed."""


class LeaseStore(Protocol):
    """Who does what only one node of a server may do (docs/scale.md).

    A lease ends by itself when its lifetime is over, on the store's clock. Its holder must count from before it asked,
    by a clock that never goes back, and stop somewhat earlier.
    """

    async def open(self) -> None:
        """Gets ready; called once, before all others.

        Raises:
            BadConfiguration: the store cannot be used as it is configured.
        """

    async def close(self) -> None:
        """Lets go; leases stay until they end. The second time it does nothing."""

    async def take(self, name: str, node: str, lifetime_s: int) -> Lease:
        """Takes a lease for whole seconds, at least one, and returns it; or that of the other node that has it.

        A node that has it already, from before it was started anew, has it again.
        """

    async def renew(self, lease: Lease, lifetime_s: int) -> Lease | None:
        """Lets a lease go on, and returns it as it is now; None if it has ended, whoever has it since."""

    async def give_back(self, lease: Lease) -> None:
        """Ends a lease. Where it was renewed or has ended since, nothing is done."""

    async def list(self) -> builtins.list[Lease]:
        """Returns all leases, sorted by name."""
