"""``bester handler record``: writes what a type's handlers are asked and answer into a file (docs/replay.md)."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bester.cli.amounts import seconds, size
from bester.cli.output import BAD, GOOD, NO_CONNECTION, USAGE, fail, say, say_json, warn
from bester.cli.settings import ConfigOption, JsonOption, load_config
from bester.clock import wall_time

if TYPE_CHECKING:
    from bester.workbench.recording import Head, RecordingWriter

TypeArgument = Annotated[str, typer.Argument(metavar="TYPE", help="The handlers' type.", show_default=False)]
ForOption = Annotated[str, typer.Option("--for", metavar="TIME", help="How long, such as 90s, 10m, 2h; at most 1d.")]
SampleOption = Annotated[
    float, typer.Option("--sample", metavar="SHARE", help="The share of the requests to record, at most 1.")
]
TwiceOption = Annotated[
    bool,
    typer.Option("--twice", help="Ask handlers again, in a dry run, to learn what they vary themselves."),
]


def record(
    type: TypeArgument,
    for_: ForOption = "10m",
    sample: SampleOption = 1.0,
    redact: Annotated[
        list[str] | None,
        typer.Option(
            "--redact",
            metavar="PATH",
            help="Replace these values before they are written: JSONPath, such as $..email; may be repeated.",
        ),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="End after this many requests.")] = 1_000_000,
    most: Annotated[str, typer.Option("--max", metavar="SIZE", help="The largest size of the file.")] = "100MB",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Default: the type and the time.", show_default=False),
    ] = None,
    twice: TwiceOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Record into a file what a type's handlers are asked and answer.

    The server runs on this machine. The file has the users' data: only you can read it. ^C ends the recording in
    order.

    Exit status: 0 good, 1 refused or the file cannot be written, 2 wrong usage, 3 no connection.
    """
    from bester.cli.control import CommandRefused, ControlError
    from bester.workbench.recording import FORMAT, VERSION, Head, RecordingWriter
    from bester.workbench.redaction import Redaction

    loaded = load_config(config)
    path = output or Path(f"{re.sub(r'[^A-Za-z0-9_-]', '_', type)[:64]}-{time.strftime('%Y%m%d-%H%M%S')}.jsonl")
    duration_s, most_bytes = seconds(for_, "--for"), size(most, "--max")
    try:
        redaction = Redaction(redact or [])
    except ValueError as error:
        fail(str(error), USAGE)
    head = Head(FORMAT, VERSION, loaded.server.name, type, round(wall_time(), 3), sample, list(redaction.paths))
    try:
        writer = RecordingWriter(path, head, redaction, most_bytes)
    except FileExistsError:
        fail(f"{path} exists already: name another file with -o", USAGE)
    except OSError as error:
        fail(f"{path}: {error.strerror or error}", USAGE)
    began = time.monotonic()
    status, lost = GOOD, 0
    with writer:
        try:
            lost = asyncio.run(_record(loaded.control.address, head, writer, duration_s, count, twice=twice))
        except ControlError as error:
            status = BAD if isinstance(error, CommandRefused) else NO_CONNECTION
            if not writer.written:
                path.unlink()
                fail(str(error), status)
            warn(f"bester: {error}")
        except OSError as error:
            warn(f"bester: {path}: {error.strerror or error}")
            status = BAD
    took_s = round(time.monotonic() - began, 1)
    lost += writer.left_out
    if json:
        say_json({"file": str(path), "recorded": writer.written, "lost": lost, "seconds": took_s})
    else:
        say(f"{path}: {writer.written} requests, {lost} lost, in {took_s:g} s")
    raise typer.Exit(status)


async def _record(
    control: Path, head: Head, writer: RecordingWriter, duration_s: float, count: int, *, twice: bool
) -> int:
    """Writes the recording; returns how many requests the server could not tell."""
    from bester.cli.recording import LiveRecording

    live = await LiveRecording.begin(control, head.type, duration_s, head.sample, twice=twice)
    warn(f"recording {head.type} into {writer.path}; ^C ends it")
    full = False
    try:
        async for one in live:
            if full or writer.written >= count:
                continue
            if not writer.add(one):
                full = True
                warn(f"bester: {writer.path} has reached its largest size (--max)")
            if full or writer.written >= count:
                live.cancel()
    finally:
        await live.close()
    return int(live.report.get("lost", 0))
