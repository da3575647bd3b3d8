"""Costs: the processor time that a server spends on what it reads, decides and writes.

``python -m lab.scale.measure`` finds what real servers spend, which these are fitted to; docs/scale-model.md says how.
"""

from __future__ import annotations

from typing import NamedTuple

US = 1e-6


class Costs(NamedTuple):
    """Seconds of one processor, of a server in pure Python."""

    turn: float = 12.0 * US
    """A turn of the loop: waiting for events, and its end."""
    read: float = 4.0 * US
    """A read of one socket."""
    write: float = 4.3 * US
    """A write to one socket."""
    message: float = 2.35 * US
    """A client's message, up to the request to its handler."""
    answer: float = 2.85 * US
    """A handler's answer, up to the report."""
    delivery: float = 0.7 * US
    """A recipient of ``sendClients``, without the write."""
    forward: float = 12.5 * US
    """A recipient of ``sendServers``, up to the frame on the link, without the write."""
    report: float = 8.5 * US
    """A report that comes on a link, up to the recipient's result."""
    linked: float = 20.0 * US
    """A message that comes on a link, up to the request to its handler, and its report."""
    byte: float = 0.0012 * US
    """A byte that is read or written."""
    dial: float = 150.0 * US
    """A link that is opened, at either end."""
    store: float = 30.0 * US
    """A message for another server that is put on disk, and one that is read from there again."""


HANDLER_S = 3.4 * US
"""What a handler of the Python library takes for a request, on a processor of its own."""
COMMIT_S = 0.002
"""How long a commit of the store takes, on a thread of its own."""
