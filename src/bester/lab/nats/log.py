"""The messages of one stream, by sequence and by subject."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from heapq import merge

from bester.lab.nats.subjects import SubjectTree, is_pattern


class Stored:
    """A message that a stream keeps."""

    __slots__ = ("at", "data", "headers", "sequence", "size", "subject", "time")

    def __init__(self, sequence: int, subject: str, headers: bytes, data: bytes, at: float, time: float) -> None:
        self.sequence = sequence
        self.subject = subject
        self.headers = headers
        self.data = data
        self.at = at
        """When it was stored, by the loop's clock."""
        self.time = time
        """When it was stored, in seconds since 1970."""
        self.size = size_of(subject, headers, data)


def size_of(subject: str, headers: bytes, data: bytes) -> int:
    """Returns how many bytes a real server counts of a message in a file."""
    return 30 + len(subject) + len(data) + (len(headers) + 4 if headers else 0)


class MessageLog:
    """The messages that a stream has; a sequence is never used twice.

    Args:
        pattern: matches all of their subjects.
    """

    def __init__(self, pattern: str = ">") -> None:
        self.pattern = pattern
        self.first = 0
        """The first message's sequence; the next one's if there was a message, and there is none now."""
        self.last = 0
        """The sequence of the last message that was ever stored."""
        self.last_time = 0.0
        self.bytes = 0
        self.messages: dict[int, Stored] = {}
        """In the order of their sequences."""
        self._sequences: list[int] = []
        """The sequences, with some that are gone."""
        self._begin = 0
        """The place of :attr:`first` in it, as long as there are messages."""
        self._subjects: SubjectTree[dict[int, Stored]] = SubjectTree()
        self.subjects = 0
        """How many subjects have messages."""
        self.followers: list[Follower] = []
        """The copies that lag behind."""

    def store(self, subject: str, headers: bytes, data: bytes, at: float, time: float) -> Stored:
        """Adds a message after all others."""
        stored = Stored(self.last + 1, subject, headers, data, at, time)
        self.add(stored)
        return stored

    def add(self, stored: Stored) -> None:
        """Adds a message that has a sequence, which is greater than all others."""
        sequence = self.last = stored.sequence
        self.last_time = stored.time
        if not self.messages:
            self.first = sequence
            self._begin = len(self._sequences)
        self.messages[sequence] = stored
        self._sequences.append(sequence)
        of_subject = self._subjects.get(stored.subject)
        if of_subject is None:
            of_subject = {}
            self._subjects.set(stored.subject, of_subject)
            self.subjects += 1
        of_subject[sequence] = stored
        self.bytes += stored.size
        for follower in self.followers:
            follower.note(stored, True)

    def remove(self, stored: Stored) -> None:
        """Removes a message, which must be there."""
        for follower in self.followers:
            follower.note(stored, False)
        del self.messages[stored.sequence]
        of_subject = self.of_subject(stored.subject)
        del of_subject[stored.sequence]
        if not of_subject:
            self._subjects.remove(stored.subject)
            self.subjects -= 1
        self.bytes -= stored.size
        if not self.messages:
            self.first = self.last + 1
        else:
            while self._sequences[self._begin] not in self.messages:
                self._begin += 1
            self.first = self._sequences[self._begin]
        if len(self._sequences) > 2 * len(self.messages) + 64:
            self._sequences = list(self.messages)
            self._begin = 0

    def of_subject(self, subject: str) -> dict[int, Stored]:
        """Returns the messages of exactly one subject, by sequence and in their order."""
        return self._subjects.get(subject) or {}

    def last_of(self, pattern: str) -> Stored | None:
        """Returns the last message of the subjects that match."""
        return max(self.last_of_each(pattern), key=lambda one: one.sequence, default=None)

    def last_of_each(self, pattern: str) -> list[Stored]:
        """Returns the last message of each subject that matches."""
        if not is_pattern(pattern):
            found = self.of_subject(pattern)
            return [_last(found)] if found else []
        return [_last(one) for one in self._subjects.of_subjects(pattern)]

    def after(self, sequence: int, pattern: str) -> Iterator[Stored]:
        """Yields the messages from a sequence on whose subjects match, in their order; only to read."""
        if pattern in (">", self.pattern):
            for place in range(bisect_left(self._sequences, sequence), len(self._sequences)):
                stored = self.messages.get(self._sequences[place])
                if stored is not None:
                    yield stored
            return
        if not is_pattern(pattern):
            yield from (one for one in self.of_subject(pattern).values() if one.sequence >= sequence)
            return
        single: list[Stored] = []
        several: list[Iterator[Stored]] = []
        for of_subject in self._subjects.of_subjects(pattern):
            if len(of_subject) == 1:
                single.extend(one for one in of_subject.values() if one.sequence >= sequence)
            else:
                several.append(one for one in of_subject.values() if one.sequence >= sequence)
        single.sort(key=lambda one: one.sequence)
        yield from merge(single, *several, key=lambda one: one.sequence)

    def counts(self, pattern: str) -> dict[str, int]:
        """Returns how many messages each subject that matches has, sorted by subject."""
        found = {next(iter(one.values())).subject: len(one) for one in self._subjects.of_subjects(pattern)}
        return dict(sorted(found.items()))

    def oldest(self) -> Stored | None:
        """Returns the first message."""
        return self.messages.get(self.first)

    @property
    def deleted(self) -> int:
        """How many sequences between the first and the last have no message."""
        return self.last - self.first + 1 - len(self.messages) if self.messages else 0


class Follower:
    """A replica's copy of a log, which lags behind it.

    Args:
        of: the log.
        lag_s: how much later the copy has what the log has.
        clock: the loop's.
    """

    def __init__(self, of: MessageLog, lag_s: float, clock: Callable[[], float]) -> None:
        self._lag_s = lag_s
        self._clock = clock
        self._changes: deque[tuple[float, Stored, bool]] = deque()
        """When the copy has each change; its message; whether that is added, or else removed."""
        self._log = MessageLog(of.pattern)
        for stored in of.messages.values():
            self._log.add(stored)
        self._log.last = of.last

    def note(self, stored: Stored, added: bool) -> None:
        """Takes note of a change of the log."""
        self._changes.append((self._clock() + self._lag_s, stored, added))

    def seen(self) -> MessageLog:
        """Returns what the copy has now."""
        now = self._clock()
        while self._changes and self._changes[0][0] <= now:
            _, stored, added = self._changes.popleft()
            if added:
                self._log.add(stored)
            else:
                self._log.remove(stored)
        return self._log


def _last(of_subject: dict[int, Stored]) -> Stored:
    return of_subject[next(reversed(of_subject))]
