"""Nothing in the source hangs on the order of a set, or reaches past the clocks and the chance that the lab replaces.

The elements of a set lie by their hashes: those of strings differ with each run, those of most objects are addresses.
Code that acts on them in turn does so in another order each time. What is acted on in turn is kept in a
``dict[T, None]``, in the order in which it came, or sorted. And ``bester.lab`` replaces the clocks and the sources of
chance in their modules; a name that was imported from there, or is a default argument, stays the real one.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from tests.test_house import REPOSITORY, place, trees

Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

PACKAGE = REPOSITORY / "src/bester"
NOT_IN_THE_LAB = [PACKAGE / name for name in ("cli", "demo", "workbench", "sync.py")]
"""What has processes, threads and terminals of its own, so that no simulated world can run it."""


@functools.cache
def checked() -> dict[Path, ast.Module]:
    """Returns the files that can run in a world, parsed for the first test."""
    return {
        path: tree
        for path, tree in trees().items()
        if path.is_relative_to(PACKAGE) and not any(path.is_relative_to(one) for one in NOT_IN_THE_LAB)
    }


SETS = {"AbstractSet", "FrozenSet", "MutableSet", "Set", "WeakSet", "frozenset", "set"}
ANY_ORDER = {"all", "any", "frozenset", "len", "max", "min", "set", "sorted", "sum"}
"""Functions whose result does not depend on the order of what they are given."""
IN_ORDER = {
    "deque",
    "enumerate",
    "filter",
    "fromkeys",
    "iter",
    "join",
    "list",
    "map",
    "next",
    "tuple",
    "zip",
}
"""Functions whose result does, and methods."""
ALGEBRA = {"copy", "difference", "intersection", "symmetric_difference", "union"}
TASKS_IN_SETS = {"TaskGroup", "all_tasks", "as_completed"}
"""Parts of asyncio that cancel tasks in the order of a set, or return them so."""


def name_of(node: ast.expr | None) -> str:
    """Returns the last name of a dotted one, or ""."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def is_set_type(annotation: ast.expr | None) -> bool:
    match annotation:
        case ast.Subscript(value=value):
            return name_of(value) in SETS
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return is_set_type(left) or is_set_type(right)
        case ast.Constant(value=str(text)):
            return is_set_type(ast.parse(text, mode="eval").body)
    return name_of(annotation) in SETS


