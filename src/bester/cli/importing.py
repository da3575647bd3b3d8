"""``bester import``: moves a SQLite server's data into a cluster."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from bester.cli.output import BAD, USAGE, fail, say, say_json, warn
from bester.cli.settings import ConfigOption, JsonOption, load_config

_WORDS = {
    "account": "accounts",
    "letter": "letters",
    "outgoing": "for other servers",
    "trust": "trusted",
    "held": "held",
    "once": "once",
}


def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FROM.db", help="The storage.path of a stopped server.", show_default=False)
    ],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Move a SQLite server's data into a cluster.

    FROM.db is only read, and must not be in use. The cluster's nodes may be running. If the command is interrupted, run
    it again: it continues, and duplicates nothing. Receipts are not moved.
    """
    from bester.errors import BadConfiguration, BesterError
    from bester.server.importing import run_import

    settings = load_config(config)
    if settings.cluster is None:
        fail(
            'the configuration has no cluster: name the NATS server, as in {"cluster": {"nats": ["nats://..."]}}', USAGE
        )
    try:
        with _bars() as on_progress:
            result = asyncio.run(run_import(settings, file, on_progress))
    except BadConfiguration as error:
        fail(error.message, BAD)
    except BesterError as error:
        fail(f"interrupted: {error.message} ({error.code}); run the command again to continue", BAD)
    except KeyboardInterrupt:
        fail("interrupted; run the command again to continue", BAD)
    if result.others:
        more = ", ..." if result.others > len(result.names) else ""
        warn(
            f"{result.others} accounts were not moved, because the cluster has other accounts of these names: "
            + ", ".join(result.names)
            + more
        )
    if json:
        say_json(dataclasses.asdict(result))
    else:
        say(f"moved: {result}")


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    if not sys.stderr.isatty():
        yield lambda table, done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from bester.cli.screen import Screen

    columns = (TextColumn("{task.description:<17}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Screen(stderr=True), transient=True) as progress:
        tasks = {table: progress.add_task(word, total=None) for table, word in _WORDS.items()}
        yield lambda table, done, total: progress.update(tasks[table], completed=done, total=total)
