"""Runs the checks on one handler.

The checks run in order and share one process. After a failure the next check gets a new process, so that one fault is
not reported again and again. If no process can be started, or if a check fails in the same way as one of the first
checks, the handler's answers cannot be judged, and the other checks are skipped.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bester.timeouts import within
from bester.workbench.attached import AttachedBench
from bester.workbench.attached_checks import ATTACHED
from bester.workbench.bench import Bench
from bester.workbench.check import Check, Outcome, Result
from bester.workbench.classic import ClassicBench, is_socket
from bester.workbench.classic_checks import CLASSIC
from bester.workbench.contract import Failed, Form, Gone, Options, Skipped
from bester.workbench.process import Process
from bester.workbench.stdio import StdioBench
from bester.workbench.stdio_checks import STDIO

CHECKS = {Form.ATTACHED: ATTACHED, Form.CLASSIC: CLASSIC, Form.STDIO: STDIO}
_POLL_S = 0.02
_FIRST = frozenset({"attach", "listen", "answer"})
"""The checks that all others build on."""
_VARYING = re.compile(r"'[^']*'|\d+")
"""The parts that differ in the texts of one fault."""
_LONGEST_TIMEOUTS = 12
"""The time limit of a check, as a multiple of the time limit for an answer."""


@dataclass(frozen=True, slots=True)
class Target:
    """The handler under test."""

    command: tuple[str, ...] = ()
    socket: Path | None = None
    """The socket on which a classic handler listens already; there is then no command."""

    @property
    def name(self) -> str:
        return " ".join(self.command) if self.socket is None else str(self.socket)


async def detect(target: Target, options: Options) -> Form:
    """Starts the handler once, and detects whether it attaches or listens.

    Raises:
        Failed: the handler does neither.
        OSError: there is no such program.
    """
    if target.socket is not None:
        return Form.CLASSIC
    with tempfile.TemporaryDirectory(prefix="bester-") as name:
        attached = AttachedBench(target.command, Path(name), options)
        await attached.listen()
        try:
            return await _first_sign(attached, Path(name) / "socket")
        finally:
            await attached.close()


async def _first_sign(attached: AttachedBench, path: Path) -> Form:
    options = attached.options
    environment = {
        "BESTER_HANDLERS": attached.address,
        "BESTER_SOCKET": str(path),
        "BESTER_TYPE": options.type,
    }
    process = attached.process = await Process.start(attached.command, environment)
    deadline = time.monotonic() + options.reattach_s
    over = False
    while not over:
        over = process.ended.done() or time.monotonic() >= deadline
        if is_socket(path):
            return Form.CLASSIC
        if attached.connected:
            return Form.ATTACHED
        await asyncio.sleep(_POLL_S)
    failure = Gone(f"the handler neither attached nor listened on BESTER_SOCKET within {options.reattach_s:g} s")
    told = await attached.explained(failure)
    raise Failed("".join((told, *(f"\n{line}" for line in process.output()))))


async def run(
    target: Target, form: Form, options: Options, checks: Sequence[Check], told: Callable[[Result], None]
) -> list[Result]:
    """Runs the checks, and passes each result to ``told`` as it becomes known.

    Raises:
        OSError: there is no such program.
    """
    run = _Run(target, form, options)
    results = []
    try:
        for check in checks:
            result = await run.make(check)
            results.append(result)
            told(result)
    finally:
        await run.close()
    return results


class _Run:
    """One run over all checks."""

    def __init__(self, target: Target, form: Form, options: Options) -> None:
        self._target = target
        self._form = form
        self._options = options
        self._bench: Bench | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._started = False
        """Whether the handler has ever accepted requests."""
        self._hopeless = ""
        """Why nothing more can be judged."""
        self._first = ("", "")
        """The first failure among the checks that all others build on: the check's id, and the text."""

    async def make(self, check: Check) -> Result:
        """Runs one check."""
        began = time.monotonic()

        def result(outcome: Outcome, detail: str = "", bench: Bench | None = None) -> Result:
            seconds = time.monotonic() - began
            if bench is None:
                return Result(check, outcome, seconds, detail)
            output = bench.process.output() if bench.process is not None else []
            return Result(check, outcome, seconds, detail, bench.transcript.lines(), output)

        if check.echo and not self._options.echo:
            return result(Outcome.SKIP, "run only with --echo, for handlers that return their data")
        if self._hopeless:
            return replace(result(Outcome.SKIP, self._hopeless), judged=False)
        bench = self._bench
        limit_s = _LONGEST_TIMEOUTS * self._options.timeout_s + self._options.reattach_s
        try:
            if bench is None:
                bench = self._bench = self._make_bench()
                await self._open(bench)
            bench.transcript.clear()
            bench.note = ""
            async with within(limit_s):
                await check.run(bench)
            bench.settle()
        except Skipped as reason:
            return result(Outcome.SKIP, str(reason))
        except (Failed, TimeoutError) as failure:
            assert bench is not None
            detail = await bench.explained(failure) or f"it took longer than {limit_s:g} s"
            failed = result(Outcome.FAIL, detail, bench)
            await self.close()
            return self._weighed(failed)
        note = bench.note
        if bench.stopping:
            await self.close()
        return result(Outcome.OK, note)

    def _weighed(self, failed: Result) -> Result:
        """Returns a failure, or a skip if the first failure has the same cause."""
        how = _VARYING.sub("#", failed.detail)
        first, told = self._first
        if first and how == told:
            self._hopeless = f"cannot be judged before {first} passes"
            return Result(failed.check, Outcome.SKIP, failed.seconds, self._hopeless, judged=False)
        if not first and failed.check.id in _FIRST:
            self._first = (failed.check.id, how)
        return failed

    def _make_bench(self) -> Bench:
        self._folder = tempfile.TemporaryDirectory(prefix="bester-")  # a short name, because a socket is in it
        folder = Path(self._folder.name)
        if self._form is Form.ATTACHED:
            return AttachedBench(self._target.command, folder, self._options)
        if self._form is Form.STDIO:
            return StdioBench(self._target.command, folder, self._options)
        return ClassicBench(self._target.command, folder, self._options, self._target.socket)

    async def _open(self, bench: Bench) -> None:
        try:
            await bench.open()
            self._started = True
        except Failed:
            if self._started:
                self._hopeless = "cannot be judged: the handler could not be started again"
            else:
                self._hopeless = "cannot be judged before the handler can be started and asked"
            raise

    async def close(self) -> None:
        """Ends the handler."""
        bench, self._bench = self._bench, None
        if bench is not None:
            await bench.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