class Sets:
    """Knows which expressions of a file are sets, from annotations and assignments.

    Args:
        tree: the file.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.owner: dict[ast.AST, Scope] = {}
        self.parents: dict[ast.AST, ast.AST] = {}
        self.known: dict[tuple[Scope | None, str], bool] = {}
        """Whether a name in a scope is a set; without a scope: an attribute, of whatever object."""
        self.makers = {
            node.name for node in ast.walk(tree) if isinstance(node, FUNCTIONS) and is_set_type(node.returns)
        }
        """The functions and methods that return sets."""
        self._enter(tree, tree)
        for node in ast.walk(tree):
            self._learn(node)

    def _enter(self, node: ast.AST, scope: Scope) -> None:
        for child in ast.iter_child_nodes(node):
            self.parents[child] = node
            self.owner[child] = scope
            self._enter(child, child if isinstance(child, (*FUNCTIONS, ast.ClassDef)) else scope)

    def _learn(self, node: ast.AST) -> None:
        match node:
            case ast.arg(arg=name, annotation=annotation) if annotation is not None:
                self.known[self.owner[node], name] = is_set_type(annotation)
            case ast.AnnAssign(target=target, annotation=annotation):
                self._note(target, is_set_type(annotation))
            case ast.Assign(targets=[target], value=value) if isinstance(target, (ast.Name, ast.Attribute)):
                if self._key(target) not in self.known:
                    self._note(target, self.is_set(value))
            case ast.NamedExpr(target=target, value=value):
                self._note(target, self.is_set(value))

    def _key(self, target: ast.expr) -> tuple[Scope | None, str]:
        if isinstance(target, ast.Name) and not isinstance(self.owner[target], ast.ClassDef):
            return self.owner[target], target.id
        return None, name_of(target)

    def _note(self, target: ast.expr, found: bool) -> None:
        self.known[self._key(target)] = found

    def is_set(self, node: ast.expr) -> bool:
        """Whether an expression is a set, as far as one can see."""
        match node:
            case ast.Set() | ast.SetComp():
                return True
            case ast.Call(func=ast.Name(id="set" | "frozenset")):
                return True
            case ast.Call(func=ast.Attribute(attr=name, value=value)) if name in ALGEBRA:
                return self.is_set(value)
            case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr() | ast.BitXor() | ast.Sub(), right=right):
                return any(self.is_set(one) or self._is_view(one) for one in (left, right))
            case ast.IfExp(body=body, orelse=orelse):
                return self.is_set(body) or self.is_set(orelse)
            case ast.NamedExpr(value=value):
                return self.is_set(value)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(value=ast.Name(id="self"), attr=name)):
                return name in self.makers
            case ast.Await(value=value):
                return self.is_set(value)
            case ast.Attribute(attr=name):
                return self.known.get((None, name), False)
            case ast.Name(id=name):
                scope: ast.AST | None = self.owner.get(node)
                while scope is not None:
                    if isinstance(scope, (*FUNCTIONS, ast.Module)) and (scope, name) in self.known:
                        return self.known[scope, name]
                    scope = self.owner.get(scope)
        return False

    def _is_view(self, node: ast.expr) -> bool:
        """Whether it is the view of a dict's keys, with which set algebra makes sets."""
        return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "keys"

    # -- what acts on sets in turn -------------------------------------------------------------------------------

    def found(self) -> Iterator[ast.expr | ast.stmt]:
        """Yields the places where the order of a set comes out."""
        for node in ast.walk(self.tree):
            match node:
                case ast.For(iter=iterated) | ast.AsyncFor(iter=iterated) if self.is_set(iterated):
                    yield node
                case ast.ListComp() | ast.GeneratorExp() | ast.DictComp():
                    if self.is_set(node.generators[0].iter) and not self._is_lost(node):
                        yield node
                case ast.Starred(value=value) if self.is_set(value) and not self._is_lost(node):
                    yield node
                case ast.YieldFrom(value=value) if self.is_set(value):
                    yield node
                case ast.Call(func=ast.Attribute(attr="pop", value=value), args=[]) if self.is_set(value):
                    yield node
                case ast.Call(func=function, args=args) if name_of(function) in IN_ORDER:
                    if any(map(self.is_set, args)) and not self._is_lost(node):
                        yield node
                case ast.Assign(targets=[ast.Tuple(elts=parts)], value=ast.Await(value=ast.Call(func=function))):
                    if ast.unparse(function) == "asyncio.wait" and any(name_of(one) != "_" for one in parts):
                        yield node
                case ast.Attribute(value=ast.Name(id="asyncio"), attr=name) if name in TASKS_IN_SETS:
                    yield node

    def _is_lost(self, node: ast.expr) -> bool:
        """Whether the order of an expression's elements is lost again, in a set or by sorting."""
        parent = self.parents[node]
        if isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name):
            return parent.func.id in ANY_ORDER
        return isinstance(parent, ast.Set)


def learn_of_each_other(files: Iterable[Sets]) -> None:
    """Lets each file know the attributes of other files' objects that are sets in each file that assigns them."""
    files = list(files)
    kinds: dict[str, set[bool]] = {}
    for one in files:
        for (scope, name), is_set in one.known.items():
            if scope is None:
                kinds.setdefault(name, set()).add(is_set)
    for one in files:
        one.known = {(None, name): True for name, found in kinds.items() if found == {True}} | one.known


