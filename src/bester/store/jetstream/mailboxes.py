"""Mailboxes in JetStream: a letter is the one message of its own subject, which its account and its delivery id give.

So a repeat is refused by the stream itself, whichever node brings it. What a mailbox holds is counted by each node for
the accounts that it has just put something into, from what is in the stream; two nodes that do so at the same moment
may together go beyond a bound by what each has under way. Letters that are under way together when the stream gets a
new leader may change places. NATS itself removes what has expired.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from bester.bus.connection import Bus
from bester.bus.errors import BusDown
from bester.bus.headers import header
from bester.errors import MailboxFull, Overloaded
from bester.store.jetstream.divided import Divided, Keeping
from bester.store.jetstream.names import Names
from bester.store.jetstream.stream import Repeated, Stored, Stream
from bester.store.ports import KeptLetter, Letter, MailboxBounds, MailboxSize

PAGE = 256
TAKEN_S = 10.0
COUNTED_S = 10.0
"""How long what a mailbox was found to hold is believed, beside what this node has done since."""
COUNTING = 32
"""How many mailboxes are counted at once."""
MAX_COUNTED = 100_000
"""Letters of all the mailboxes that are counted; the oldest counts make room."""
_BYTES = "Bester-Bytes"
_TTL = "Nats-TTL"
_OVERHEAD = 400
"""What the stream counts of a letter beside its data, in bytes, at most about."""


class _Head(msgspec.Struct, array_like=True):
    delivery_id: str
    type: str
    expires: float


_head = msgspec.json.Decoder(_Head)


class _Counted:
    """What one mailbox holds, as this node knows it."""

    __slots__ = ("at", "bytes", "letters")

    def __init__(self, letters: dict[str, int], at: float) -> None:
        self.letters = letters
        """The sizes of their data, by subject."""
        self.bytes = sum(letters.values())
        self.at = at

    def add(self, subject: str, size: int) -> None:
        self.letters[subject] = size
        self.bytes += size

    def drop(self, subject: str) -> None:
        self.bytes -= self.letters.pop(subject, 0)


class JetStreamMailboxes:
    """The mailboxes' half of a message store."""

    def __init__(self, bus: Bus, names: Names, keeping: Keeping) -> None:
        self._mail = Divided(bus, names, "MAIL", "mail", ">", keeping, refuse_repeats=True, ttl=True)
        self._turn = asyncio.Lock()
        """Whose letters are being put: they go out in the order of the calls."""
        self._counted: dict[str, _Counted] = {}
        self._taken: dict[str, float] = {}
        """The letters that were taken a moment ago, by subject: a page that is being read may still have them."""
        self._putting: dict[str, asyncio.Future[None]] = {}
        """The letters that are on their way, by subject."""

    # -- into them -----------------------------------------------------------------------------------------------

    async def deposit(
        self, letters: Sequence[Letter], bounds: MailboxBounds, now: float
    ) -> builtins.list[MailboxFull | None]:
        outcomes: list[MailboxFull | None] = []
        waiting: list[tuple[str, str, asyncio.Future[int]]] = []
        async with self._turn:
            await self._count_all(list(dict.fromkeys(letter.username for letter in letters)))
            for letter in letters:
                subject = self._subject(letter.username, letter.delivery_id)
                counted = await self._count(letter.username)
                outcomes.append(None)
                if subject in counted.letters:
                    if subject in self._putting:  # the same one twice: done when the first is
                        waiting.append((letter.username, subject, asyncio.ensure_future(self._same(subject))))
                        continue
                    # It is there, unless another node has removed it meanwhile: the stream knows.
                else:
                    size = len(letter.data)
                    if len(counted.letters) >= bounds.messages or counted.bytes + size > bounds.bytes:
                        outcomes[-1] = MailboxFull()
                        continue
                    counted.add(subject, size)
                self._taken.pop(subject, None)
                waiting.append((letter.username, subject, self._put(subject, letter, bounds, now)))
        failure: BaseException | None = None
        for username, subject, future in waiting:
            try:
                await asyncio.shield(future)
            except Repeated:
                pass  # it is there already
            except Exception as error:
                failure = failure or error
                self._forget(username, subject)
        if failure is not None:
            raise failure
        return outcomes

    async def restore_letters(self, letters: Sequence[tuple[Letter, float]], now: float) -> None:
        """Puts letters of another store in, in their order, each with the time at which it expires; bounds are not
        looked at. Those that are there already count as put."""
        writing = [
            self._stream(letter.username).put(
                self._subject(letter.username, letter.delivery_id), *_written(letter, expires, now)
            )
            for letter, expires in letters
        ]
        for result in await asyncio.gather(*writing, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, Repeated):
                raise result

    def _put(self, subject: str, letter: Letter, bounds: MailboxBounds, now: float) -> asyncio.Future[int]:
        writing = self._stream(letter.username).put(subject, *_written(letter, now + bounds.lifetime_s, now))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._putting[subject] = done

        async def put() -> int:
            try:
                return await writing
            finally:
                del self._putting[subject]
                done.set_result(None)

        return asyncio.ensure_future(put())

    async def _same(self, subject: str) -> int:
        putting = self._putting.get(subject)
        if putting is not None:
            await asyncio.shield(putting)
        return 0

    async def _count_all(self, usernames: Sequence[str]) -> None:
        """Counts many mailboxes, some at once; with the turn."""
        for begin in range(0, len(usernames), COUNTING):
            await asyncio.gather(*(self._count(username) for username in usernames[begin : begin + COUNTING]))

    async def _count(self, username: str) -> _Counted:
        """Returns what a mailbox holds; with the turn."""
        now = asyncio.get_running_loop().time()
        counted = self._counted.get(username)
        if counted is not None and now - counted.at < COUNTED_S:
            return counted
        try:
            there = await self._sizes(username, once=True)
        except BusDown:
            raise
        except Overloaded:  # what is known is believed for a while; who may be cut off is not waited for each time
            there = dict(counted.letters) if counted is not None else {}
        there.update({one: counted.letters[one] for one in self._putting if counted and one in counted.letters})
        self._counted.pop(username, None)
        counted = self._counted[username] = _Counted(there, now)
        while len(self._counted) > 1 and sum(len(one.letters) for one in self._counted.values()) > MAX_COUNTED:
            del self._counted[next(iter(self._counted))]
        return counted

    async def _sizes(self, username: str, *, once: bool = False) -> dict[str, int]:
        """Returns the sizes of letters' data by their subjects."""
        stream, subject = self._stream(username), self._subject(username, "")
        if not await stream.subjects(subject, once=once):
            return {}
        return {one.subject: int(header(one.headers, _BYTES) or 0) async for one in stream.heads(subject, once=once)}

    def _forget(self, username: str, subject: str) -> None:
        counted = self._counted.get(username)
        if counted is not None:
            counted.drop(subject)

    # -- out of them ---------------------------------------------------------------------------------------------

    async def has_mail(self, username: str) -> bool:
        """While the stream has no leader a replica is believed, which may not know the newest: look again later."""
        return bool(await self._stream(username).page(self._subject(username, ""), 0, 1, sure=False))

    async def read_mailbox(
        self, username: str, after: int, limit: int, max_bytes: int, now: float
    ) -> builtins.list[KeptLetter]:
        found: list[KeptLetter] = []
        size = 0
        stream, subject = self._stream(username), self._subject(username, "")
        while len(found) < limit:
            most = min(PAGE, limit - len(found))
            page = await stream.page(subject, after, most, max_bytes - size + most * _OVERHEAD)
            for stored in page:
                after = stored.position
                letter, expires = _letter(stored)
                if expires <= now or stored.subject in self._taken:
                    continue
                size += len(letter.data)
                if found and size > max_bytes:
                    return found
                found.append(letter)
            if not page or size >= max_bytes:
                break
        return found

    async def take_letters(self, letters: Sequence[tuple[str, str]]) -> None:
        await asyncio.gather(*(self._take(username, id) for username, id in dict.fromkeys(letters)))

    async def _take(self, username: str, delivery_id: str) -> None:
        subject = self._subject(username, delivery_id)
        async with self._turn:
            putting = self._putting.get(subject)
        if putting is not None:
            await asyncio.shield(putting)
        self._note_taken(subject)
        await self.remove_letter(username, delivery_id)

    async def remove_letter(self, username: str, delivery_id: str) -> None:
        """Removes a letter that may come again soon, as it is."""
        subject = self._subject(username, delivery_id)
        await self._stream(username).purge(subject)
        self._forget(username, subject)

    def _note_taken(self, subject: str) -> None:
        now = asyncio.get_running_loop().time()
        while self._taken and now - next(iter(self._taken.values())) > TAKEN_S:
            del self._taken[next(iter(self._taken))]
        self._taken.pop(subject, None)
        self._taken[subject] = now

    async def clear_mailbox(self, username: str) -> int:
        count = await self._stream(username).purge(self._subject(username, ""))
        self._counted.pop(username, None)
        return count

    async def expire_letters(self, now: float, limit: int) -> int:
        """NATS does it, so that there is never anything left to be done here."""
        return 0

    async def mailbox_sizes(self, after: str = "", limit: int = 1000) -> builtins.list[MailboxSize]:
        begin = Names.token(after)
        found: list[MailboxSize] = []
        for name in sorted(one for one in await self._mail.keys() if one > begin)[:limit]:
            size = await self.mailbox_size(bytes.fromhex(name).decode("utf-8", "surrogatepass"))
            if size.messages:
                found.append(size)
        return found

    async def mailbox_size(self, username: str) -> MailboxSize:
        sizes = await self._sizes(username)
        return MailboxSize(username, len(sizes), sum(sizes.values()))

    def _stream(self, username: str) -> Stream:
        return self._mail.of(Names.token(username))

    def _subject(self, username: str, delivery_id: str) -> str:
        digest = blake2b(delivery_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return self._mail.subject(Names.token(username), digest if delivery_id else "*")


def _written(letter: Letter, expires: float, now: float) -> tuple[bytes, dict[str, str]]:
    """Returns what the stream keeps of a letter, and its headers."""
    head = msgspec.json.encode(_Head(letter.delivery_id, letter.type, expires))
    headers = {_BYTES: str(len(letter.data)), _TTL: f"{max(1, int(expires - now))}s"}
    return len(head).to_bytes(4, "little") + head + letter.data, headers


def _letter(stored: Stored) -> tuple[KeptLetter, float]:
    size = int.from_bytes(stored.data[:4], "little")
    head = _head.decode(stored.data[4 : 4 + size])
    return KeptLetter(stored.position, head.delivery_id, head.type, stored.data[4 + size :]), head.expires
