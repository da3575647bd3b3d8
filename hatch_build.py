"""Compiles the modules that ``bester.compiled`` lists when a wheel is built, with mypyc.

Where that cannot be (no C compiler, no headers of Python), the wheel is of Python alone, works as well, and is slower.
``BESTER_PURE=1`` asks for that. A module that does not compile ends the build, for then the source is wrong.
"""

from __future__ import annotations

import ast
import os
import platform
import runpy
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import chdir
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TOOLS = ["mypy[mypyc]>=2.4,<2.5", "setuptools"]
PROBE = "#include <Python.h>\nint main(void) { return 0; }\n"


class CompilingHook(BuildHookInterface[BuilderConfig]):
    """Adds compiled modules to a wheel, beside their sources. Nothing is written into the sources' folder."""

    def dependencies(self) -> list[str]:
        """What compiling needs; of the packages that the modules import, msgspec has types that make a difference."""
        typed = [name for name in self.metadata.core.dependencies if name.startswith("msgspec")]
        return [] if why_pure() else [*TOOLS, *typed]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles, unless the wheel is an editable one."""
        if version == "editable":
            return
        reason = why_pure() or ("" if find_spec("mypyc") else f"{TOOLS[0]} is not installed")
        if reason:
            print(f"bester is built as pure Python: {reason}", file=sys.stderr)
            return
        self._made = TemporaryDirectory(prefix="bester-compiled-")
        source, made = Path(self.root, "src"), Path(self._made.name)
        for module in compiled(source, made):
            build_data["force_include"][str(module)] = str(module.relative_to(made / "modules"))
        build_data["pure_python"], build_data["infer_tag"] = False, True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes what the wheel has by now."""
        if hasattr(self, "_made"):
            self._made.cleanup()


def why_pure() -> str:
    """Returns why nothing is to be compiled, or an empty text."""
    if os.environ.get("BESTER_PURE", "0") not in ("", "0"):
        return "BESTER_PURE is set"
    if platform.python_implementation() != "CPython":
        return f"mypyc compiles for CPython, and this is {platform.python_implementation()}"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    command = [*compiler, "-fsyntax-only", f"-I{sysconfig.get_path('include')}", "-xc", "-"]
    try:
        tried = subprocess.run(command, input=PROBE, capture_output=True, text=True, check=False)
    except OSError:
        return f"there is no C compiler ({compiler[0]})"
    if tried.returncode:
        return f"{compiler[0]} does not compile with Python.h, which is in python3-dev or python3-devel"
    return ""


def compiled(source: Path, made: Path) -> Iterator[Path]:
    """Compiles, and yields the modules, which are in the folder ``modules`` of ``made``."""
    from setuptools import Distribution, Extension  # before mypyc, which looks whether it is there

    from mypyc.build import mypycify  # isort: skip

    lists = runpy.run_path(str(source / "bester/compiled.py"))
    sources = made / "sources"
    shutil.copytree(source / "bester", sources / "bester", ignore=shutil.ignore_patterns("__pycache__"))
    known: dict[str, list[ast.AnnAssign]] = {}
    files = lists["sources"](sources / "bester")
    for path in sorted(files, key=lambda path: path.name != "model.py"):  # whose classes others inherit from
        path.write_text(native(path.read_text(encoding="utf-8"), known), encoding="utf-8")
    # What a test has narrowed is compiled as if no call changed it; so a test that mypy thinks needless is an error.
    options = ["--config-file=", f"--cache-dir={os.devnull}", "--follow-imports=silent", "--ignore-missing-imports"]
    options.append("--warn-unreachable")
    with chdir(sources):  # tracebacks name files as they are named here, and so not by a path of this machine
        names = [str(path.relative_to(sources)) for path in files]
        extensions = mypycify(
            [*options, *names], group_name="bester", target_dir=str(made / "c"), opt_level="2", debug_level="0"
        )
        scanner = f"bester/{lists['SCANNER']}"
        extensions.append(
            Extension(scanner.removesuffix(".c").replace("/", "."), [scanner], extra_compile_args=["-O2"])
        )
        command = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(made / "modules"), str(made / "objects")
        command.ensure_finalized()
        command.run()
    return (path for path in sorted((made / "modules").rglob("*")) if path.is_file())


# -- Structs ------------------------------------------------------------------------------------------------------

# A Struct is the fastest class that Python alone has, and a slow one for compiled code, which reads the attributes of
# its own classes as C reads those of a struct. So one that nothing encodes, decodes or compares becomes such a class.


def native(source: str, known: dict[str, list[ast.AnnAssign]]) -> str:
    """Returns a module's source in which each ``class X(Struct, eq=False)`` is a class of its own, made the same way.

    Args:
        source: the source of the module.
        known: the fields of the classes that were such Structs, by name, to which those of this module are added.
    """
    lines = source.splitlines(keepends=True)
    classes = [one for one in ast.parse(source).body if isinstance(one, ast.ClassDef)]
    ours = [one for one in classes if any(ast.unparse(word) == "eq=False" for word in one.keywords)]
    for node, text in reversed([(one, _native(one, known, lines)) for one in ours]):
        lines[node.lineno - 1 : node.end_lineno] = [text]
    if ours:  # mypyc reads the decorator, and nothing runs it
        lines.insert(lines.index("from __future__ import annotations\n") + 1, _DECORATOR)
    return "".join(lines)


_DECORATOR = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mypy_extensions import mypyc_attr\n"


def _native(node: ast.ClassDef, known: dict[str, list[ast.AnnAssign]], lines: list[str]) -> str:
    strange = [part for part in (*node.keywords, *node.body) if not _is_plain(part)]
    if strange:
        raise ValueError(
            f"{node.name}: a class cannot be made as this Struct is, because of: {ast.unparse(strange[0])}"
        )
    fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
    methods = [one for one in node.body if isinstance(one, ast.FunctionDef)]
    base = ast.unparse(node.bases[0])
    inherited = known.get(base, [])
    known[node.name] = [*inherited, *fields]
    parameters = ", ".join(ast.unparse(one).replace("\n", " ") for one in known[node.name])
    text = [
        "@mypyc_attr(acyclic=True)\n" if any(word.arg == "gc" for word in node.keywords) else "",
        f"class {node.name}{f'({base})' if inherited else ''}:\n",
        f"    __slots__ = {tuple(ast.unparse(one.target) for one in fields)!r}\n",
        f"    def __init__(self, {parameters}) -> None:\n",
    ]
    if inherited:
        text.append(f"        super().__init__({', '.join(ast.unparse(one.target) for one in inherited)})\n")
    for one in fields:
        name, kind = ast.unparse(one.target), ast.unparse(one.annotation)
        text.append(f"        self.{name}: {kind} = {name}\n")
    for method in methods:
        begin = min([method.lineno, *(one.lineno for one in method.decorator_list)])
        text += ["\n", *lines[begin - 1 : method.end_lineno]]
    return "".join(text)


def _is_plain(part: ast.AST) -> bool:
    """Returns whether a part of a Struct means the same in a class with an ``__init__``.

    A default is one object for all instances, so it may be no list that each instance has for itself.
    """
    match part:
        case ast.keyword():
            return ast.unparse(part) in ("eq=False", "gc=False")
        case ast.AnnAssign(target=ast.Name(), annotation=annotation, value=default):
            return "ClassVar" not in ast.unparse(annotation) and isinstance(default, ast.Constant | ast.Name | None)
        case ast.FunctionDef(name=name):
            return not (name.startswith("__") and name.endswith("__"))
        case ast.Expr(value=ast.Constant(value=str())):  # a docstring
            return True
        case _:
            return False
