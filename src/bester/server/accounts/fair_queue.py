"""A bounded queue in which addresses take turns, and so do the accounts of one address.

When it is full, an address with fewer items displaces the newest item of the address with the most.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items, by address and account.

    Args:
        most: how many may wait.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._addresses: dict[str, dict[str, deque[T]]] = {}
        """In the order of their turns."""
        self._sizes: Counter[str] = Counter()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, address: str, account: str, item: T) -> T | None:
        """Adds an item; returns the one that does not fit any more: the item itself, or another one."""
        out: T | None = None
        if self._size >= self._most:
            where = max(self._sizes, key=self._sizes.__getitem__)
            if self._sizes[where] <= self._sizes[address] + 1:
                where = address  # nobody has more
            accounts = self._addresses.get(where, {})
            most = max(accounts, key=lambda name: len(accounts[name]), default=account)
            line = accounts.get(most, deque[T]())
            if where == address and len(line) <= len(accounts.get(account, ())) + 1:
                return item
            out = line[-1]
            self.remove(where, most, out)
        self._addresses.setdefault(address, {}).setdefault(account, deque()).append(item)
        self._sizes[address] += 1
        self._size += 1
        return out

    def take(self, ready: Callable[[str, str], bool]) -> T | None:
        """Takes out whose turn it is, passing over addresses and accounts that are not ready."""
        for address, accounts in self._addresses.items():
            for account, line in accounts.items():
                if ready(address, account):
                    item = line[0]
                    self.remove(address, account, item)
                    # Whoever has had a turn goes to the end.
                    if account in accounts:
                        accounts[account] = accounts.pop(account)
                    if address in self._addresses:
                        self._addresses[address] = self._addresses.pop(address)
                    return item
        return None

    def remove(self, address: str, account: str, item: T) -> None:
        """Takes out an item that waits; if it does not, nothing happens."""
        accounts = self._addresses.get(address, {})
        line = accounts.get(account)
        if line is None or item not in line:
            return
        line.remove(item)
        self._size -= 1
        self._sizes[address] -= 1
        if not line:
            del accounts[account]
        if not accounts:
            del self._addresses[address], self._sizes[address]
