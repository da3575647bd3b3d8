"""Writes lines to a descriptor that may block, such as a standard error that nobody reads, without waiting for it.

A separate thread writes the lines from a bounded queue. Lines that do not fit are dropped and counted; once the log is
read again, it says how many lines are missing.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from collections import deque

from bester.printable import LOG_FORMAT, LogLines

MAX_BYTES = 4 * 1024 * 1024
"""The most bytes that wait for a reader; further lines are dropped."""
FLUSH_S = 1.0
"""How long a program that ends waits for a reader."""
PIECE_BYTES = 64 * 1024


class Sink:
    """Writes lines to a descriptor, in their order, on a thread that starts with the first line."""

    def __init__(self, descriptor: int) -> None:
        self.dropped = 0
        """How many lines were dropped since the start."""
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        """The bytes of the lines that wait, and of those that are being written."""
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, line: str) -> bool:
        """Queues a line; returns whether there was space for it. Any thread may call this."""
        data = line.encode(errors="backslashreplace") + b"\n"
        with self._changed:
            # A thread that is started while the interpreter ends never runs, but the interpreter would wait for it.
            if self._bytes + len(data) > MAX_BYTES or (self._thread is None and sys.is_finalizing()):
                self.dropped += 1
                return False
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
            self._lines.append(data)
            self._bytes += len(data)
            self._changed.notify_all()
        return True

    def flush(self, timeout_s: float = FLUSH_S) -> bool:
        """Waits until all lines are written, for at most ``timeout_s``; returns whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: self._bytes == 0, timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._lines))
                lines, self._lines = self._lines, deque()
            data = b"".join(lines)
            self._write(data)
            with self._changed:
                self._bytes -= len(data)
                self._changed.notify_all()

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest[:PIECE_BYTES]) :]
            except BlockingIOError:  # another process has made the descriptor non-blocking
                select.select([], [self._descriptor], [])
            except OSError:  # nobody can read it any more
                return


STDOUT, STDERR = Sink(1), Sink(2)


class SinkHandler(logging.Handler):
    """Logs to the standard error through its sink."""

    def __init__(self, sink: Sink = STDERR) -> None:
        super().__init__()
        self._sink = sink
        self._missing = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            if self._missing:
                told = logging.LogRecord(__name__, logging.WARNING, "", 0, _MISSING, (self._missing,), None)
                text = f"{self.format(told)}\n{text}"
            self._missing = 0 if self._sink.write(text) else self._missing + 1
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Waits briefly for the reader; the interpreter calls this when it ends."""
        self._sink.flush()


_MISSING = "%d lines of the log are missing here: nobody read it in time"


def set_up_plain_log() -> None:
    """Logs to the standard error in the format for small programs, unless the program has configured its own log."""
    handler = SinkHandler()
    handler.setFormatter(LogLines(LOG_FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
