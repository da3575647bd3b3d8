"""Takes as much as one call to the store is good for from what has gathered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

MAX_BATCH = 1024
MAX_BATCH_BYTES = 8 * 1024 * 1024
"""Messages, and bytes of their data, that are written with one call."""


def take_batch(waiting: list[T], size_of: Callable[[T], int]) -> list[T]:
    """Removes the first entries from a list, and returns them: one, or as many as are within the bounds."""
    count = size = 0
    for entry in waiting[:MAX_BATCH]:
        size += size_of(entry)
        if count and size > MAX_BATCH_BYTES:
            break
        count += 1
    batch = waiting[:count]
    del waiting[:count]
    return batch
