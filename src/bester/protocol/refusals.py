"""A handler's reason for refusing a message: ``header.error`` of its answer (docs/protocol.md, section 3.2).

The handler writes the text, and the sender of the message receives it: so it is bounded, and it accompanies the
server's own code but never replaces it.
"""

from __future__ import annotations

import re

import msgspec

from bester.errors import HandlerFailed

MAX_REASON = 64
"""The most characters of a handler's own code."""
MAX_TEXT = 1000
"""The most characters of its text; a longer text is cut."""
_reason = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_REASON}}}").fullmatch


class Refuse(Exception):
    """Raised by a handler to refuse a message; the server reports the reason to the sender.

    ::

        raise Refuse("sold out", code="shop.soldOut", temporary=True)

    The report on the message has the code ``handlerError``, this text as its message, and ``code`` as its ``reason``.

    Args:
        message: for people, at most 1,000 characters; ``""`` leaves the text to the server.
        code: for programs, at most 64 characters of ``A-Z a-z 0-9 . _ -``; best with a prefix of your own.
        temporary: whether the unchanged message can succeed later. If a server sent it, that server tries again.

    Raises:
        ValueError: the code is invalid.
    """

    def __init__(self, message: str = "", *, code: str = "", temporary: bool = False) -> None:
        if code and not _reason(code):
            raise ValueError(f"{code[:80]!r} is no code: 1 to {MAX_REASON} of A-Z a-z 0-9 . _ -")
        super().__init__(message)
        self.message = message
        self.code = code
        self.temporary = temporary

    def as_error(self) -> dict[str, str | bool]:
        """Returns the ``error`` of an answer's header."""
        members: dict[str, str | bool] = {}
        if self.code:
            members["code"] = self.code
        if self.message:
            members["message"] = _printable(self.message)
        if self.temporary:
            members["temporary"] = True
        return members


class BadPayload(Refuse, msgspec.ValidationError, ValueError):
    """The data of a request is not of the type that its handler reads; the server reports that and the place.

    It also derives from the errors that reading data raises elsewhere, so a handler can catch it as one of them.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, code="badPayload")


def refusal_of(error: object) -> HandlerFailed:
    """Returns the error to report for a handler's ``error``; parts that do not have the right form are ignored."""
    if not isinstance(error, dict):
        return HandlerFailed()
    code, text = error.get("code"), error.get("message")
    reason = code if isinstance(code, str) and _reason(code) else ""
    message = _printable(text) if isinstance(text, str) else ""
    return HandlerFailed(message or None, reason, error.get("temporary") is True)


def fault_of(error: object) -> str:
    """Returns which part of a handler's ``error`` is ignored, and why; ``""`` if all of it is used."""
    if not isinstance(error, dict):
        return "it is no object"
    code, text, temporary = error.get("code"), error.get("message"), error.get("temporary")
    if code is not None and not (isinstance(code, str) and _reason(code)):
        return f"its code is not 1 to {MAX_REASON} of A-Z a-z 0-9 . _ -"
    if text is not None and not isinstance(text, str):
        return "its message is no text"
    if isinstance(text, str) and text != _printable(text):
        return f"its message has more than {MAX_TEXT:,} characters, or some that cannot be printed"
    return "" if temporary is None or isinstance(temporary, bool) else "its temporary is neither true nor false"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text[:MAX_TEXT])
