"""Mailboxes in JetStream: a letter is the only message of its subject, which consists of its account and delivery id.

So the stream itself refuses a repeat, whichever node publishes it. Each node counts, from what the stream has, the
letters in the mailboxes that it has just deposited something into. Two nodes that deposit at the same moment may
together exceed a bound by what each has under way. Letters that are under way together may change their order when the
stream gets a new leader. NATS removes letters that have expired.
"""

from __future__ import annotations

import asyncio
import builtins
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b

import msgspec

from bester.bus.connection import Bus
from bester.bus.errors import BusDown
from bester.bus.headers import header
from bester.errors import MailboxFull, Overloaded
from bester.store.jetstream.errors import SubjectTaken
from bester.store.jetstream.names import Names
from bester.store.jetstream.partitions import Layout, PartitionedStream
from bester.store.jetstream.stream import StoredMessage, Stream
from bester.store.ports import Letter, MailboxBounds, MailboxLetter, MailboxSize

PAGE = 256
REMOVED_S = 10.0
"""How long removed letters are left out of pages that may still have them."""
USAGE_S = 10.0
"""How long a counted usage of a mailbox is used, updated by this node's own changes."""
COUNT_AT_ONCE = 32
"""How many mailboxes are counted at the same time."""
MAX_COUNTED = 100_000
"""The most letters, of all mailboxes, whose sizes are remembered; the oldest usages are forgotten."""
_BYTES = "Bester-Bytes"
_TTL = "Nats-TTL"
_OVERHEAD = 400
"""About how many bytes the stream counts of a letter beside its data, at most."""


class _Head(msgspec.Struct, array_like=True):
    delivery_id: str
    type: str
    expires: float


_head = msgspec.json.Decoder(_Head)


class _Usage:
    """The contents of one mailbox, as far as this node knows them."""

    __slots__ = ("at", "bytes", "letters")

    def __init__(self, letters: dict[str, int], at: float) -> None:
        self.letters = letters
        """The sizes of the letters' data, by subject."""
        self.bytes = sum(letters.values())
        self.at = at

    def add(self, subject: str, size: int) -> None:
        self.letters[subject] = size
        self.bytes += size

    def remove(self, subject: str) -> None:
        self.bytes -= self.letters.pop(subject, 0)


