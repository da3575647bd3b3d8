"""Judges what a handler answers, with the eyes of a server, and compares the data that came back."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bester.errors import BadResponse, HandlerFailed, Malformed, NotAllowed
from bester.protocol.messages import (
    NOTHING,
    BadAnswer,
    HandlerMessage,
    check_status,
    commands_of,
    decode_classic,
    decode_handler_message,
)
from bester.protocol.refusals import fault_of
from bester.protocol.values import decode_text
from bester.workbench.contract import Failed
from bester.workbench.transcript import shown

_NUMBER = re.compile(r'"(?:[^"\\]|\\.)*"|(-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)')


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the right form."""

    message: HandlerMessage
    good: bool
    """Whether its status is ``"0"``: the handler took the message."""
    why: str = ""
    """Why not, if it said."""

    @property
    def refusal(self) -> str:
        """Its status, and why it is not ``"0"``."""
        status = f"the status {self.message.header.status!r}"
        return f"{status} ({self.why})" if self.why else status

    def data(self) -> bytes:
        """Returns what the first command carries (docs/protocol.md, section 3.2)."""
        header = self.message.header
        command = header.commands[0] if header.commands else header.command
        for payload in (command and command.payload, self.message.payload):
            if payload and payload.data is not NOTHING:
                return bytes(payload.data)
        return b"null" if self.message.data is NOTHING else bytes(self.message.data)


def judge(message: HandlerMessage) -> Answer:
    """Returns an answer whose status and commands are those of section 3.

    Raises:
        Failed: they are not.
    """
    header = message.header
    if header.status is None:
        raise Failed("the answer has no header.status, so the sender is told handlerError")
    try:
        check_status(header)
    except HandlerFailed as refusal:
        fault = fault_of(header.error) if header.error is not None else ""
        if fault:
            raise Failed(f"header.error is not of section 3.2's form, and is passed over: {fault}") from refusal
        return Answer(message, good=False, why=refusal.explained if header.error else "")
    try:
        commands_of(message)
    except (BadResponse, NotAllowed) as error:
        raise Failed(f"the answer has status 0, and is refused, {error.code}: {error.message}") from error
    return Answer(message, good=True)


def classic_answer(body: bytes) -> Answer:
    """Returns what a classic handler's frame says.

    Raises:
        Failed: nothing of section 3.2's form.
    """
    try:
        return judge(decode_classic(body))
    except BadAnswer as error:
        raise Failed(f"the answer is not of section 3.2's form: {error.detail}") from error


def attached_message(body: bytes) -> HandlerMessage | str:
    """Returns what an attached handler's frame says; a string is the id of a ``detach``.

    Raises:
        BadAnswer: it answers a request, and is not of the right form.
        Failed: it is nothing of section 6.
    """
    try:
        return decode_handler_message(body)
    except Malformed as error:
        raise Failed(f"a frame that is no message of section 6: {error.message}") from error


# -- what came back -----------------------------------------------------------------------------------------------


def same_bytes(sent: bytes, answer: Answer) -> None:
    """Compares byte for byte.

    Raises:
        Failed: other data came back.
    """
    _require_good(sent, answer)
    if answer.data() != sent:
        raise Failed(f"sent the data {shown(sent)}, and what came back is {shown(answer.data())}")


def same_value(sent: bytes, answer: Answer) -> None:
    """Compares values; their spelling may differ.

    Raises:
        Failed: another value came back.
    """
    _require_good(sent, answer)
    if decode_text(answer.data()) != decode_text(sent):
        raise Failed(f"sent the data {shown(sent)}, and what came back is {shown(answer.data())}")


def same_numbers(sent: bytes, answer: Answer) -> None:
    """Compares the spelling of the numbers alone.

    Raises:
        Failed: other numbers came back.
    """
    _require_good(sent, answer)
    wanted, found = _numbers(sent), _numbers(answer.data())
    if wanted != found:
        raise Failed(f"sent the numbers {' '.join(wanted)}, and what came back is {' '.join(found) or 'none'}")


def _numbers(data: bytes) -> list[str]:
    return [match[1] for match in _NUMBER.finditer(data.decode()) if match[1] is not None]


def _require_good(sent: bytes, answer: Answer) -> None:
    if not answer.good:
        raise Failed(f"a handler that echoes answered the data {shown(sent)} with {answer.refusal}")
