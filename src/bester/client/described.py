"""What handlers say of their types (docs/schemas.md), as a client sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

_PAGE: Final = 100
"""The most types of one answer of the server."""


class TypeDescription(Struct, frozen=True, kw_only=True):
    """What the handler of a type says of it; None for what it does not say."""

    type: str
    description: str | None = None
    version: str | None = None
    request: dict[str, Any] | bool | None = None
    """The JSON Schema of the data."""
    answer: dict[str, Any] | bool | None = None
    """The JSON Schema of a reply."""
    parts: dict[str, Any] | bool | None = None
    """The JSON Schema of each part of an answer."""
    samples: list[Any] = []
    """Examples of the data."""
    validates: bool | None = None
    """Whether the server refuses data that does not fit; None: its configuration does not ask for that."""


async def described_types(builtin: Callable[..., Awaitable[Any]], type: str | None) -> list[TypeDescription]:
    """Asks the server, in as many pages as it takes.

    Args:
        builtin: runs a built-in command.
        type: the only type that is asked for; None: all.
    """
    if type is not None:
        return msgspec.convert(await builtin("describe", type=type), list[TypeDescription])
    found: list[TypeDescription] = []
    while True:
        rows = await builtin("describe", after=found[-1].type if found else "", limit=_PAGE)
        found += msgspec.convert(rows, list[TypeDescription])
        if len(rows) < _PAGE:
            return found