class JetStreamMailboxes:
    """The mailboxes of a message store.

    Args:
        bus: the connection, which is open before this is.
        names: of this server's streams.
        layout: on how many NATS servers each letter is, and among how many streams they are divided.
        clock: never goes back; counts how old a usage is; None: the system's.
    """

    def __init__(self, bus: Bus, names: Names, layout: Layout, clock: Callable[[], float] | None = None) -> None:
        self.letters = PartitionedStream(bus, names, "MAIL", "mail", ">", layout, refuse_new=True, allow_ttl=True)
        self._clock = time.monotonic if clock is None else clock
        self._deposit_lock = asyncio.Lock()
        """Letters are published in the order of the calls."""
        self._usages: dict[str, _Usage] = {}
        """The usages that are known, by account."""
        self._removed: dict[str, float] = {}
        """When letters were removed, by subject; a page that is being read may still have them."""
        self._publishing: dict[str, asyncio.Future[None]] = {}
        """The letters that are being published, by subject."""

    # -- depositing ------------------------------------------------------------------------------------------------

    async def deposit(
        self, letters: Sequence[Letter], bounds: MailboxBounds, now: float
    ) -> builtins.list[MailboxFull | None]:
        outcomes: list[MailboxFull | None] = []
        waiting: list[tuple[str, str, asyncio.Future[int]]] = []
        async with self._deposit_lock:
            await self._load_usages(list(dict.fromkeys(letter.username for letter in letters)))
            for letter in letters:
                subject = self._subject(letter.username, letter.delivery_id)
                usage = await self._usage(letter.username)
                outcomes.append(None)
                if subject in usage.letters:
                    if subject in self._publishing:  # the same letter twice: done when the first one is
                        waiting.append((letter.username, subject, asyncio.ensure_future(self._wait_for(subject))))
                        continue
                    # The stream has it, unless another node has just removed it: the stream decides.
                else:
                    size = len(letter.data)
                    if len(usage.letters) >= bounds.messages or usage.bytes + size > bounds.bytes:
                        outcomes[-1] = MailboxFull()
                        continue
                    usage.add(subject, size)
                self._removed.pop(subject, None)
                waiting.append((letter.username, subject, self._publish_letter(subject, letter, bounds, now)))
        failure: BaseException | None = None
        for username, subject, future in waiting:
            try:
                await asyncio.shield(future)
            except SubjectTaken:
                pass  # the stream has it already
            except Exception as error:
                failure = failure or error
                self._forget(username, subject)
        if failure is not None:
            raise failure
        return outcomes

    async def restore_letters(self, letters: Sequence[tuple[Letter, float]], now: float) -> None:
        """Adds letters of another store, in their order, each with the time at which it expires, whatever the bounds.

        Letters that the stream has already are skipped.
        """
        publishing = [
            self._stream(letter.username).publish(
                self._subject(letter.username, letter.delivery_id), *_encoded(letter, expires, now)
            )
            for letter, expires in letters
        ]
        for result in await asyncio.gather(*publishing, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, SubjectTaken):
                raise result

    def _publish_letter(self, subject: str, letter: Letter, bounds: MailboxBounds, now: float) -> asyncio.Future[int]:
        published = self._stream(letter.username).publish(subject, *_encoded(letter, now + bounds.lifetime_s, now))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._publishing[subject] = done

        async def publish() -> int:
            try:
                return await published
            finally:
                del self._publishing[subject]
                done.set_result(None)

        return asyncio.ensure_future(publish())

    async def _wait_for(self, subject: str) -> int:
        publishing = self._publishing.get(subject)
        if publishing is not None:
            await asyncio.shield(publishing)
        return 0

    async def _load_usages(self, usernames: Sequence[str]) -> None:
        """Counts many mailboxes, some at a time; under the lock."""
        for begin in range(0, len(usernames), COUNT_AT_ONCE):
            await asyncio.gather(*(self._usage(username) for username in usernames[begin : begin + COUNT_AT_ONCE]))

    async def _usage(self, username: str) -> _Usage:
        """Returns the usage of a mailbox; under the lock."""
        now = self._clock()
        usage = self._usages.get(username)
        if usage is not None and now - usage.at < USAGE_S:
            return usage
        try:
            sizes = await self._sizes(username, retry=False)
        except BusDown:
            raise
        except Overloaded:  # rather than wait for the leader, the last known sizes are used once more
            sizes = dict(usage.letters) if usage is not None else {}
        sizes.update({one: usage.letters[one] for one in self._publishing if usage and one in usage.letters})
        self._usages.pop(username, None)
        usage = self._usages[username] = _Usage(sizes, now)
        while len(self._usages) > 1 and sum(len(one.letters) for one in self._usages.values()) > MAX_COUNTED:
            del self._usages[next(iter(self._usages))]
        return usage

    async def _sizes(self, username: str, *, retry: bool = True) -> dict[str, int]:
        """Returns the sizes of letters' data by their subjects."""
        stream, subject = self._stream(username), self._subject(username, "")
        if not await stream.subjects(subject, retry=retry):
            return {}
        return {
            one.subject: int(header(one.headers, _BYTES) or 0) async for one in stream.headers(subject, retry=retry)
        }

    def _forget(self, username: str, subject: str) -> None:
        usage = self._usages.get(username)
        if usage is not None:
            usage.remove(subject)

    # -- reading and removing --------------------------------------------------------------------------------------

    async def has_mail(self, username: str) -> bool:
        """Asks a replica while the stream has no leader; it may lack the newest letters, so ask again later."""
        return bool(await self._stream(username).page(self._subject(username, ""), 0, 1, from_leader=False))

    async def read_mailbox(
        self, username: str, after: int, limit: int, max_bytes: int, now: float
    ) -> builtins.list[MailboxLetter]:
        found: list[MailboxLetter] = []
        size = 0
        stream, subject = self._stream(username), self._subject(username, "")
        while len(found) < limit:
            most = min(PAGE, limit - len(found))
            page = await stream.page(subject, after, most, max_bytes - size + most * _OVERHEAD)
            for stored in page:
                after = stored.sequence
                letter, expires = _letter(stored)
                if expires <= now or stored.subject in self._removed:
                    continue
                size += len(letter.data)
                if found and size > max_bytes:
                    return found
                found.append(letter)
            if not page or size >= max_bytes:
                break
        return found

    async def remove_letters(self, letters: Sequence[tuple[str, str]]) -> None:
        await asyncio.gather(*(self._remove_delivered(username, id) for username, id in dict.fromkeys(letters)))

    async def _remove_delivered(self, username: str, delivery_id: str) -> None:
        subject = self._subject(username, delivery_id)
        async with self._deposit_lock:
            publishing = self._publishing.get(subject)
        if publishing is not None:
            await asyncio.shield(publishing)
        self._note_removed(subject)
        await self.purge_letter(username, delivery_id)

    async def purge_letter(self, username: str, delivery_id: str) -> None:
        """Removes a letter that may be deposited again soon."""
        subject = self._subject(username, delivery_id)
        await self._stream(username).purge(subject)
        self._forget(username, subject)

    def _note_removed(self, subject: str) -> None:
        now = self._clock()
        while self._removed and now - next(iter(self._removed.values())) > REMOVED_S:
            del self._removed[next(iter(self._removed))]
        self._removed.pop(subject, None)
        self._removed[subject] = now

    async def clear_mailbox(self, username: str) -> int:
        count = await self._stream(username).purge(self._subject(username, ""))
        self._usages.pop(username, None)
        return count

    async def expire_letters(self, now: float, limit: int) -> int:
        """Does nothing: NATS removes letters that have expired."""
        return 0

    async def mailbox_sizes(self, after: str = "", limit: int = 1000) -> builtins.list[MailboxSize]:
        begin = Names.token(after)
        found: list[MailboxSize] = []
        for name in sorted(one for one in await self.letters.keys() if one > begin)[:limit]:
            size = await self.mailbox_size(Names.text(name))
            if size.messages:
                found.append(size)
        return found

    async def mailbox_size(self, username: str) -> MailboxSize:
        sizes = await self._sizes(username)
        return MailboxSize(username, len(sizes), sum(sizes.values()))

    def _stream(self, username: str) -> Stream:
        return self.letters.stream_of(Names.token(username))

    def _subject(self, username: str, delivery_id: str) -> str:
        digest = blake2b(delivery_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return self.letters.subject(Names.token(username), digest if delivery_id else "*")


def _encoded(letter: Letter, expires: float, now: float) -> tuple[bytes, dict[str, str]]:
    """Returns a letter as the message of the stream: its data and its headers."""
    head = msgspec.json.encode(_Head(letter.delivery_id, letter.type, expires))
    headers = {_BYTES: str(len(letter.data)), _TTL: f"{max(1, int(expires - now))}s"}
    return len(head).to_bytes(4, "little") + head + letter.data, headers


def _letter(stored: StoredMessage) -> tuple[MailboxLetter, float]:
    size = int.from_bytes(stored.data[:4], "little")
    head = _head.decode(stored.data[4 : 4 + size])
    return MailboxLetter(stored.sequence, head.delivery_id, head.type, stored.data[4 + size :]), head.expires
