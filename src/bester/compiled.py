"""The modules that mypyc compiles where Bester is built with a C compiler, and whether they run compiled here.

Their sources run otherwise, and lie beside the compiled modules for readers: tracebacks name their lines.
``hatch_build.py`` runs this file to read the list, so it imports nothing but the standard library.
"""

from __future__ import annotations

from functools import cache
from importlib.machinery import ExtensionFileLoader
from importlib.util import find_spec
from pathlib import Path

MODULES = (
    "core/*.py",
    "protocol/fram*.py",
)
"""Patterns of files in the package."""

EXCEPT = {
    "core/effects.py": "modules that stay Python have a class that inherits from Forward",
    "core/endpoint.py": "modules that stay Python have classes that inherit from Endpoint",
    "core/model.py": "its Structs with default factories cannot be made in compiled code",
    "core/routing.py": "its Struct with a field of such a type ends the interpreter when it is made",
    "core/session.py": "Session inherits from Endpoint, and others from it",
    "protocol/frames.py": "what is typed as bytes is msgspec.Raw too, which is not bytes when it runs",
    "protocol/framing.py": "a failure that a call set is read as what it was before the call",
}
"""Files that the patterns find and that stay Python, with the reason."""


def sources(package: Path) -> list[Path]:
    """Returns the files to compile, sorted.

    Args:
        package: the folder of the package ``bester``.
    """
    found = {path for pattern in MODULES for path in package.glob(pattern) if path.name != "__init__.py"}
    return sorted(found - {package / name for name in EXCEPT})


@cache
def build() -> str:
    """Returns how the modules run that can be compiled: ``compiled``, ``pure``, or ``mixed`` if some do and some don't.

    A module that is not imported yet counts by what its import would take.
    """
    package = Path(__file__).parent
    specs = [find_spec(".".join(path.relative_to(package.parent).with_suffix("").parts)) for path in sources(package)]
    compiled = {spec is not None and isinstance(spec.loader, ExtensionFileLoader) for spec in specs}
    if len(compiled) > 1:
        return "mixed"
    return "compiled" if compiled == {True} else "pure"
