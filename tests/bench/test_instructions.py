"""What a message costs the server in the processor's instructions, those inside C functions too; no clock is read.

They are counted by callgrind, which comes with valgrind, in a process of its own (see ``instructions.py``). The figures
are recorded in ``instructions.json`` by the interpreter's build and by whether Bester is compiled, for each has its
own; ``BESTER_RECORD_COST=1`` records them anew.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from bester.compiled import build as bester_build

RECORDED = Path(__file__).with_name("instructions.json")
TOLERANCE = 1.1
ROOT = Path(__file__).parents[2]


def build() -> str:
    """Names the interpreter, and Bester where it is compiled, by what the count of instructions depends on."""
    optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    parts = [
        platform.python_implementation(),
        platform.python_version(),
        platform.machine(),
        platform.python_compiler(),
        "optimised" if optimised else "plain",
        "" if bester_build() == "pure" else bester_build(),
    ]
    return " ".join(filter(None, parts))


@pytest.fixture(autouse=True)
def _countable() -> None:
    for name in ("valgrind", "vgdb"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
    if sys.gettrace() is not None or sys.getprofile() is not None or "COVERAGE_PROCESS_CONFIG" in os.environ:
        pytest.skip("something else traces the interpreter")
    if build() not in json.loads(RECORDED.read_text()) and not os.environ.get("BESTER_RECORD_COST"):
        pytest.skip(f"no instructions are recorded for {build()}")


@pytest.mark.timeout(400)  # it runs some fifty times slower than elsewhere, and a busy machine doubles that
def test_messages_take_no_more_instructions_than_recorded() -> None:
    command = (sys.executable, "-m", "tests.bench.instructions")
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, int] = json.loads(done.stdout)
    recorded: dict[str, dict[str, int]] = json.loads(RECORDED.read_text())
    if os.environ.get("BESTER_RECORD_COST"):
        recorded[build()] = found
        RECORDED.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
        return
    known = recorded[build()]
    assert found.keys() == known.keys(), "BESTER_RECORD_COST=1 records what is new"
    risen = {name: (count, known[name]) for name, count in found.items() if count > TOLERANCE * known[name]}
    assert not risen, "a message takes more than it did; BESTER_RECORD_COST=1 records it, if it is worth it"
