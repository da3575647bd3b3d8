"""How many file descriptors this process may have: every connection is one."""

from __future__ import annotations

import contextlib
import resource

PLENTY = 1 << 20
"""What counts as no limit."""


def most_descriptors() -> int:
    """Returns the present limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return PLENTY if soft == resource.RLIM_INFINITY else min(soft, PLENTY)


def raise_limit() -> None:
    """Raises the limit as far as the system lets us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = PLENTY if hard == resource.RLIM_INFINITY else min(hard, PLENTY)
    if most_descriptors() < wanted:
        with contextlib.suppress(OSError, ValueError):  # some systems have a lower one that they do not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
