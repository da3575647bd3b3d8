"""The fuzzer runs, and finds nothing in a moment; for longer: ``python fuzz/fuzz_protocol.py --seconds 600``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_nothing_is_found_in_a_moment() -> None:
    command = [sys.executable, "fuzz/fuzz_protocol.py", "--seconds", "1.5", "--seed", "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
