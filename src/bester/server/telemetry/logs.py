"""The server's own log: one line per event, on standard error, as text or as JSON.

Whatever is told, a line is a line: what cannot be shown is escaped, and what is long is cut, for much of it was made up
by others. What an event is about is said once more in fields of its own (``extra``): :data:`FIELDS`. No payloads and no
secrets: that is the callers' part.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

from bester.logsink import SinkHandler
from bester.shown import one_line

FIELDS = ("connection", "address", "account", "server", "handler", "type", "message_id", "trace")
"""Which connection, account, server, handler, type or message an event is about, where it is about one."""
MAX_MESSAGE = 2000
MAX_FIELD = 300
MAX_EXCEPTION = 16_000
"""Characters, before those are escaped that must be; of a traceback the end is kept, which says what happened."""

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
root = logging.getLogger("bester")
_log = logging.getLogger("bester.server")
LOGGERS = {"bester": None, "asyncio": logging.WARNING, "aiohttp": logging.WARNING}
"""Those whose lines are ours, with their levels; None: the configured one."""


class _Formatter(logging.Formatter):
    """What both forms share."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self.node = node

    def message(self, record: logging.LogRecord) -> str:
        return one_line(record.getMessage(), MAX_MESSAGE)

    def fields(self, record: logging.LogRecord) -> dict[str, str]:
        found = {name: getattr(record, name, None) for name in FIELDS}
        return {name: one_line(str(value), MAX_FIELD) for name, value in found.items() if value}

    def exception(self, record: logging.LogRecord) -> list[str]:
        if not record.exc_info:
            return []
        text = self.formatException(record.exc_info)
        if len(text) > MAX_EXCEPTION:
            text = f"...{text[-MAX_EXCEPTION:]}"
        return [one_line(line, MAX_EXCEPTION) for line in text.split("\n")]


class _Text(_Formatter):
    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        at = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        message = self.message(record)
        who = f"{self.node} " if self.node else ""
        line = f"{at}.{int(record.msecs):03d}Z {who}{record.levelname:<7} {record.name}: {message}"
        for name, value in self.fields(record).items():
            if value not in message:
                line += f" {name}={value if ' ' not in value else json.dumps(value, ensure_ascii=False)}"
        return "\\n".join([line, *self.exception(record)])


class _Json(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.message(record),
            **self.fields(record),
        }
        if self.node:
            line["node"] = self.node
        if exception := self.exception(record):
            line["exception"] = "\n".join(exception)  # which JSON escapes
        return json.dumps(line, ensure_ascii=False)


def set_up_log(level: str, format: str, node: str = "") -> None:
    """Sets level and format; may be called again. Where several nodes write to one log, each line has its ``node``."""
    handler = SinkHandler()
    handler.setFormatter(_Json(node) if format == "json" else _Text(node))
    for name, fixed in LOGGERS.items():
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(_LEVELS[level] if fixed is None else fixed)
        logger.propagate = False


def log_loop_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Lets the log tell what went wrong in the loop's callbacks; without their arguments, which can be data."""

    def tell(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # What follows that word is the callback, shown with its arguments.
        what = str(context.get("message")).partition(" callback ")[0]
        _log.error("in the event loop: %s", what, exc_info=context.get("exception"))

    loop.set_exception_handler(tell)
