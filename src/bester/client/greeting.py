"""How the connections of a client begin: who it is there, and what it asks the server for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bester.client.url import Target
from bester.protocol.client import ClientConversation
from bester.protocol.reports import AuthenticationError, Report

REPLY_TO: Final = "replyTo"
"""The feature by which each reply names the message that it answers."""
PARTS: Final = "parts"
"""The feature of answers in parts, and of messages that can be cancelled."""


class Greeting:
    """Writes the first message of each connection, and learns from the server's answer to it."""

    __slots__ = ("_features", "_mail", "_register", "token")

    def __init__(self, token: str | None, features: Iterable[str], mail: bool | Iterable[str], register: bool) -> None:
        if isinstance(mail, str):
            raise TypeError(f"mail must be True, False or a list of types, not the string {mail!r:.200}")
        self.token = token
        """Replaces the password, if there is one."""
        self._features = tuple(dict.fromkeys((*features, REPLY_TO, PARTS)))
        self._mail = mail if isinstance(mail, bool) else tuple(mail)
        self._register = register

    def first(self, conversation: ClientConversation, target: Target) -> bytes:
        """Returns the first frame of a connection."""
        return conversation.hello(
            target.username,
            password=target.password,
            token=None if self._register else self.token,
            features=self._features,
            mail=self._mail,
            register=self._register,
        )

    def again(self, conversation: ClientConversation, username: str, password: str) -> bytes:
        """Returns the frame that begins another session on a connection whose session has ended."""
        return conversation.hello(username, password=password, features=self._features, mail=self._mail, again=True)

    def accepted(self, report: Report) -> None:
        """Notes that the server let the client in."""
        self._register = False
        if report.token is not None:
            self.token = report.token

    def refused(self, error: AuthenticationError, target: Target) -> bool:
        """Drops a token that the server refuses (it expired, or the database is gone) if there is a password to try.

        Returns whether another attempt with the password may succeed.
        """
        if error.code != "authenticationFailed" or self.token is None or target.password is None:
            return False
        self.token = None
        return True
