"""The forms of a handler, the options of its checks, and the exceptions with which they fail."""

from __future__ import annotations

import enum
from dataclasses import dataclass

MAX_MESSAGE = 1024 * 1024
"""The largest message from a client, in bytes: the default of ``limits.maxMessage``."""
MAX_FRAME = MAX_MESSAGE + 64 * 1024
"""The largest body of a frame to or from a handler (docs/protocol.md, section 1.1)."""

USER, TOKEN = "check", "the-token-of-the-check"
"""The account with which a handler proves itself that attaches over TLS."""
SAMPLE = b'{"to":"t","text":"Hello"}'
"""The data of a request to a handler of which no sample is known."""


class Form(enum.StrEnum):
    """The way in which a handler is connected to its server."""

    CLASSIC = "classic"
    ATTACHED = "attached"
    STDIO = "stdio"


class Failed(Exception):
    """An error for a handler that does not do what the contract says; the text says what it did."""


class Gone(Failed):
    """An error for a handler whose connection has ended, and perhaps its process too."""


class Late(Failed):
    """An error for a handler that does not answer in time."""


class Skipped(Exception):
    """An exception for a check that has nothing to judge; the text says why."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the checks."""

    type: str = "check"
    """The value of ``BESTER_TYPE``; also the type of requests, unless the handler serves only other types."""
    sample: bytes | None = None
    """Data that the handler must accept, that is, answer with status ``"0"``, as JSON; None if there is none."""
    echo: bool = False
    """Whether the handler returns the data unchanged, so that they can be compared."""
    timeout_s: float = 5.0
    """The time limit for an answer, and for everything else that the handler does at once."""
    tls: bool = False
    """Whether a handler attaches over TLS, as from another machine."""
    reattach_s: float = 10.0
    """The time limit for a handler to start, or to attach again after its connection was lost."""
