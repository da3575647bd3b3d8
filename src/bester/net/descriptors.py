"""The limit on this process's file descriptors; every connection needs one."""

from __future__ import annotations

import contextlib
import resource

UNLIMITED = 1 << 20
"""The number that stands for no limit."""


def descriptor_limit() -> int:
    """Returns the current limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return UNLIMITED if soft == resource.RLIM_INFINITY else min(soft, UNLIMITED)


def raise_limit() -> None:
    """Raises the limit as far as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = UNLIMITED if hard == resource.RLIM_INFINITY else min(hard, UNLIMITED)
    if descriptor_limit() < wanted:
        with contextlib.suppress(OSError, ValueError):  # some systems have a lower limit that they do not report
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
