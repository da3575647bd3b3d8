"""What routes, receipts and metrics cost a message whose sender asked for none of them, in instructions."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench.callgrind import missing
from bench.figures import OURS
from bench.run import Run

WITHOUT = "without"


def watching(run: Run, stack: ExitStack) -> None:
    """One server as it is, and one without (:mod:`bench.bare`), driven by hand with the same messages.

    The second's share of receipts is used up, as it is on a busy server. Each is counted once, for the figures are the
    same every time.
    """
    from tests.bench.instructions import measure

    reason = missing()
    if reason:
        run.figures.notes.append(f"What watching costs is not measured: {reason}.")
        return
    found: dict[str, dict[str, float]] = {}
    for name, bare in ((OURS, False), (WITHOUT, True)):
        run.progress(name)
        found[name] = measure(Path(stack.enter_context(tempfile.TemporaryDirectory())), bare=bare)
    for name, count in found[OURS].items():
        run.figures.add(f"watching: {name}", OURS, "instructions", count)
        run.figures.add(f"watching: {name}", WITHOUT, "instructions", found[WITHOUT][name])
        run.figures.add(f"watching: {name}", OURS, "with / without", count / found[WITHOUT][name])
