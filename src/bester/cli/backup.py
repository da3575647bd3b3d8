"""``bester backup``: a copy of the database, made while the server runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from bester.cli.output import BAD, USAGE, fail, say, say_json, warn
from bester.cli.settings import ConfigOption, JsonOption, load_config


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write the copy to.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Copy the database, whether the server runs or not. The copy is checked, and only its owner can read it.

    To restore it: stop the server; remove storage.path and the files of the same name with -wal and -shm appended; copy
    FILE to storage.path; start the server, which checks the copy once more.
    """
    from bester.config.nodes import has_private_nats, nodes_folder
    from bester.errors import BadConfiguration
    from bester.store.backup import back_up

    settings = load_config(config)
    if settings.cluster is not None:
        fail(
            "a cluster's accounts and messages are in NATS, which has its own tools for that: nats account backup "
            "FOLDER, or nats stream backup for each stream whose name begins with BESTER_",
            USAGE,
        )
    if has_private_nats(settings):
        fail(
            f"the accounts and messages of besterd --nodes are in {nodes_folder(settings)}: stop the server, and copy "
            "that folder; or, while it runs, nats account backup FOLDER with the server and token of its access.json",
            USAGE,
        )
    source = settings.storage.path
    if file.exists() or file.is_symlink():
        if file.is_dir():
            fail(f"{file} is a folder", USAGE)
        if source.exists() and file.exists() and file.samefile(source):
            fail(f"{file} is the database itself", USAGE)
        if not force:
            fail(f"{file} exists already; --force replaces it", USAGE)
    if settings.database.type == "redis":
        warn("warning: the accounts are in Redis, and not in this copy")
    try:
        with _bar() as on_progress:
            result = back_up(source, file, on_progress)
    except BadConfiguration as error:
        fail(error.message, BAD)
    if json:
        say_json({"file": str(file), "bytes": result.bytes, "seconds": round(result.seconds, 3)})
    else:
        say(f"{file}: {result.bytes / 2**20:.1f} MiB, copied from {source} and checked in {result.seconds:.1f} s")


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from bester.cli.screen import Screen

    columns = (TextColumn("copying"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=Screen(stderr=True), transient=True) as progress:
        task = progress.add_task("copying")
        yield lambda done, total: progress.update(task, completed=done, total=total)
