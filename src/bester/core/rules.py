"""The rules of types, from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bester.protocol.answers import COMMANDS


@dataclass(frozen=True, slots=True)
class Allow:
    """The senders that may send a type (docs/protocol.md, section 10, ``handlers.typeMap.T.allow``)."""

    accounts: bool = True
    servers: bool = True
    roles: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    """Canonical usernames and servers' names."""


@dataclass(frozen=True, slots=True)
class TypeRules:
    """The rules of one type."""

    timeout_s: float = 30.0
    classic_socket: str | None = None
    """The path of the classic handler's socket."""
    classic_concurrency: int = 16
    transient: bool = False
    """Whether messages to recipients that are away are dropped."""
    allow: Allow | None = None
    """None allows all accounts and servers."""
    may: Mapping[str, type] = field(default_factory=lambda: COMMANDS)
    """The commands that its handlers may use, as :func:`bester.protocol.answers.commands_of` takes them."""


@dataclass(frozen=True, slots=True)
class GuardRule:
    """A guard, and the messages that it is asked about (docs/protocol.md, section 3.7)."""

    guard: str
    """The type that it serves."""
    types: frozenset[str] | None = None
    """None: all types but those of guards."""
    senders: frozenset[str] = frozenset()
    """Of ``clients``, ``servers`` and ``strangers``; empty: all senders."""
    timeout_s: float = 5.0
    passes_on_failure: bool = False
    """Whether a message passes if the guard gives no verdict; else it is rejected."""


OTHERS = ""
"""The key of the types that the configuration does not name, where rules are given by type; no type has this name."""
