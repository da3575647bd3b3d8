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
    "client/deliveries.py",
    "client/questions.py",
    "core/*.py",
    "handler/registered.py",
    "net/channel.py",
    "protocol/client.py",
    "protocol/frames.py",
    "protocol/framing.py",
    "protocol/handler.py",
    "protocol/plain.py",
    "protocol/responses.py",
    "protocol/stdio.py",
    "protocol/strictjson.py",
    "protocol/values.py",
    "server/connections/*.py",
    "server/effects.py",
    "tracing.py",
    "web/gateway.py",
)
"""Patterns of files in the package."""

_COROUTINES = "coroutines of compiled code end the interpreter where asyncio shows their tasks"

EXCEPT = {
    "core/effects.py": "modules that stay Python read the effects, and have classes that inherit from them",
    "server/connections/authentication.py": _COROUTINES,
    "server/connections/client_commands.py": _COROUTINES,
    "server/connections/command_queue.py": _COROUTINES,
    "server/connections/queries.py": _COROUTINES,
}
"""Files that the patterns find and that stay Python, with the reason."""

SCANNER = "protocol/_scan.c"
"""A module in C that is built with them."""


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
