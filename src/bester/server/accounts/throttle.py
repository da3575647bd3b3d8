"""Slows down guesses of passwords, without locking anybody else out (docs/protocol.md, section 5).

Failures are counted twice: for the address, and for the account as tried from this address. Nothing is counted for
an account alone, so nobody can keep its owner out. Five failures within 30 s begin a pause, each further one doubles
it, and 30 s without a failure after the pause end the count. A success clears the account's count and not the
address's, else an attacker's own account would be a way to start again.

Tries that are under way count as if they were to fail: no more begin than there may be failures until a pause, and
after a pause one at a time.
"""

from __future__ import annotations

from collections import Counter

FAILURES = 5
WINDOW_S = 30.0
FIRST_PAUSE_S = 1.0
MAX_ADDRESS_PAUSE_S = 30.0
"""Many people can share an address."""
MAX_ACCOUNT_PAUSE_S = 300.0


class Throttle:
    """Counts failed logins; ``now`` is a monotonic time in seconds.

    Args:
        max_entries: how many addresses, and accounts from addresses, are remembered; beyond it, those whose last
            failure is oldest are forgotten.
    """

    def __init__(self, max_entries: int = 16_384) -> None:
        self._max_entries = max_entries
        self._records: dict[str | tuple[str, str], _Record] = {}
        self._under_way: Counter[str | tuple[str, str]] = Counter()

    def __len__(self) -> int:
        return len(self._records)

    def delay(self, address: str, account: str, now: float) -> float:
        """Returns the seconds until a try may be served; 0.0 is at once. A try that is turned away is no failure."""
        until = 0.0
        for key in (address, (address, account)):
            record = self._records.get(key)
            if record is not None:
                until = max(until, record.until)
        return max(0.0, until - now)

    def may_begin(self, address: str, account: str, now: float) -> bool:
        """Whether a further try could fail without there being one failure too many."""
        for key in (address, (address, account)):
            record = self._records.get(key)
            if self._under_way[key] >= (FAILURES if record is None else record.left(now)):
                return False
        return True

    def began(self, address: str, account: str) -> None:
        """Counts a try as under way, until :meth:`ended`."""
        self._under_way[address] += 1
        self._under_way[address, account] += 1

    def ended(self, address: str, account: str) -> None:
        """Ends a try; a failure was counted before."""
        for key in (address, (address, account)):
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]

    def failed(self, address: str, account: str, now: float) -> None:
        """Counts a wrong password or unknown account."""
        self._record((address, account)).failed(now, MAX_ACCOUNT_PAUSE_S)
        self._record(address).failed(now, MAX_ADDRESS_PAUSE_S)

    def succeeded(self, address: str, account: str, now: float) -> None:
        """Forgets the failures for this account from this address."""
        self._records.pop((address, account), None)

    def _record(self, key: str | tuple[str, str]) -> _Record:
        record = self._records.pop(key, None) or _Record()
        self._records[key] = record  # at the end: the dictionary is in the order of the last failures
        if len(self._records) > self._max_entries:
            del self._records[next(iter(self._records))]
        return record


class _Record:
    __slots__ = ("pause_s", "times", "until")

    def __init__(self) -> None:
        self.times: list[float] = []
        self.pause_s = 0.0
        self.until = 0.0

    def left(self, now: float) -> int:
        """How many failures there may be until the next pause."""
        if self.pause_s:
            return 1 if now <= self.until + WINDOW_S else FAILURES
        return max(1, FAILURES - sum(now - at <= WINDOW_S for at in self.times))

    def failed(self, now: float, max_pause_s: float) -> None:
        if self.pause_s and now > self.until + WINDOW_S:
            self.pause_s = 0.0
            self.times.clear()
        self.times = [*self.times[1 - FAILURES :], now]
        if self.pause_s:
            self.pause_s = min(2 * self.pause_s, max_pause_s)
        elif len(self.times) == FAILURES and now - self.times[0] <= WINDOW_S:
            self.pause_s = FIRST_PAUSE_S
        if self.pause_s:
            self.until = now + self.pause_s
