"""What ``import bester`` gives."""

from __future__ import annotations

import subprocess
import sys

import pytest

import bester


def test_every_name_is_there() -> None:
    for name in bester.__all__:
        assert getattr(bester, name) is not None
        assert name in dir(bester)
    assert set(bester._HOMES) | {"__version__"} == set(bester.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = bester.nothing


def test_the_import_is_light() -> None:
    program = (
        "import bester, sys; print(sorted(m for m in ('asyncio', 'msgspec', 'uvloop', 'ssl') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=False)
    if "No module named 'bester'" in done.stderr:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
