"""Recordings: operators get copies of what handlers are asked and answer (docs/protocol.md, section 5.3).

A recording lasts until its time is over, or its connection ends it. Nothing of it is kept here: what the connection
does not read is lost to the recording, and counted.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any, Protocol

from bester.clock import wall_time
from bester.core.endpoint import Endpoint
from bester.errors import BadArguments, Overloaded
from bester.protocol.builtin import BUILTIN, Record
from bester.protocol.frames import encode_text
from bester.protocol.names import RESERVED_TYPES, type_name
from bester.server.runtime import Runtime
from bester.timeouts import within

log = logging.getLogger("bester.recording")

MAX_RECORDINGS = 4
MAX_S = 24 * 60 * 60.0
"""The longest recording."""
MAX_UNREAD_BYTES = 1024 * 1024
"""How much the operator may leave unread before further records are lost."""


class Reader(Protocol):
    """The operator's connection, as far as one command uses it."""

    id: str
    """The command's id."""
    who: str
    """The operator, for the log."""
    ended: asyncio.Event
    """Set when the operator wants no more."""

    @property
    def unread_bytes(self) -> int:
        """How much of what was written the operator has not read."""

    def write(self, out: list[bytes]) -> None:
        """Writes frames."""


class Recording:
    """One recording; it writes what the tap of its type gives it to its reader."""

    def __init__(self, runtime: Runtime, args: Record, reader: Reader) -> None:
        self._runtime = runtime
        self._args = args
        self._reader = reader
        self._began = runtime.clock()
        self.recorded = 0
        self._unread = 0
        head = b'{"header":{"messageType":"receivedMessage","partOf":%b,"more":true},"payload":{"type":%b,"data":' % (
            encode_text(reader.id),
            encode_text(BUILTIN),
        )
        self._endpoint = Endpoint(b"", writer=self)
        self._tap = runtime.exchange.taps.open(
            args.type,
            self._endpoint,
            head,
            self._choose,
            twice=args.twice,
            ahead_s=wall_time() - runtime.clock(),
        )

    def _choose(self) -> bool:
        return self._args.sample == 1 or random.random() < self._args.sample

    def write(self, out: list[bytes]) -> None:
        """Writes records, unless the operator leaves too much unread."""
        if self._reader.unread_bytes > min(MAX_UNREAD_BYTES, self._runtime.config.limits.max_send_queue // 2):
            self._unread += len(out)
        else:
            self.recorded += len(out)
            self._reader.write(out)

    def abort(self) -> None:
        """Ends it after a fault of ours."""
        self._reader.ended.set()

    @property
    def lost(self) -> int:
        """How many chosen requests the operator did not get."""
        return self._tap.lost + self._unread

    def close(self) -> None:
        """Ends it; the last records are written now, before the report."""
        self._runtime.turn().taps.close(self._tap)
        if self._endpoint.out:
            self.write(self._endpoint.out)
            self._endpoint.out.clear()

    def row(self) -> dict[str, Any]:
        """Returns it as ``status`` shows it."""
        seconds = self._runtime.clock() - self._began
        return {
            "type": self._args.type,
            "by": self._reader.who,
            "seconds": round(seconds, 1),
            "left": round(max(0.0, self._args.seconds - seconds), 1),
            "sample": self._args.sample,
            "recorded": self.recorded,
            "lost": self.lost,
        }


class Recordings:
    """The recordings of this server, or of this node of one."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._running: dict[str, Recording] = {}

    def rows(self) -> list[dict[str, Any]]:
        """Returns those that run, as ``status`` shows them."""
        return [recording.row() for recording in self._running.values()]

    async def record(self, args: Record, reader: Reader) -> dict[str, Any]:
        """Records until the time is over or the reader wants no more; returns what the report says.

        Raises:
            BadArguments, InvalidName: the arguments are wrong.
            Overloaded: the type is recorded already, or too many are.
        """
        _check(args)
        if args.type in self._running:
            raise Overloaded(f"the type {args.type} is being recorded already")
        if len(self._running) >= MAX_RECORDINGS:
            raise Overloaded(f"at most {MAX_RECORDINGS} types may be recorded at once")
        who, type = reader.who, ascii(args.type)
        recording = self._running[args.type] = Recording(self._runtime, args, reader)
        log.warning(
            "%s records what handlers of %s are asked and answer: for %g s, a share of %g, %s",
            who,
            type,
            args.seconds,
            args.sample,
            "asked twice" if args.twice else "asked once",
        )
        try:
            async with within(args.seconds):
                await reader.ended.wait()
        except TimeoutError:
            pass
        finally:
            del self._running[args.type]
            recording.close()
            told = recording.row()
            log.warning(
                "%s no longer records %s: %d recorded, %d lost, in %g s",
                who,
                type,
                told["recorded"],
                told["lost"],
                told["seconds"],
            )
        return {name: told[name] for name in ("recorded", "lost", "seconds")}


def _check(args: Record) -> None:
    args.type = type_name(args.type)
    if args.type in RESERVED_TYPES:
        raise BadArguments(f"the type {args.type} is the server's own, and no handler is asked")
    if not 0 < args.seconds <= MAX_S:
        raise BadArguments(f"seconds must be above 0 and at most {MAX_S:g}")
    if not 0 < args.sample <= 1:
        raise BadArguments("sample must be above 0 and at most 1")
