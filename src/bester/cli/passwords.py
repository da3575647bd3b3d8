"""Reads passwords, but never from the command line, which every user of the machine can read."""

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
    """Returns the password from standard input, else from BESTER_PASSWORD, else from a prompt on the terminal.

    Args:
        from_stdin: whether the first line of standard input is the password.
        new: whether the prompt asks for it twice.
        needed: whether to end the command if there is no password, instead of returning None.
    """
    if from_stdin:
        # Nothing beyond the line is buffered, so that other code can read the rest.
        line = sys.stdin.buffer.readline()
        try:
            password = line.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            fail("the password on standard input is not UTF-8", USAGE)
        if not password:
            fail("standard input has no password", USAGE)
        return password
    if given := os.environ.get(VARIABLE):
        return given
    if sys.stdin.isatty():
        answer: str = typer.prompt("Password", hide_input=True, confirmation_prompt=new, err=True)
        return answer
    if needed:
        fail(f"a password is needed: set {VARIABLE}, or use --password-stdin", USAGE)
    return None
