"""How the source is built: what linters don't check."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

from bester.compiled import sources

REPOSITORY = Path(__file__).parents[1]
SOURCES = (REPOSITORY / "src", REPOSITORY / "gadgets/src")
MAX_LINES = 450
TEXTS = {".css", ".html", ".js", ".py", ".ts"}
LARGE = {REPOSITORY / "src/bester/web/static/js/bester.js"}
"""The client for browsers is one file, so that a site can copy it and need nothing beside it."""
FILES = [path for source in SOURCES for path in sorted(source.rglob("*.py")) if "templates" not in path.parts]


@functools.cache
def trees() -> dict[Path, ast.Module]:
    """Returns each file parsed, which happens for the first test, not wherever this module is collected."""
    return {path: ast.parse(path.read_text(), str(path)) for path in FILES}


@functools.cache
def nodes() -> dict[Path, list[ast.AST]]:
    """Returns the nodes of each file."""
    return {path: [*ast.walk(tree)] for path, tree in trees().items()}


def module(path: Path) -> str:
    source = next(source for source in SOURCES if path.is_relative_to(source))
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in FILES}


def place(path: Path, node: ast.stmt | ast.expr) -> str:
    return f"{path.relative_to(REPOSITORY)}:{node.lineno}"


def imported(path: Path) -> Iterator[str]:
    """Yields our modules that a file imports anywhere, for types too."""
    for node in nodes()[path]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in MODULES:
                    yield name
                elif node.module in MODULES:
                    yield node.module


def circles(graph: dict[str, set[str]]) -> Iterator[frozenset[str]]:
    """Yields the strongly connected components of more than one module (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []

    def visit(name: str) -> Iterator[frozenset[str]]:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                yield from visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            at = stack.index(name)
            found, stack[at:] = stack[at:], []
            if len(found) > 1:
                yield frozenset(found)

    for name in graph:
        if name not in index:
            yield from visit(name)


def test_imports_form_no_circle() -> None:
    graph = {name: {*imported(path)} - {name} for name, path in MODULES.items()}
    assert len(graph) > 400
    assert [sorted(circle) for circle in circles(graph)] == []


def test_a_circle_is_found() -> None:
    graph = {"a": {"b", "d"}, "b": {"c"}, "c": {"a"}, "d": set[str]()}
    assert [*circles(graph)] == [frozenset("abc")]


def test_files_are_small() -> None:
    texts = {path for source in SOURCES for path in source.rglob("*") if path.suffix in TEXTS}
    assert {path.suffix for path in texts} == TEXTS
    large = {path for path in texts if len(path.read_text().splitlines()) > MAX_LINES}
    assert large == LARGE


def bare_raises(path: Path) -> Iterator[str]:
    """Yields the methods that consist of ``raise AssertionError``, beside a docstring."""
    for node in nodes()[path]:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        body = [one for one in node.body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
        if len(body) == 1 and isinstance(body[0], ast.Raise) and body[0].exc is not None:
            raised = body[0].exc.func if isinstance(body[0].exc, ast.Call) else body[0].exc
            if isinstance(raised, ast.Name) and raised.id in ("AssertionError", "NotImplementedError"):
                yield place(path, node)


def test_no_method_is_left_to_a_subclass_by_raising() -> None:
    found = [one for path in FILES for one in bare_raises(path)]
    assert not found, "use a Protocol, or pass a collaborator"


@functools.cache
def methods() -> set[str]:
    """Returns the names that are methods of a class in the source, and an attribute of none."""
    found: set[str] = set()
    attributes: set[str] = set()
    for found_in in nodes().values():
        for node in found_in:
            match node:
                case ast.ClassDef():
                    for one in node.body:
                        if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef)) and not one.decorator_list:
                            found.add(one.name)
                        elif isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
                            attributes.add(one.target.id)
                        elif isinstance(one, ast.Assign):
                            attributes.update(target.id for target in one.targets if isinstance(target, ast.Name))
                case ast.Attribute(value=ast.Name(id="self"), ctx=ast.Store()):
                    attributes.add(node.attr)
    return found - attributes


def replaced(path: Path) -> Iterator[str]:
    """Yields the places where methods of an object are replaced at run time."""
    for node in nodes()[path]:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "update":
            owner = node.func.value
            if isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name) and owner.func.id == "vars":
                yield place(path, node)
        for target in node.targets if isinstance(node, ast.Assign) else []:
            if isinstance(target, ast.Attribute) and target.attr in methods():
                yield place(path, target)


def test_no_method_is_replaced() -> None:
    found = [one for path in FILES for one in replaced(path)]
    assert not found


def test_compiled_modules_have_no_coroutines() -> None:
    """Asyncio shows a task by what its coroutine has, and those of compiled code lack some of that."""
    package = SOURCES[0] / "bester"
    compiled = sources(package)
    assert len(compiled) > 40
    found = [
        place(path, node)
        for path in compiled
        for node in nodes()[path]
        if isinstance(node, (ast.AsyncFunctionDef, ast.Await))
    ]
    assert not found, "put the coroutine into a module of its own, and that into EXCEPT of compiled.py"
