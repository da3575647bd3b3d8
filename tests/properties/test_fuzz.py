"""The fuzzers run, and find nothing in a moment; for longer: ``python -m fuzz.fuzz_protocol --seconds 600``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("fuzzer", ["fuzz_protocol", "fuzz_sockets"])
def test_nothing_is_found_in_a_moment(fuzzer: str) -> None:
    command = [sys.executable, "-m", f"fuzz.{fuzzer}", "--seconds", "1.5", "--seed", "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
