"""docs/gadgets.md: its example is installed and runs, and our own gadgets stand on what it says is public."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import bester

DOCUMENT = "docs/gadgets.md"
TIMEOUT_S = 60.0


def install(source: Path, target: Path) -> None:
    """Installs a package into a folder of its own, without the network."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", "--target", str(target), str(source)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr


def test_it_can_be_followed(reader: Any, parts_of: Callable[[str], list[Any]]) -> None:
    target = reader.folder / "installed"
    reader.environment["PYTHONPATH"] = str(target)
    mark = None
    for part in parts_of(DOCUMENT):
        if part.mark is not None:
            mark = part.mark
            continue
        if mark == "install":
            install(reader.folder, target)
        elif mark is not None:
            reader.step(mark, reader.local(part.text), part.line)
        mark = None
    assert reader.programs.keys() == {"server", "hello"}
    with urllib.request.urlopen(f"http://127.0.0.1:{reader.ports['2224']}/hello", timeout=TIMEOUT_S) as page:
        assert b"<title>Hello</title>" in page.read()


def test_what_is_public_is_there(table_of: Callable[[str, str], list[list[str]]]) -> None:
    for module, names in public(table_of).items():
        for name in names:
            assert hasattr(import_module(module), name), f"{module}.{name}"


def test_our_gadgets_use_what_is_public(root: Path, table_of: Callable[[str, str], list[list[str]]]) -> None:
    allowed = public(table_of)
    seen = set()
    for path in (root / "gadgets/src").rglob("*.py"):
        for module, name in uses_of_bester(ast.parse(path.read_text(encoding="utf-8"))):
            assert name in allowed.get(module, ()), f"{path}: {module}.{name} is not public (see {DOCUMENT})"
            seen.add(module)
    assert seen == allowed.keys()


def public(table_of: Callable[[str, str], list[list[str]]]) -> dict[str, set[str]]:
    """Returns the public names of each module, as the document has them."""
    found = {}
    for first, names, _ in table_of(DOCUMENT, "| Module | Names |"):
        module = first.strip("`")
        listed = set(re.findall(r"`([\w.]+)`", names))
        if listed <= {"bester.__all__"}:
            listed = set(bester.__all__ if module == "bester" else vars(import_module(module)))
        found[module] = listed
    return found


def uses_of_bester(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yields the names of Bester that a module imports, or uses of a module that it imports."""
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not [one.name for one in node.names if one.name.split(".")[0] == "bester"], "import names from it"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bester":
            for one in node.names:
                if node.module == "bester" and one.name in bester.__all__:
                    yield "bester", one.name
                elif _is_module(str(node.module), one.name):
                    modules[one.asname or one.name] = f"{node.module}.{one.name}"
                else:
                    yield str(node.module), one.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            yield modules[node.value.id], node.attr


def _is_module(package: str, name: str) -> bool:
    spec = find_spec(package)
    is_package = spec is not None and spec.submodule_search_locations is not None
    return is_package and find_spec(f"{package}.{name}") is not None
