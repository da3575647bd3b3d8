"""Why a handler refused a message, in its own words: ``header.error`` of its answer (docs/protocol.md, section 3.2).

The words are a handler's, and go to whoever sent the message: so they are bounded, and stand beside the server's own
code, never in its place.
"""

from __future__ import annotations

import re

import msgspec

from bester.errors import HandlerFailed

MAX_REASON = 64
"""Characters of a handler's own code."""
MAX_TEXT = 1000
"""Characters of its text; beyond them it is cut."""
_reason = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_REASON}}}").fullmatch


class Refuse(Exception):
    """Raised by a handler that does not take a message; its sender is told why.

    ::

        raise Refuse("sold out", code="shop.soldOut", temporary=True)

    The report on the message has the code ``handlerError``, this text as its message, and ``code`` as its ``reason``.

    Args:
        message: for people, at most 1,000 characters; ``""``: the server's own words.
        code: for programs, of 64 of ``A-Z a-z 0-9 . _ -`` at most; best with a prefix of your own.
        temporary: whether the same message can succeed later without a change. A server that sent it tries again.

    Raises:
        ValueError: there can be no such code.
    """

    def __init__(self, message: str = "", *, code: str = "", temporary: bool = False) -> None:
        if code and not _reason(code):
            raise ValueError(f"{code[:80]!r} is no code: 1 to {MAX_REASON} of A-Z a-z 0-9 . _ -")
        super().__init__(message)
        self.message = message
        self.code = code
        self.temporary = temporary

    def as_error(self) -> dict[str, str | bool]:
        """Returns it as it stands in an answer's header."""
        told: dict[str, str | bool] = {}
        if self.code:
            told["code"] = self.code
        if self.message:
            told["message"] = _printable(self.message)
        if self.temporary:
            told["temporary"] = True
        return told


class BadPayload(Refuse, msgspec.ValidationError, ValueError):
    """The data of a request is not what its handler reads it as: the sender is told so, with the place.

    It is what else the reading of data raises, too, so that a handler can catch it as that.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, code="badPayload")


def refusal_of(error: object) -> HandlerFailed:
    """Returns what a message's sender is told of a handler's ``error``; what has not the form is passed over."""
    if not isinstance(error, dict):
        return HandlerFailed()
    code, text = error.get("code"), error.get("message")
    reason = code if isinstance(code, str) and _reason(code) else ""
    message = _printable(text) if isinstance(text, str) else ""
    return HandlerFailed(message or None, reason, error.get("temporary") is True)


def fault_of(error: object) -> str:
    """Returns what in a handler's ``error`` is passed over, and why; ``""`` if nothing is."""
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
