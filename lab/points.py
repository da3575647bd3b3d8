"""The named points at which a server can be told to die (``bester.server.faultpoints``)."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import bester


@cache
def points() -> tuple[str, ...]:
    """Returns them all, as they stand in the source, so that a new one is tried without being named here."""
    found: set[str] = set()
    for file in Path(bester.__file__).parent.rglob("*.py"):
        found.update(re.findall(r'\bhit\("([\w.]+)"\)', file.read_text(encoding="utf-8")))
    return tuple(sorted(found))
