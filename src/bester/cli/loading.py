"""Finds and runs the handler that a command names: ``module:name`` or ``path/file.py:name``."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from traceback import StackSummary, TracebackException
from typing import Any, NamedTuple, NoReturn

import bester
from bester.cli.output import BAD, USAGE, fail, warn_text
from bester.errors import BadConfiguration
from bester.handler.handler import Handler
from bester.handler.router import Router
from bester.protocol.reports import Refused

DEFAULT_NAME = "handler"
_NOT_THE_AUTHORS = (
    *(str(Path(str(one.__file__)).parent) for one in (bester, importlib, asyncio)),
    contextlib.__file__,
    "<frozen importlib",
    "uvloop/",
)
"""How the names of files begin whose lines are left out of an author's traceback."""


class Place(NamedTuple):
    """Where a handler is."""

    module: str
    name: str
    folder: Path
    """The folder that the module is imported from."""
    root: Path
    """The folder of its own files: of its package, or of the module if it is in none."""
    file: Path | None = None
    """The module's file, if that was given."""


def place_of(target: str) -> Place:
    """Returns where a handler is; imports nothing of it.

    Raises:
        typer.Exit: there is no such file or module, which is told.
    """
    place, _, name = target.rpartition(":") if ":" in target else (target, "", DEFAULT_NAME)
    if not (place and name):
        fail(f"{target!r} names no handler; give module:name or path/file.py:name, such as shop:handler", USAGE)
    path = Path(place)
    if path.suffix == ".py" or len(path.parts) > 1:
        return _file(path, name)
    if not all(part.isidentifier() for part in place.split(".")):
        fail(f"{place!r} names no module; give module:name or path/file.py:name, such as shop:handler", USAGE)
    folder = Path.cwd()
    top = place.partition(".")[0]
    if not (folder / top).is_dir() and not (folder / f"{top}.py").is_file():
        spec = find_spec(top)
        if spec is None or spec.origin is None:
            fail(f"there is no module {top} in {folder}, nor is one installed", USAGE)
        origin = Path(spec.origin)
        return Place(place, name, folder, origin.parent)
    return Place(place, name, folder, folder / top if (folder / top).is_dir() else folder)


def _file(path: Path, name: str) -> Place:
    if not path.is_file():
        fail(f"there is no file {path}", USAGE)
    path = path.resolve()
    names, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file():
        names.insert(0, folder.name)
        folder = folder.parent
    return Place(".".join(names), name, folder, folder / names[0] if len(names) > 1 else folder, path)


def load(target: str) -> Handler:
    """Imports and returns a handler; of a router it makes one.

    Raises:
        typer.Exit: it cannot be loaded, which is told; for an error in its own code with the traceback of that code.
    """
    place = place_of(target)
    sys.path.insert(0, str(place.folder))
    try:
        module = importlib.import_module(place.module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{place.module}.".startswith(f"{error.name}."):
            fail(f"there is no module {error.name} in {place.folder}, nor is one installed", USAGE)
        fail_in_own_code(error, f"{place.module} cannot be imported")
    except (Exception, SystemExit) as error:
        fail_in_own_code(error, f"{place.module} cannot be imported")
    if place.file is not None and Path(getattr(module, "__file__", None) or "").resolve() != place.file:
        fail(f"{place.file} has the name of another module, {place.module}; give it a name of its own", USAGE)
    found: Any = module
    for part in place.name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            there = ", ".join(one for one, value in vars(module).items() if isinstance(value, Router)) or "none"
            fail(f"{place.module} has no {place.name}; the handlers in it are: {there}", USAGE)
    if isinstance(found, Handler):
        handler = found
    elif isinstance(found, Router):
        handler = Handler()
        handler.include(found)
    else:
        fail(f"{place.module}:{place.name} is no bester.Handler, but of the type {type(found).__name__}", USAGE)
    try:
        types = handler.types
    except (TypeError, ValueError) as error:
        fail(str(error), USAGE)
    if not types:
        fail(f"{place.module}:{place.name} has no function yet; register one with @{place.name}.on(TYPE)", USAGE)
    return handler


def run_now(handler: Handler, on_attached: Callable[[], None] | None = None) -> None:
    """Runs a handler in this process until a signal.

    Raises:
        typer.Exit: it cannot run, or an exception ended it, which is told.
    """
    try:
        handler.run(on_attached)
    except Refused as error:
        fail(f"the server refuses the handler: {error}", BAD)
    except BadConfiguration as error:
        fail(str(error), USAGE)
    except Exception as error:
        fail_in_own_code(error, "the handler has ended")


def fail_in_own_code(error: BaseException, what: str) -> NoReturn:
    """Ends the command with the traceback of the code that is not Bester's."""
    told = TracebackException.from_exception(error)
    one: TracebackException | None = told
    while one is not None:
        frames = [frame for frame in one.stack if not frame.filename.startswith(_NOT_THE_AUTHORS)]
        one.stack = StackSummary.from_list(frames)
        one = one.__cause__ or one.__context__
    warn_text("".join(told.format()))
    fail(what, BAD)
