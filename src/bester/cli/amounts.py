"""Amounts with their units, as options take them."""

from __future__ import annotations

import re

from bester.cli.output import USAGE, fail

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)([A-Za-z]*)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def seconds(text: str, option: str) -> float:
    """Returns a time such as ``90s``, ``10m``, ``2h`` or ``3d``; ends the command if it is none."""
    match = _AMOUNT.fullmatch(text)
    if match is None or match[2] not in _SECONDS:
        fail(f"{option} needs a number with s, m, h or d; got {text}", USAGE)
    return float(match[1]) * _SECONDS[match[2]]


def size(text: str, option: str) -> int:
    """Returns a size such as ``100MB`` or ``64KiB`` in bytes; ends the command if it is none."""
    match = _AMOUNT.fullmatch(text)
    if match is None or match[2] not in _BYTES:
        fail(f"{option} needs a number with KB, MB, GB, KiB, MiB or GiB; got {text}", USAGE)
    return int(float(match[1]) * _BYTES[match[2]])
