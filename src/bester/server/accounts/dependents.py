"""Connections other than sessions that accounts have opened: those of handlers on other machines."""

from __future__ import annotations

from typing import Protocol


class Dependent(Protocol):
    """Such a connection."""

    def account_changed(self, why: str, roles: tuple[str, ...] | None) -> None:
        """Called after a change of the account: it has other roles, or (None) all that it has opened ends."""


class Dependents:
    """The connections, and their accounts."""

    def __init__(self) -> None:
        self._accounts: dict[Dependent, str] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    def add(self, account: str, dependent: Dependent) -> None:
        """Tells a connection of the changes of its account, until it is removed."""
        self._accounts[dependent] = account

    def remove(self, dependent: Dependent) -> None:
        """Forgets a connection, if it is known."""
        self._accounts.pop(dependent, None)

    def changed(self, account: str, why: str, roles: tuple[str, ...] | None) -> None:
        """Tells the connections of an account of a change."""
        for dependent in [one for one, of in self._accounts.items() if of == account]:
            dependent.account_changed(why, roles)
