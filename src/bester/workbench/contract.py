"""The forms of a handler, what checks are told about it, and how they fail."""

from __future__ import annotations

import enum
from dataclasses import dataclass

MAX_MESSAGE = 1024 * 1024
"""What the servers that are played here take from clients, in bytes: the default of ``limits.maxMessage``."""
MAX_FRAME = MAX_MESSAGE + 64 * 1024
"""The largest body that goes to a handler, or comes from one (docs/protocol.md, section 1.1)."""

SAMPLE = b'{"to":"t","text":"Hello"}'
"""The data that is asked, where no other is given."""


class Form(enum.StrEnum):
    """How a handler is connected to its server."""

    CLASSIC = "classic"
    ATTACHED = "attached"


class Failed(Exception):
    """The handler does not do what the contract says; the text tells what it did."""


class Gone(Failed):
    """The handler's end of the connection is gone, and perhaps its process."""


class Skipped(Exception):
    """There is nothing to judge; the text tells why."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the checks are told about the handler."""

    type: str = "check"
    """What the environment's ``BESTER_TYPE`` says; the type that is asked, where the handler has no others."""
    sample: bytes = SAMPLE
    """Data, as JSON."""
    understood: bool = False
    """Whether the handler must take the sample, that is, answer it with status ``"0"``."""
    echo: bool = False
    """Whether the handler passes the data on as it came, so that what comes back can be compared."""
    timeout_s: float = 5.0
    """For an answer, and for whatever else the handler does at once."""
    reattach_s: float = 10.0
    """For a handler to start, or to come back after its connection was lost."""
