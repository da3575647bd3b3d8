"""The accounts that are connected, and their sessions on this server.

An account is present if at least one of its sessions takes its messages. Sessions that take none (``mail`` false) are
kept apart: they get replies to their own messages, and nothing else.
"""

from __future__ import annotations

from bester.core.session import Phase, Session
from bester.errors import InvalidName
from bester.protocol import frames
from bester.protocol.names import username


class AccountPresence:
    """An account that has at least one session."""

    __slots__ = ("delivered", "direct", "selective", "sessions", "shared", "username")

    def __init__(self, name: str) -> None:
        self.username = name
        self.sessions: list[Session] = []
        self.delivered = frames.result(name, "delivered")
        """The result for a recipient that is spelled like the account, made once."""
        self.shared = False
        """Whether it may have sessions on other nodes of this server, too."""
        self.direct = True
        """Whether a frame for each session is enough, because all take all types at once and acknowledge nothing."""
        self.selective = False
        """Whether some session takes messages of some types only."""

    def refresh(self) -> None:
        """Updates the flags after a session has come, gone, or changed."""
        self.selective = any(session.takes is not None for session in self.sessions)
        self.direct = (not self.shared and not self.selective) and all(
            session.phase is Phase.LIVE and not session.acknowledges and not session.blocked and not session.queue
            for session in self.sessions
        )

    def takers(self, type: str) -> list[Session]:
        """Returns the sessions that take messages of a type."""
        return [session for session in self.sessions if takes(session, type)] if self.selective else self.sessions


def takes(session: Session, type: str) -> bool:
    """Whether a session takes its account's messages of a type."""
    return session.takes is None or type in session.takes


class Presence:
    """The accounts with sessions, by their canonical usernames."""

    __slots__ = ("_apart", "accounts", "begins_shared", "session_count")

    def __init__(self) -> None:
        self.accounts: dict[str, AccountPresence] = {}
        """By canonical username."""
        self._apart: dict[str, list[Session]] = {}
        """The sessions that take no messages, by account."""
        self.session_count = 0
        self.begins_shared = False
        """Whether a new account counts as shared until it is known whether it is."""

    def add(self, session: Session) -> bool:
        """Adds a session; returns whether its account has become present."""
        self.session_count += 1
        if session.takes is not None and not session.takes:
            self._apart.setdefault(session.username, []).append(session)
            return False
        account = self.accounts.get(session.username)
        if account is None:
            account = self.accounts[session.username] = AccountPresence(session.username)
            account.shared = self.begins_shared
        account.sessions.append(session)
        account.refresh()
        return len(account.sessions) == 1

    def remove(self, session: Session) -> bool:
        """Removes a session that was added; returns whether its account is no longer present."""
        self.session_count -= 1
        apart = self._apart.get(session.username)
        if apart is not None and session in apart:
            apart.remove(session)
            if not apart:
                del self._apart[session.username]
            return False
        account = self.accounts[session.username]
        account.sessions.remove(session)
        if account.sessions:
            account.refresh()
            return False
        del self.accounts[session.username]
        return True

    def find(self, name: str) -> AccountPresence | None:
        """Returns the account with a name as a handler wrote it, in any spelling."""
        account = self.accounts.get(name)
        if account is not None:
            return account
        try:
            return self.accounts.get(username(name))
        except InvalidName:
            return None

    def refresh(self, session: Session) -> None:
        """Updates a session's account after the session has changed."""
        account = self.accounts.get(session.username)
        if account is not None:
            account.refresh()

    def sessions(self, name: str) -> list[Session]:
        """Returns a copy of the account's sessions that take messages, empty if it has none; ``name`` is canonical."""
        account = self.accounts.get(name)
        return list(account.sessions) if account else []

    def all_sessions(self, name: str) -> list[Session]:
        """Returns all sessions of an account, including those that take no messages; ``name`` is canonical."""
        return [*self.sessions(name), *self._apart.get(name, ())]

    def usernames(self) -> list[str]:
        """Returns the accounts that are present, sorted."""
        return sorted(self.accounts)

    def all_usernames(self) -> list[str]:
        """Returns the accounts that have any session, sorted."""
        return sorted({*self.accounts, *self._apart})