def test_nothing_hangs_on_the_order_of_a_set() -> None:
    files = {path: Sets(tree) for path, tree in checked().items()}
    assert len(files) > 300
    learn_of_each_other(files.values())
    found = [place(path, node) for path, sets in files.items() for node in sets.found()]
    assert not found, "keep it in a dict[T, None], or sort it; of asyncio.wait, ask your own list what is done"


def test_a_set_of_another_file_is_found() -> None:
    one = Sets(ast.parse("class A:\n def __init__(self):\n  self.some: set[A] = set()"))
    other = Sets(ast.parse("def go(a):\n for one in list(a.some): act(one)"))
    assert not [*other.found()]
    learn_of_each_other([one, other])
    assert len([*other.found()]) == 1


@pytest.mark.parametrize(
    "code",
    [
        "for one in {1, 2}: act(one)",
        "def go(some: set[str]):\n for one in list(some): act(one)",
        "class A:\n def __init__(self):\n  self.some: set[A] = set()\n def go(self):\n  return [*self.some]",
        "class A:\n some: frozenset[str] | None\n def go(self):\n  return next(iter(self.some - self.others))",
        "some = set(names)\ntext = ', '.join(some)",
        "some = {name for name in names}\nfound = [act(one) for one in some | others]",
        "class A:\n def names(self) -> set[str]: ...\n def go(self):\n  return tuple(self.names())",
        "for name in there.keys() & here.keys(): act(name)",
        "some = set()\nsome.pop()",
        "async def go():\n done, rest = await asyncio.wait(tasks)",
        "async def go():\n async with asyncio.TaskGroup() as group: pass",
        "def go():\n some = set()\n def inner():\n  return tuple(some)",
    ],
)
def test_the_order_of_a_set_is_found(code: str) -> None:
    assert len([*Sets(ast.parse(code)).found()]) >= 1


@pytest.mark.parametrize(
    "code",
    [
        "some = set(names)\nfor one in sorted(some): act(one)",
        "some = {1}\nfound = 1 in some, len(some), any(one for one in some), {*some, 2}, {one + 1 for one in some}",
        "some = set(names)\nfound = sorted(act(one) for one in some)",
        "def go(some: dict[str, None]):\n for one in some: act(one)\ndef other(some: set[str]): pass",
        "async def go():\n await asyncio.wait({one, other})",
    ],
)
def test_a_set_without_order_is_allowed(code: str) -> None:
    assert not [*Sets(ast.parse(code)).found()]


# -- clocks and chance -----------------------------------------------------------------------------------------------


KEPT = ("os.getpid", "os.urandom", "random.", "secrets.", "time.")


def kept(tree: ast.Module) -> Iterator[ast.expr | ast.stmt]:
    """Yields the places where a clock or a source of chance is kept that the lab cannot replace any more."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module="time" | "secrets"):
                yield node
            case ast.ImportFrom(module="random", names=names) if any(one.name != "Random" for one in names):
                yield node
            case ast.ImportFrom(module="os" | "socket", names=names):
                if any(one.name in {"getpid", "gethostname", "socket", "urandom"} for one in names):
                    yield node
            case ast.arguments(defaults=defaults, kw_defaults=named):
                for default in [*defaults, *named]:
                    if default is not None and ast.unparse(default).startswith(KEPT):
                        yield default


def test_no_clock_and_no_chance_is_kept() -> None:
    found = [place(path, node) for path, tree in checked().items() for node in kept(tree)]
    assert not found, "look it up in its module when it is called"


@pytest.mark.parametrize(
    "code",
    [
        "from time import monotonic",
        "from os import path, urandom",
        "from random import Random, uniform",
        "def go(clock=time.monotonic): pass",
        "def go(*, chance: Chance = os.urandom): pass",
        "go = lambda clock=time.time: clock()",
    ],
)
def test_a_kept_clock_is_found(code: str) -> None:
    assert len([*kept(ast.parse(code))]) == 1
