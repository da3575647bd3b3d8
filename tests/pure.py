"""Marks tests that compiled modules cannot pass."""

from __future__ import annotations

import pytest

from bester.compiled import build


def needs_pure(reason: str) -> pytest.MarkDecorator:
    """Skips a test where Bester is compiled.

    Args:
        reason: what the test does that only Python allows.
    """
    return pytest.mark.skipif(build() != "pure", reason=f"Bester is compiled: {reason}")
