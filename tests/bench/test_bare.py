"""The server without what nobody asked for, beside which the real one is measured, can be made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.bare import PIECES, stripped
from tests.pure import needs_pure

ROOT = Path(__file__).parents[2]


def test_its_pieces_are_found() -> None:
    texts = stripped()
    for path, text in texts.items():
        compile(text, str(path), "exec")
    assert len(PIECES) > len(texts) > 1


@needs_pure("source is replaced as it is loaded")
def test_it_serves() -> None:
    command = (sys.executable, "-m", "bench.bare", "tests.bench.instructions", "drive")
    # A line is read for each step; without any more, all is done at once.
    done = subprocess.run(command, cwd=ROOT, input="", stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "{}"
