"""Real processes: a broker, a server, and the gadget between them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.conftest import Commands


@pytest.fixture
def commands() -> Iterator[Commands]:
    """The installed commands in a folder whose path is short; what runs is ended after the test."""
    folder = Path(tempfile.mkdtemp(prefix="bester-"))
    made = Commands(folder)
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(folder)
