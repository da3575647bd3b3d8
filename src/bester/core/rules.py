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


OTHERS = ""
"""The key of the types that the configuration does not name, where rules are given by type; no type has this name."""
