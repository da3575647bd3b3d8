"""Who is connected: the sessions of each account on this server."""

from __future__ import annotations

from bester.core.endpoints import Phase, Session
from bester.errors import InvalidName
from bester.protocol import frames
from bester.protocol.names import username


class Attendance:
    """An account that has at least one session."""

    __slots__ = ("delivered", "plain", "sessions", "shared", "username")

    def __init__(self, name: str) -> None:
        self.username = name
        self.sessions: list[Session] = []
        self.delivered = frames.result(name, "delivered")
        """The result for a recipient that is spelled like the account, made once."""
        self.shared = False
        """Whether it may have sessions on other nodes of this server too."""
        self.plain = True
        """Whether all sessions take messages at once, and acknowledge nothing."""

    def refresh(self) -> None:
        """One of the sessions came, went, or changed."""
        self.plain = not self.shared and all(
            session.phase is Phase.LIVE and not session.acknowledges and not session.blocked and not session.queue
            for session in self.sessions
        )


class Presence:
    """The accounts with sessions, by their canonical usernames."""

    def __init__(self) -> None:
        self._present: dict[str, Attendance] = {}
        self.session_count = 0

    def add(self, session: Session) -> bool:
        """Adds a session; True if its account had none."""
        self.session_count += 1
        attendance = self._present.get(session.username)
        if attendance is None:
            attendance = self._present[session.username] = Attendance(session.username)
        attendance.sessions.append(session)
        attendance.refresh()
        return len(attendance.sessions) == 1

    def remove(self, session: Session) -> bool:
        """Removes a session that was added; True if it was its account's last."""
        self.session_count -= 1
        attendance = self._present[session.username]
        attendance.sessions.remove(session)
        if attendance.sessions:
            attendance.refresh()
            return False
        del self._present[session.username]
        return True

    def find(self, name: str) -> Attendance | None:
        """Looks a name up as a handler wrote it, in any spelling of the account's name."""
        attendance = self._present.get(name)
        if attendance is not None:
            return attendance
        try:
            return self._present.get(username(name))
        except InvalidName:
            return None

    def sessions(self, name: str) -> list[Session]:
        """Returns a copy of the account's sessions; empty if it has none."""
        attendance = self.find(name)
        return list(attendance.sessions) if attendance else []

    def usernames(self) -> list[str]:
        """Returns the connected accounts, sorted."""
        return sorted(self._present)
