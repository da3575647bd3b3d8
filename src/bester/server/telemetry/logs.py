"""The server's own log: one line per event, on standard error, as text or as JSON.

Strangers make up much of what is logged, so each event stays one line: control characters are escaped, and long texts
cut. An event's connection, account and so on stand in fields of their own as well (``extra``): :data:`FIELDS`. Callers
log no payloads and no secrets.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

from bester.logsink import SinkHandler
from bester.printable import one_line

FIELDS = ("connection", "address", "account", "server", "handler", "type", "message_id", "trace")
"""The fields that name an event's connection, account, server, handler, type or message."""
MAX_MESSAGE = 2000
MAX_FIELD = 300
MAX_EXCEPTION = 16_000
"""Characters, before any is escaped; of a longer traceback the end is kept, which says what happened."""

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
root = logging.getLogger("bester")
_log = logging.getLogger("bester.server")
LOGGERS = {"bester": None, "asyncio": logging.WARNING, "aiohttp": logging.WARNING}
"""The loggers whose lines the server writes, with their levels; None: the configured level."""


class _Formatter(logging.Formatter):
    """The part that text and JSON share."""

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
        node = f"{self.node} " if self.node else ""
        line = f"{at}.{int(record.msecs):03d}Z {node}{record.levelname:<7} {record.name}: {message}"
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
    """Sets level and format, at the start and at a reload; ``node`` is for nodes that write to one log."""
    handler = SinkHandler()
    handler.setFormatter(_Json(node) if format == "json" else _Text(node))
    for name, fixed in LOGGERS.items():
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(_LEVELS[level] if fixed is None else fixed)
        logger.propagate = False


def log_loop_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Logs errors in the loop's callbacks, without their arguments, which can be data."""

    def log_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # What follows that word is the callback with its arguments.
        what = str(context.get("message")).partition(" callback ")[0]
        _log.error("in the event loop: %s", what, exc_info=context.get("exception"))

    loop.set_exception_handler(log_error)
