"""``bester handler shadow``: asks a changed handler what the running server's handlers are asked, as it happens."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bester.cli.amounts import seconds
from bester.cli.handler_check import find_target
from bester.cli.handler_record import ForOption, SampleOption, TwiceOption, TypeArgument
from bester.cli.handler_replay import AttachedOption, ReallyOption, StartOption, TimeoutOption
from bester.cli.output import BAD, GOOD, NO_CONNECTION, USAGE, fail, say, say_json, warn
from bester.cli.settings import ConfigOption, JsonOption, load_config

if TYPE_CHECKING:
    from bester.cli.recording import LiveRecording
    from bester.workbench.candidate import Candidate
    from bester.workbench.differences import Comparison
    from bester.workbench.recording import Entry

MAX_WAITING = 256
"""How many requests wait for the candidate at most; what comes beyond is left out."""


def shadow(
    type: TypeArgument,
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="COMMAND|SOCKET",
            help="The command that starts the changed handler, or the socket of a classic one.",
            show_default=False,
        ),
    ],
    for_: ForOption = "10m",
    sample: SampleOption = 1.0,
    twice: TwiceOption = False,
    attached: AttachedOption = None,
    timeout: TimeoutOption = 5.0,
    start: StartOption = 10.0,
    really: ReallyOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Ask a changed handler what the others are asked, live.

    The changed handler runs here, beside the server, which does not know it. It is asked in dry runs, and nobody gets
    its answers; this command shows where they differ. ^C ends it with a summary.

    Exit status: 0 if nothing differs, 1 if something does or the server refuses, 2 if it could not be seen,
    3 no connection.
    """
    from bester.cli.control import CommandRefused, ControlError
    from bester.workbench.candidate import Candidate, Unfit
    from bester.workbench.contract import Form
    from bester.workbench.replay_report import as_json, lines, summary

    loaded = load_config(config)
    duration_s = seconds(for_, "--for")
    form = None if attached is None else Form.ATTACHED if attached else Form.CLASSIC
    target = find_target(command)
    status = None
    run = _Shadow(Candidate(target, form, type, timeout, start, really=really), json=json)
    try:
        asyncio.run(run.run(loaded.control.address, duration_s, sample, twice=twice))
    except Unfit as error:
        fail(str(error), USAGE)
    except ControlError as error:
        status = BAD if isinstance(error, CommandRefused) else NO_CONNECTION
        if not run.comparison.asked:
            fail(str(error), status)
        warn(f"bester: {error}")
    comparison = run.comparison
    if json:
        say_json({"handler": target.name, **as_json(comparison), "lost": run.lost, "warnings": run.warnings})
    else:
        for line in lines(comparison, "request"):
            say(line)
        for line in run.warnings:
            warn(f"warning: {line}")
        say(summary(comparison) + (f"; {run.lost} were left out" if run.lost else ""))
    if status is None:
        status = BAD if comparison.different else USAGE if run.stopped else GOOD
    raise typer.Exit(status)


class _Shadow:
    """A shadow that runs."""

    def __init__(self, candidate: Candidate, *, json: bool) -> None:
        from bester.workbench.differences import Comparison

        self.comparison: Comparison = Comparison()
        self.warnings: list[str] = []
        self.lost = 0
        self.stopped = False
        """Whether the candidate ended first."""
        self._candidate = candidate
        self._json = json
        self._waiting: asyncio.Queue[Entry | None] = asyncio.Queue(MAX_WAITING)

    async def run(self, control: Path, duration_s: float, sample: float, *, twice: bool) -> None:
        """Compares until the recording ends.

        Raises:
            Unfit: the candidate cannot be asked.
            ControlError: the server does not record, or the connection was lost.
        """
        from bester.cli.recording import LiveRecording

        try:
            await self._candidate.open()
            live = await LiveRecording.begin(control, self._candidate.type, duration_s, sample, twice=twice)
            name, type = self._candidate.target.name, self._candidate.type
            warn(f"asking {name} what handlers of {type} are asked; ^C ends it")
            asking = asyncio.create_task(self._ask(live))
            try:
                await self._take(live)
                await self._waiting.put(None)
                await asking
            finally:
                asking.cancel()
                await live.close()
            self.lost += int(live.report.get("lost", 0))
            self.warnings += self._candidate.did()
        finally:
            await self._candidate.close()

    async def _take(self, live: LiveRecording) -> None:
        from bester.workbench.recording import decode_entry

        async for record in live:
            try:
                self._waiting.put_nowait(decode_entry(bytes(record)))
            except (asyncio.QueueFull, ValueError):  # or a number that Python cannot hold
                self.lost += 1

    async def _ask(self, live: LiveRecording) -> None:
        while (entry := await self._waiting.get()) is not None:
            if self.stopped:
                self.lost += 1
                continue
            if entry.again is not None:
                self.comparison.varied.learn(entry.outcome, entry.again)
            outcome = await self._candidate.ask(entry.request)
            self._compare(entry, outcome)
            if ended := self._candidate.how_it_ended():
                self.stopped = True
                self.warnings.append(f"the changed handler is gone: {ended}")
                live.cancel()

    def _compare(self, entry: Entry, outcome: dict[str, object]) -> None:
        from bester.workbench.replay_report import difference

        number = self.comparison.asked + 1
        found = self.comparison.add(number, entry.outcome, entry.again, outcome)
        if not found:
            return
        if self._json:
            sender = entry.request.sender
            say_json(
                {"at": entry.at, "id": entry.request.id, "from": sender, "differences": list(map(difference, found))}
            )
            return
        who = entry.request.sender.get("user") or entry.request.sender.get("server") or "an unproven server"
        for one in found:
            say(f"request {number} of {who}: {one}")
