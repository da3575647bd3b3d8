"""What the gadgets' tests have in common with all tests of the repository."""

from __future__ import annotations

from tests.conftest import _little_work, pytest_runtest_makereport, pytest_unconfigure
from tests.docs.conftest import parts_of, reader, root, table_of
from tests.system.conftest import commands, folder

__all__ = [
    "_little_work",
    "commands",
    "folder",
    "parts_of",
    "pytest_runtest_makereport",
    "pytest_unconfigure",
    "reader",
    "root",
    "table_of",
]
