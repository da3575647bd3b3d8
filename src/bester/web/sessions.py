"""The console's sessions, in memory, keyed by the hashes of the browsers' tokens."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from bester.clock import elapsed

LIFETIME_S = 12 * 3600.0
IDLE_S = 3600.0
MAX_SESSIONS = 1000
"""The most sessions at a time; beyond that, the least recently used one ends."""


@dataclass(slots=True)
class SignedIn:
    """One browser's session; times are those of the clock of :class:`Sessions`."""

    username: str
    password_hash: str
    """The hash that the password was checked against; a changed password ends the session."""
    ends: float
    idle_ends: float


class Sessions:
    """The sessions of one server.

    Args:
        clock: returns seconds that never decrease.
    """

    def __init__(self, clock: Callable[[], float] = elapsed) -> None:
        self._clock = clock
        self._sessions: dict[bytes, SignedIn] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, username: str, password_hash: str) -> str:
        """Starts a session, and returns the token for the browser, 256 random bits."""
        now = self._clock()
        for key in [key for key, one in self._sessions.items() if now >= min(one.ends, one.idle_ends)]:
            del self._sessions[key]
        while len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        token = secrets.token_urlsafe(32)
        self._sessions[_hash(token)] = SignedIn(username, password_hash, now + LIFETIME_S, now + IDLE_S)
        return token

    def find(self, token: str, *, used: bool = True) -> SignedIn | None:
        """Returns a token's session if it has not ended; ``used`` postpones its expiry."""
        key = _hash(token)
        session = self._sessions.get(key)
        now = self._clock()
        if session is None:
            return None
        if now >= min(session.ends, session.idle_ends):
            del self._sessions[key]
            return None
        if used:
            session.idle_ends = now + IDLE_S
            self._sessions[key] = self._sessions.pop(key)  # to the end, so the first is the least recently used
        return session

    def end(self, token: str) -> None:
        """Ends a token's session, if it has one."""
        self._sessions.pop(_hash(token), None)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()
