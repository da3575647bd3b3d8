"""The operator's end of a recording (docs/protocol.md, section 5.3)."""

from __future__ import annotations

import asyncio
import errno
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from bester.cli.control import MAX_REPORT, CommandRefused, ControlError, NotRunning
from bester.errors import BesterError
from bester.protocol.frames import encode_text
from bester.protocol.framing import Framer, frame
from bester.protocol.messages import NOTHING
from bester.protocol.reports import ReportError
from bester.protocol.values import decode_data

_ID = "1"
_READ = 256 * 1024


class _Header(msgspec.Struct, rename="camel"):
    message_type: str = ""
    status: str = ""
    part_of: str = ""


class _Payload(msgspec.Struct):
    id: str = ""
    data: Raw = NOTHING
    error: ReportError | None = None


class _Told(msgspec.Struct):
    header: _Header
    payload: _Payload = msgspec.field(default_factory=_Payload)


_told = msgspec.json.Decoder(_Told)


class LiveRecording:
    """A recording that the server sends; :meth:`close` it in any case.

    ^C and SIGTERM end it in order.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.report: dict[str, Any] = {}
        """What the server reports at the end."""
        self._reader = reader
        self._writer = writer
        self._cancelled = False

    @classmethod
    async def begin(cls, control: Path, type: str, seconds: float, sample: float, *, twice: bool) -> LiveRecording:
        """Connects to the server's control socket, and lets it record.

        Raises:
            NotRunning: no server listens there.
            ControlError: the socket cannot be used.
        """
        try:
            recording = cls(*await asyncio.open_unix_connection(control))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
                raise NotRunning(f"no server is running: nothing listens on {control}") from error
            raise ControlError(f"the control socket {control} cannot be used: {error.strerror or error}") from error
        args = {"type": type, "seconds": seconds, "sample": sample, "twice": twice}
        recording._send(
            {"payload": {"type": "builtin", "id": _ID, "data": {"command": {"type": "record", "args": args}}}}
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, recording.cancel)
        return recording

    def cancel(self) -> None:
        """Ends the recording; what was recorded until then still comes, and the report."""
        if not self._cancelled:
            self._cancelled = True
            self._send({"header": {"messageType": "cancel"}, "payload": {"id": _ID}})

    async def close(self) -> None:
        """Closes the connection."""
        self._writer.close()

    async def __aiter__(self) -> AsyncIterator[Raw]:
        """Yields the records; at their end, :attr:`report` is there.

        Raises:
            CommandRefused: the server does not record.
            ControlError: the connection was lost.
        """
        framer = Framer(MAX_REPORT)
        while not self.report:
            try:
                data = await self._reader.read(_READ)
            except OSError as error:
                raise ControlError(f"the connection to the server was lost: {error.strerror or error}") from error
            if not data:
                raise ControlError("the server closed the connection")
            bodies = framer.feed(data)
            if framer.failure is not None:
                raise ControlError("the program that answers on the control socket is not a Bester server")
            for body in bodies:
                if (record := self._received(body)) is not None:
                    yield record

    def _received(self, body: bytes) -> Raw | None:
        try:
            told = _told.decode(body)
        except (msgspec.DecodeError, BesterError) as error:
            raise ControlError("the program that answers on the control socket is not a Bester server") from error
        header, payload = told.header, told.payload
        if header.message_type == "receivedMessage" and header.part_of == _ID:
            return payload.data
        if header.message_type == "fatal" or header.status == "bad":
            raise CommandRefused(payload.error or ReportError(message="reported bad without a reason"))
        if header.message_type == "statusReport":
            self.report = decode_data(payload.data)
        return None

    def _send(self, message: object) -> None:
        self._writer.write(frame(encode_text(message)))
