"""The server's own log: one line per event, on standard error, as text or as JSON."""

from __future__ import annotations

import json
import logging
import sys
import time

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
root = logging.getLogger("bester")


class _Text(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def __init__(self, node: str) -> None:
        who = f"{node} " if node else ""
        format = f"%(asctime)s.%(msecs)03dZ {who}%(levelname)-7s %(name)s: %(message)s"
        super().__init__(format, "%Y-%m-%dT%H:%M:%S")


class _Json(logging.Formatter):
    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = {"node": node} if node else {}

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        } | self._node
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up_log(level: str, format: str, node: str = "") -> None:
    """Sets level and format; may be called again. Where several nodes write to one log, each line has its ``node``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(node) if format == "json" else _Text(node))
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    root.propagate = False
