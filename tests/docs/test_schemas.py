"""docs/schemas.md can be followed: its files are written, its commands typed, and what it shows comes."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from itertools import pairwise
from typing import Any

DOCUMENT = "docs/schemas.md"


def test_it_can_be_followed(reader: Any, parts_of: Callable[[str], list[Any]]) -> None:
    for mark, part in pairwise(parts_of(DOCUMENT)):
        if mark.mark is None or part.language == "":
            continue
        if part.language == "console" and mark.mark.startswith("run, wh") and "sed" not in part.text:
            expected = part.text.partition("\n")[2]
            command = part.text.partition("\n")[0].removeprefix("$ ")
            shown = re.sub(r" +\n", "\n", typed(reader, command))
            assert shown == expected.replace("/srv/j/", f"{reader.folder}/"), command
        else:
            reader.step(mark.mark, reader.local(part.text), part.line)
    assert reader.programs.keys() == {"j", "orders", "next"}


def typed(reader: Any, command: str) -> str:
    """Returns what a command prints, whether it fails or not."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=reader.folder, env=reader.environment, capture_output=True, timeout=60, check=False
    )
    return done.stdout.decode()
