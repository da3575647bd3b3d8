"""The tests that need a NATS server, with the simulated one in place of the real one (``simulated_nats.py``).

Left out are those of NKeys, permissions and TLS, which it does not have.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.lab.simulated_nats import SIMULATED

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "files",
    [
        ["bus/test_connection.py", "bus/test_refusal.py", "store/test_messages.py"],
        ["cluster/test_partition.py", "cluster/test_once.py"],
    ],
    ids=lambda files: files[0].partition("/")[2],
)
def test_they_pass(files: list[str]) -> None:
    paths = [f"tests/{one}" for one in files]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.lab.simulated_nats", "-p", "no:xdist", *paths]
    ran = subprocess.run([*command, "-k", "not sqlite and not redis"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert int(ran.stdout.partition(SIMULATED)[2].split()[0]) > 0
