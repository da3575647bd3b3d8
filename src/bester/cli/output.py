"""The output of the commands: results on standard output, everything else on standard error; and the exit statuses.

With ``--json`` a result is one JSON object on one line.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from bester.printable import escaped

GOOD = 0
BAD = 1
"""The server reported bad, or the command could not be carried out."""
USAGE = 2
"""The command line or the configuration is wrong."""
NO_CONNECTION = 3
NO_ENTRY = 4
"""Authentication failed."""

EXIT_STATUS = (
    "Exit status: 0 good, 1 reported bad or refused, 2 wrong usage or configuration, 3 no connection, "
    "4 authentication failed."
)


def say(text: str) -> None:
    """Prints a line for people, with escapes for unprintable characters; the lines after its first are indented."""
    print(_line(text), flush=True)


def say_text(text: str) -> None:
    """Prints a text with its own lines, and with escapes for unprintable characters."""
    print(escaped(text, keep="\n\t"), flush=True)


def warn_text(text: str) -> None:
    """Prints a text with its own lines on standard error, with escapes for unprintable characters."""
    print(escaped(text, keep="\n\t"), file=sys.stderr, flush=True)


def at_node(row: dict[str, Any]) -> str:
    """Returns the node of a row as a phrase, if the server has several nodes; otherwise ""."""
    return f" at {row['node']}" if row.get("node") else ""


def warn(text: str) -> None:
    """Prints a line on standard error."""
    print(_line(text), file=sys.stderr, flush=True)


def _line(text: str) -> str:
    # Indented, so that text from others cannot look like a line of ours.
    return escaped(text, keep="\n\t").replace("\n", "\n  ")


def say_json(value: object) -> None:
    """Prints one JSON object as one line."""
    say_raw_json(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def say_raw_json(text: str) -> None:
    """Prints JSON as one line; strings may be spelled differently in it, numbers are not."""
    # Outside strings the only unprintable characters of JSON are white space, and inside them they are beyond ASCII.
    print("".join(char if char.isprintable() else _json_escape(char) for char in text), flush=True)


def _json_escape(char: str) -> str:
    return " " if char in "\r\n\t" else json.dumps(char)[1:-1].replace("\x7f", "\\u007f")


def fail(text: str, status: int = BAD) -> NoReturn:
    """Ends the command with a line on standard error."""
    warn(f"bester: {text}")
    raise typer.Exit(status)


def say_table(columns: Sequence[str], rows: Iterable[Sequence[object]], whole: Collection[str] = ("id",)) -> None:
    """Prints a table for people; cells of the columns ``whole`` are not wrapped, so that they can be copied."""
    from bester.cli.screen import Screen, new_table

    table = new_table(*columns, whole=whole)
    for cells in rows:
        table.add_row(*map(str, cells))
    Screen().print(table)


@contextmanager
def quiet_pipe() -> Iterator[None]:
    """Ends the command silently when nobody reads its output any more."""
    try:
        yield
    except BrokenPipeError:
        _let_go_of_output()
        raise typer.Exit(GOOD) from None
    except OSError as error:
        _let_go_of_output()
        fail(f"the output cannot be written: {error.strerror or error}")


def _let_go_of_output() -> None:
    """Redirects the output to the null device, so that the interpreter's last flush succeeds."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
