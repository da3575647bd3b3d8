"""Where this installation keeps its documents, and how packages that it lacks are added to it.

Errors and ``--help`` name packages and documents. What they name must be right wherever Bester came from: a clone, a
wheel, an operating system's package. So they ask here.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

_OF_AN_EXTRA = re.compile(r"""(?P<package>[^;]+?)\s*;\s*extra\s*==\s*['"](?P<extra>[\w-]+)['"]""")


def how_to_add(extra: str) -> str:
    """Returns the shell command that installs the packages of one of Bester's extras beside it.

    It names those packages themselves, with the versions that Bester works with, and never ``bester``: that name need
    not lead to this project in every registry.
    """
    from importlib.metadata import PackageNotFoundError, requires  # takes a while, and is for errors alone

    try:
        lines = requires("bester") or []
    except PackageNotFoundError:  # a copy that was not installed
        lines = []
    found = [match for line in lines if (match := _OF_AN_EXTRA.fullmatch(line.strip()))]
    packages = [match["package"] for match in found if match["extra"] == extra]
    if not packages:
        return f"install the packages that pyproject.toml lists for the extra {extra}"
    return " ".join([shlex.quote(sys.executable), "-m pip install", *map(shlex.quote, packages)])


def document(name: str) -> str:
    """Returns the path of one of the documents (``mail.md``), as this installation has it."""
    package = Path(__file__).parent
    for folder in (package / "docs", package.parents[1] / "docs"):
        if (folder / name).is_file():
            return str(folder / name)
    return f"docs/{name}"
