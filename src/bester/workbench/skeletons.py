"""Handlers to start from: complete folders in several languages, with their own tests.

The folders are in ``templates/``, and work unchanged for the type :data:`TYPE`; the project's ``examples/handlers``
shows them. :func:`write` copies one for another type.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bester.protocol.names import RESERVED_TYPES
from bester.workbench.contract import Form

TEMPLATES = Path(__file__).parent / "templates"
TYPE = "mytype"
"""The type that the templates serve; the word has no other meaning in them."""
PORT = 2223
"""The port on which the servers of the templates' configurations listen."""
_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch
_LEFT_OUT = {"__pycache__", ".pytest_cache", "handler", "tests", "target", "Cargo.lock", "classes"}
"""The files that building and testing create in a folder, and that copying omits."""


@dataclass(frozen=True, slots=True)
class Language:
    """The commands of a skeleton, for a shell in its folder."""

    form: Form
    run: str
    """Starts the handler; a server runs this itself for the classic form."""
    test: str
    needs: tuple[str, ...]
    """The programs that the skeleton needs."""
    build: str = ""
    asks: str = '"Hello"'
    """Data that it answers, as JSON."""
    echoes: bool = True
    """Whether it answers any data with the same data."""


LANGUAGES = {
    "python": Language(
        Form.ATTACHED,
        "python3 handler.py",
        "python3 -m pytest -q",
        ("python3",),
        asks='{"text": "Hello"}',
        echoes=False,
    ),
    "node": Language(Form.ATTACHED, "node handler.mjs", "node --test", ("node",)),
    "c": Language(Form.ATTACHED, "./handler", "make test", ("make", "cc"), build="make"),
    "go": Language(Form.ATTACHED, "./handler", "go test ./...", ("go",), build="go build -o handler ."),
    "rust": Language(
        Form.STDIO, "./target/release/handler", "cargo test", ("cargo", "cc"), build="cargo build --release"
    ),
    "java": Language(
        Form.ATTACHED,
        "java Handler.java",
        "javac -d classes *.java && java -cp classes HandlerTest",
        ("java", "javac"),
    ),
    "perl": Language(Form.CLASSIC, "./handler.pl", "prove", ("perl", "prove")),
    "sh": Language(Form.STDIO, "./handler.sh", "./test.sh", ("sh",)),
    "tcl": Language(Form.STDIO, "./handler.tcl", "./test.tcl", ("tclsh",)),
    "bash": Language(Form.CLASSIC, "./handler.sh", "./test.sh", ("bash", "socat")),
}


def is_good_name(name: str) -> bool:
    """Returns whether a skeleton can have this name: as a folder, as a type, and in the strings of any language."""
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
        folder: the folder to create.

    Raises:
        OSError: the folder exists already, or cannot be written.
    """
    folder.mkdir(parents=True)
    for file in files(language):
        text = (TEMPLATES / language / file).read_text(encoding="utf-8").replace(TYPE, name)
        path = folder / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if text.startswith("#!"):
            path.chmod(0o755)
