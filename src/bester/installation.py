"""The paths of this installation's documents, and the commands that install packages it lacks.

Errors and ``--help`` name packages and documents. The names must be right however Bester was installed: from a clone,
from a wheel, or as an operating system's package. This module knows them.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

_OF_AN_EXTRA = re.compile(r"""(?P<package>[^;]+?)\s*;\s*extra\s*==\s*['"](?P<extra>[\w-]+)['"]""")


def how_to_add(extra: str, to: str = "bester") -> str:
    """Returns the shell command that installs the packages of one extra of Bester, or of another distribution.

    The command names the packages themselves, with the versions that the distribution works with, and never ``bester``:
    that name may belong to another project in some registry.
    """
    from importlib.metadata import PackageNotFoundError, requires  # takes a while, and only errors need it

    try:
        lines = requires(to) or []
    except PackageNotFoundError:  # a copy that was not installed
        lines = []
    found = [match for line in lines if (match := _OF_AN_EXTRA.fullmatch(line.strip()))]
    packages = [match["package"] for match in found if match["extra"] == extra]
    if not packages:
        return f"install the packages that pyproject.toml lists for the extra {extra}"
    return " ".join([_pip(), *map(shlex.quote, packages)])


def how_to_add_gadgets() -> str:
    """Returns the shell command that installs bester-gadgets with all extras, from the source that Bester came from."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        bester = distribution("bester")
    except PackageNotFoundError:  # a copy that was not installed
        found = "./gadgets[all]"
    else:
        wheel = f"bester_gadgets-{bester.version}-py3-none-any.whl"
        found = _gadgets(bester.read_text("direct_url.json") or "{}", wheel)
    return f"{_pip()} {shlex.quote(found)}"


def _gadgets(origin: str, wheel: str) -> str:
    """Returns the requirement that pip is to install.

    Args:
        origin: pip's record of where Bester came from, as JSON (direct_url.json).
        wheel: the wheel's file name, without its folder.
    """
    import json
    from urllib.parse import unquote, urlsplit

    read = json.loads(origin)  # noqa: TID251 (pip wrote it)
    url = read.get("url", "")
    if vcs := read.get("vcs_info"):
        return f"bester-gadgets[all] @ {vcs['vcs']}+{url}@{vcs['commit_id']}#subdirectory=gadgets"
    if url.startswith("file:"):
        path = Path(unquote(urlsplit(url).path))
        found = path.with_name(wheel) if path.suffix == ".whl" else path / "gadgets"
        if found.exists():
            return f"{found}[all]"
    return f"./{wheel}[all]"


def _pip() -> str:
    return f"{shlex.quote(sys.executable)} -m pip install"


def document(name: str) -> str:
    """Returns the path of a document, such as ``mail.md``, in this installation."""
    package = Path(__file__).parent
    for folder in (package / "docs", package.parents[1] / "docs"):
        if (folder / name).is_file():
            return str(folder / name)
    return f"docs/{name}"
