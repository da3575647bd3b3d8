"""``bester handler replay``: asks a changed handler what was recorded, and shows what it answers differently."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bester.cli.handler_check import find_target
from bester.cli.output import BAD, GOOD, USAGE, fail, say, say_json, warn
from bester.cli.settings import JsonOption

if TYPE_CHECKING:
    from bester.workbench.candidate import Candidate
    from bester.workbench.recording import Recording
    from bester.workbench.replay import Replay

AttachedOption = Annotated[
    bool | None,
    typer.Option("--attached/--classic", help="The handler's form. Default: detect it.", show_default=False),
]
TimeoutOption = Annotated[float, typer.Option("--timeout", help="Seconds for an answer.", min=0.05)]
StartOption = Annotated[float, typer.Option("--start", help="Seconds for the handler to start.", min=0.05)]
ReallyOption = Annotated[
    bool, typer.Option("--really", help="Ask a handler that takes part in no dry runs: it does its work once more.")
]


def replay(
    file: Annotated[
        Path, typer.Argument(metavar="RECORDING", help="A file of bester handler record.", show_default=False)
    ],
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="COMMAND|SOCKET",
            help="The command that starts the changed handler, or the socket of a classic one.",
            show_default=False,
        ),
    ],
    attached: AttachedOption = None,
    at_once: Annotated[int, typer.Option("--at-once", min=1, max=128, help="The most requests at the same time.")] = 8,
    timeout: TimeoutOption = 5.0,
    start: StartOption = 10.0,
    really: ReallyOption = False,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Also write the differences as JUnit XML.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Ask a changed handler what was recorded, and show what differs.

    This command plays the server, as bester handler check does, and asks in dry runs. It compares commands and their
    data, refusals and failures; values that the recorded handler varied itself do not count.

    Exit status: 0 if nothing differs, 1 if something does, 2 if it could not be seen.
    """
    from bester.workbench.candidate import Candidate, Unfit
    from bester.workbench.contract import Form
    from bester.workbench.recording import BadRecording, Recording
    from bester.workbench.replay_report import as_json, as_junit, lines, summary

    target = find_target(command)
    form = None if attached is None else Form.ATTACHED if attached else Form.CLASSIC
    try:
        recording = Recording(file)
        candidate = Candidate(target, form, recording.head.type, timeout, start, really=really)
        done = asyncio.run(_replay(recording, candidate, at_once))
    except (BadRecording, Unfit) as error:
        fail(str(error), USAGE)
    except OSError as error:
        fail(f"{file}: {error.strerror or error}", USAGE)
    comparison = done.comparison
    if not comparison.asked and not done.stopped:
        fail(f"{file}: there is no request in this recording", USAGE)
    if junit is not None:
        try:
            junit.write_bytes(as_junit(target.name, comparison))
        except OSError as error:
            fail(f"{junit}: {error.strerror or error}", USAGE)
    if json:
        stopped = {"stopped": done.stopped} if done.stopped else {}
        told = {"handler": target.name, "recording": str(file), **as_json(comparison), "warnings": done.warnings}
        say_json(told | stopped)
    else:
        for line in lines(comparison):
            say(line)
        for line in done.warnings:
            warn(f"warning: {line}")
        if done.stopped:
            warn(f"bester: the replay ended {done.stopped}")
        say(summary(comparison))
    raise typer.Exit(BAD if comparison.different else USAGE if done.stopped else GOOD)


async def _replay(recording: Recording, candidate: Candidate, at_once: int) -> Replay:
    from bester.workbench.replay import Replay

    done = Replay(recording, candidate, at_once)
    try:
        await candidate.open()
        await done.run()
    finally:
        await candidate.close()
    return done
