"""Where a password comes from: never from the command line, which every user of the machine can read."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from bester.cli.output import USAGE, fail

VARIABLE = "BESTER_PASSWORD"

PasswordStdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
]


def read_password(from_stdin: bool, *, new: bool = False, needed: bool = True) -> str | None:
    """Returns the password: from standard input, else BESTER_PASSWORD, else asked for on the terminal.

    Args:
        from_stdin: whether the first line of standard input is the password.
        new: it is asked for twice.
        needed: without it, None where there is none.
    """
    if from_stdin:
        # Unbuffered beyond the line, so that what follows can be read by someone else.
        line = sys.stdin.buffer.readline()
        try:
            password = line.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            fail("the password on standard input is not UTF-8", USAGE)
        if not password:
            fail("there is no password on standard input", USAGE)
        return password
    if given := os.environ.get(VARIABLE):
        return given
    if sys.stdin.isatty():
        answer: str = typer.prompt("Password", hide_input=True, confirmation_prompt=new, err=True)
        return answer
    if needed:
        fail(f"a password is needed: set {VARIABLE}, or use --password-stdin", USAGE)
    return None
