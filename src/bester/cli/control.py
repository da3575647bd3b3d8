"""The client of the operator's socket (docs/protocol.md, sections 5 and 12).

It is simple and blocking: it sends one command, and waits for one report.
"""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from bester.errors import BesterError
from bester.protocol.frames import encode_text
from bester.protocol.framing import Framer, frame
from bester.protocol.reports import EmptyHeader, ReportError, ReportPayload
from bester.protocol.values import decode_data

MAX_REPORT = 64 * 1024 * 1024
"""The largest report that is read, in bytes; a large server's lists are large."""
_READ = 256 * 1024


class _Answer(msgspec.Struct):
    header: EmptyHeader
    payload: ReportPayload = msgspec.field(default_factory=ReportPayload)


_answer = msgspec.json.Decoder(_Answer)


class ControlError(Exception):
    """An error for a command that could not be carried out; ``str(error)`` says why."""


class NotRunning(ControlError):
    """An error for a control socket on which no server listens."""


class CommandRefused(ControlError):
    """An error for a command that the server reported bad."""

    def __init__(self, error: ReportError) -> None:
        super().__init__(f"{error.message} ({error.code})")
        self.code = error.code


class Control:
    """A connection to the operator's socket of a running server."""

    def __init__(self, path: Path, timeout_s: float = 30.0) -> None:
        """Connects.

        Raises:
            NotRunning: no server listens there.
            ControlError: the socket cannot be used.
        """
        self.path = path
        self.missing: tuple[str, ...] = ()
        """The server's nodes that did not answer in time and are missing from the last result."""
        self._framer = Framer(MAX_REPORT)
        self._bodies: list[bytes] = []
        self._count = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
                raise NotRunning(f"no server is running: nothing listens on {path}") from error
            raise ControlError(f"the control socket {path} cannot be used: {error.strerror or error}") from error

    def __enter__(self) -> Control:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()

    def run(self, command: str, /, **args: object) -> Any:
        """Runs a built-in command and returns its result.

        Raises:
            CommandRefused: the server reported the command bad.
            ControlError: the connection was lost, or the server does not answer.
        """
        self._count += 1
        id = str(self._count)
        data = {"command": {"type": command, "args": args}}
        try:
            self._socket.sendall(frame(encode_text({"payload": {"type": "builtin", "id": id, "data": data}})))
            return self._result(id)
        except TimeoutError as error:
            raise ControlError("the server does not answer") from error
        except OSError as error:
            raise ControlError(f"the connection to the server was lost: {error.strerror or error}") from error
        except (msgspec.DecodeError, BesterError) as error:
            raise ControlError("the program that answers on the control socket is not a Bester server") from error

    def _result(self, id: str) -> Any:
        while True:
            answer = _answer.decode(self._next_body())
            if answer.header.message_type == "fatal":
                raise CommandRefused(answer.payload.error or ReportError())
            if answer.header.message_type != "statusReport" or answer.payload.id != id:
                continue
            if answer.header.status != "good":
                raise CommandRefused(answer.payload.error or ReportError(message="reported bad without a reason"))
            self.missing = answer.payload.missing
            return decode_data(answer.payload.data)

    def _next_body(self) -> bytes:
        while not self._bodies:
            data = self._socket.recv(_READ)
            if not data:
                raise ControlError("the server closed the connection")
            self._bodies = self._framer.feed(data)
            if self._framer.failure is not None and not self._bodies:
                raise self._framer.failure
        return self._bodies.pop(0)
