"""Judges a handler's answers as a server would, and compares the data that it returns."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bester.errors import BadResponse, HandlerFailed, Malformed, NotAllowed
from bester.protocol.answers import check_status, commands_of, verdict_command
from bester.protocol.messages import NOTHING, BadAnswer, Command, HandlerMessage, decode_classic, decode_handler_message
from bester.protocol.refusals import fault_of
from bester.protocol.stdio import read_answer
from bester.protocol.values import decode_text
from bester.workbench.contract import Failed
from bester.workbench.transcript import shown

_NUMBER = re.compile(r'"(?:[^"\\]|\\.)*"|(-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)')


@dataclass(frozen=True, slots=True)
class Answer:
    """A well-formed answer."""

    message: HandlerMessage
    good: bool
    """Whether the status is ``"0"``: the handler accepted the message."""
    why: str = ""
    """The handler's reason for a refusal, if it gave one."""

    @property
    def refusal(self) -> str:
        """The status, and the reason why it is not ``"0"``."""
        status = f"the status {self.message.header.status!r}"
        return f"{status} ({self.why})" if self.why else status

    def data(self) -> bytes:
        """Returns the data of the first command (docs/protocol.md, section 3.2)."""
        header = self.message.header
        return self._data(header.commands[0] if header.commands else header.command)

    def replies(self) -> list[bytes]:
        """Returns the data of each ``reply``."""
        header = self.message.header
        commands = header.commands if header.commands is not None else [header.command]
        return [self._data(one) for one in commands if one is not None and one.type == "reply"]

    def _data(self, command: Command | None) -> bytes:
        for payload in (command and command.payload, self.message.payload):
            if payload and payload.data is not NOTHING:
                return bytes(payload.data)
        return b"null" if self.message.data is NOTHING else bytes(self.message.data)


def judge(message: HandlerMessage, *, guards: bool = False) -> Answer:
    """Returns an answer if its status and commands conform to section 3; ``guards``: if it is a guard's verdict.

    Raises:
        Failed: the status or the commands do not conform to section 3.
    """
    header = message.header
    if header.status is None:
        raise Failed("the answer has no header.status, so the sender gets handlerError")
    try:
        check_status(header)
    except HandlerFailed as refusal:
        fault = fault_of(header.error) if header.error is not None else ""
        if fault:
            raise Failed(f"header.error does not have the form of section 3.2, and is ignored: {fault}") from refusal
        return Answer(message, good=False, why=refusal.explained if header.error else "")
    try:
        if guards:
            verdict_command(message)
        else:
            commands_of(message)
    except (BadResponse, NotAllowed) as error:
        raise Failed(f"the answer has status 0, but the server refuses it: {error.code}: {error.message}") from error
    return Answer(message, good=True)


def classic_answer(body: bytes) -> Answer:
    """Decodes and judges a classic handler's frame.

    Raises:
        Failed: the frame does not have the form of section 3.2.
    """
    try:
        return judge(decode_classic(body))
    except BadAnswer as error:
        raise Failed(f"the answer does not have the form of section 3.2: {error.detail}") from error


def attached_message(body: bytes) -> HandlerMessage | str:
    """Decodes an attached handler's frame; a string is the id of a ``detach``.

    Raises:
        BadAnswer: the frame answers a request, and is malformed.
        Failed: the frame is not a message of section 6.
    """
    try:
        return decode_handler_message(body)
    except Malformed as error:
        raise Failed(f"a frame is not a message of section 6: {error.message}") from error


def printed_message(body: bytes) -> HandlerMessage | str:
    """Decodes a line that a handler printed, as :func:`attached_message` does; an answer need have no id.

    Raises:
        BadAnswer: the line answers a request, and is malformed; the error's id is empty if it has none.
        Failed: the line is not JSON.
    """
    try:
        return read_answer(body)
    except Malformed as error:
        raise Failed(
            f"it printed a line that is no answer ({error.message}); such lines belong on standard error"
        ) from error


# -- the returned data --------------------------------------------------------------------------------------------


def same_bytes(sent: bytes, answer: Answer) -> None:
    """Compares the returned data byte for byte.

    Raises:
        Failed: other data came back.
    """
    _require_good(sent, answer)
    if answer.data() != sent:
        raise Failed(f"sent the data {shown(sent)}, and got back {shown(answer.data())}")


def same_value(sent: bytes, answer: Answer) -> None:
    """Compares the returned value; its spelling may differ.

    Raises:
        Failed: another value came back.
    """
    _require_good(sent, answer)
    if decode_text(answer.data()) != decode_text(sent):
        raise Failed(f"sent the data {shown(sent)}, and got back {shown(answer.data())}")


def same_numbers(sent: bytes, answer: Answer) -> None:
    """Compares only the spelling of the numbers.

    Raises:
        Failed: other numbers came back.
    """
    _require_good(sent, answer)
    wanted, found = _numbers(sent), _numbers(answer.data())
    if wanted != found:
        raise Failed(f"sent the numbers {' '.join(wanted)}, and got back {' '.join(found) or 'none'}")


def _numbers(data: bytes) -> list[str]:
    return [match[1] for match in _NUMBER.finditer(data.decode()) if match[1] is not None]


def _require_good(sent: bytes, answer: Answer) -> None:
    if not answer.good:
        raise Failed(f"a handler that echoes must accept the data {shown(sent)}; it answered with {answer.refusal}")
