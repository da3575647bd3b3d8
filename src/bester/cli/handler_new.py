"""``bester handler new``: creates a folder with a handler to start from."""

from __future__ import annotations

import enum
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from bester.cli.output import USAGE, fail, say, say_json, warn
from bester.cli.settings import JsonOption


class Lang(enum.StrEnum):
    """The languages of the skeletons."""

    PYTHON = "python"
    NODE = "node"
    C = "c"
    GO = "go"
    RUST = "rust"
    JAVA = "java"
    PERL = "perl"
    BASH = "bash"
    SH = "sh"
    TCL = "tcl"


def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The handler's type, and its folder.", show_default=False)
    ],
    lang: Annotated[Lang, typer.Option("--lang", help="The language.")] = Lang.PYTHON,
    folder: Annotated[
        Path | None, typer.Option("--folder", metavar="DIR", help="A folder other than NAME.", show_default=False)
    ] = None,
    json: JsonOption = False,
) -> None:
    """Create a folder with a handler to start from. It answers each message, and has tests.

    Only the handler in Python needs this project's library; the others need only their language (and bash socat).
    """
    from bester.workbench.skeletons import LANGUAGES, PORT, is_good_name, write

    if not is_good_name(name):
        fail(
            f"not a name for a handler: {name!r}; allowed are up to 64 letters, digits, dots, underscores and hyphens",
            USAGE,
        )
    language = LANGUAGES[lang]
    path = folder or Path(name)
    try:
        write(lang, name, path)
    except OSError as error:
        fail(f"{error.filename or path}: {(error.strerror or str(error)).lower()}")
    run, test = _on_this_python(language.run), _on_this_python(language.test)
    how = ("--stdio " if language.form == "stdio" else "") + ("--echo " if language.echoes else "")
    url = f"bester://t@127.0.0.1:{PORT}"
    steps = [
        (f"cd {shlex.quote(str(path))}", ""),
        (language.build, "builds it"),
        (test, "its own tests"),
        (
            f"bester handler check {how}{shlex.quote(run)}",
            "the tests that every handler must pass",
        ),
        ("besterd server.conf", "a server, in a second terminal"),
        (run if language.form == "attached" else "", "the handler, in a third terminal"),
        (f"BESTER_PASSWORD=secret bester ask {url} {name} {shlex.quote(language.asks)}", ""),
    ]
    steps = [(command, what) for command, what in steps if command]
    missing = [program for program in language.needs if shutil.which(program) is None]
    if json:
        next = [command for command, _ in steps]
        say_json({"folder": str(path), "type": name, "form": language.form, "next": next, "missing": missing})
        return
    for program in missing:
        warn(f"warning: {program} is not installed, and the handler needs it")
    say(f"{path} is ready: a handler of the type {name}, in {lang}. Next:")
    width = max(len(command) for command, what in steps if what)
    for command, what in steps:
        say(f"  {command:{width}}  # {what}" if what else f"  {command}")


def _on_this_python(command: str) -> str:
    """Replaces ``python3`` in a command by the interpreter that has the library, if they differ."""
    found = shutil.which("python3")
    if not command.startswith("python3 ") or (
        found is not None and os.path.dirname(found) == os.path.dirname(sys.executable)
    ):
        return command
    return shlex.quote(sys.executable) + command.removeprefix("python3")
