"""Loaded first by a server that is to lose something: every connection of it leaves the log unsynced at a commit."""

from __future__ import annotations

import sqlite3
from typing import Any

_connect = sqlite3.connect


class _Careless(sqlite3.Connection):
    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        return super().execute(sql.replace("synchronous = FULL", "synchronous = NORMAL"), *parameters)


def _careless(*arguments: Any, **options: Any) -> sqlite3.Connection:
    found: sqlite3.Connection = _connect(*arguments, **({"factory": _Careless} | options))
    return found


sqlite3.connect = _careless  # type: ignore[assignment]
