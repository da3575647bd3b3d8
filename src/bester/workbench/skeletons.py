"""Handlers to start from: complete folders in several languages, with tests of their own.

The folders are in ``templates/``, and work as they stand, for the type :data:`TYPE`; they are what the project's
``examples/handlers`` shows. :func:`write` copies one, for another type.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bester.protocol.names import RESERVED_TYPES
from bester.workbench.contract import Form

TEMPLATES = Path(__file__).parent / "templates"
TYPE = "mytype"
"""The type that the templates serve; the word stands for nothing else in them."""
PORT = 2223
"""On which the servers of the templates' configurations listen."""
_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch
_LEFT_OUT = {"__pycache__", ".pytest_cache", "handler", "tests"}
"""What building and testing makes in a folder, and copying leaves out."""


@dataclass(frozen=True, slots=True)
class Language:
    """How a skeleton is used; the commands are for a shell in its folder."""

    form: Form
    run: str
    """Starts the handler; a server does that itself for one of the classic form."""
    test: str
    needs: tuple[str, ...]
    """The programs without which it does not work."""
    build: str = ""


LANGUAGES = {
    "python": Language(Form.ATTACHED, "python3 handler.py", "python3 -m pytest -q", ("python3",)),
    "node": Language(Form.ATTACHED, "node handler.mjs", "node --test", ("node",)),
    "c": Language(Form.ATTACHED, "./handler", "make test", ("make", "cc"), build="make"),
    "go": Language(Form.ATTACHED, "./handler", "go test ./...", ("go",), build="go build -o handler ."),
    "perl": Language(Form.CLASSIC, "./handler.pl", "prove", ("perl", "prove")),
    "bash": Language(Form.CLASSIC, "./handler.sh", "./test.sh", ("bash", "socat")),
}


def is_good_name(name: str) -> bool:
    """Whether a skeleton can have this name: as a folder, as a type, and inside of any language's strings."""
    return _name(name) is not None and name not in RESERVED_TYPES


def files(language: str) -> list[Path]:
    """Returns the files of a language's template, relative to it."""
    folder = TEMPLATES / language
    found = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in found if not _LEFT_OUT & set(path.parts)]


def write(language: str, name: str, folder: Path) -> None:
    """Writes the skeleton of a handler of the type ``name``.

    Args:
        language: one of :data:`LANGUAGES`.
        name: see :func:`is_good_name`.
        folder: is made.

    Raises:
        OSError: it is there already, or cannot be written.
    """
    folder.mkdir(parents=True)
    for file in files(language):
        text = (TEMPLATES / language / file).read_text(encoding="utf-8").replace(TYPE, name)
        path = folder / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if text.startswith("#!"):
            path.chmod(0o755)
