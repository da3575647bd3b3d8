"""Wheels with compiled modules, and without: what is built where, and what it says of itself.

A copy of the source compiles two small modules in place of all that ``bester.compiled`` lists, which take a minute.
``make test-compiled`` tests the modules themselves.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hatch_build import native, why_pure
from tests.system.conftest import environment

from bester.compiled import build

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 110.0
INSTALL = ("install", "--no-index", "--no-deps", "--no-compile", "--target")
SMALL = 'MODULES = ("backoff.py", "printable.py")\nEXCEPT = {}\n'
SAYS = "from bester import backoff, compiled; print(compiled.build(), backoff.__file__)"

WHY_NOT = why_pure() or ("" if build() == "compiled" else "make test-compiled does, which has a minute for it")
compiling = pytest.mark.skipif(bool(WHY_NOT), reason=f"nothing is compiled here: {WHY_NOT}")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    copy = tmp_path / "source"
    for folder in ("src", "docs"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "images"))
    for file in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    with (copy / "src/bester/compiled.py").open("a") as listing:
        listing.write(SMALL)
    return copy


def pip(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    env = environment(**variables)
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=TIMEOUT_S)


def wheel(source: Path, **variables: str) -> tuple[Path, str]:
    """Builds the wheel, and returns it and what was said."""
    folder = source.with_name("wheels")
    options = ("-v", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    done = pip("wheel", *options, source, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = folder.iterdir()
    return found, " ".join((done.stdout + done.stderr).split())


def says(place: Path) -> list[str]:
    """Returns how the installation runs, and the file of one of its modules."""
    done = subprocess.run([sys.executable, "-c", SAYS], env=environment(PYTHONPATH=str(place)), capture_output=True)
    return done.stdout.decode().split()


@compiling
def test_a_wheel_is_compiled(source: Path, tmp_path: Path) -> None:
    before = {*source.rglob("*")}
    built, _ = wheel(source)
    assert not built.name.endswith("-py3-none-any.whl")
    assert {path for path in {*source.rglob("*")} - before if "__pycache__" not in str(path)} == set()
    place = tmp_path / "place"
    assert pip(*INSTALL, place, built).returncode == 0
    how, module = says(place)
    assert (how, Path(module).parent) == ("compiled", place / "bester")
    assert (place / "bester/backoff.py").read_bytes() == (ROOT / "src/bester/backoff.py").read_bytes()
    Path(module).unlink()
    assert says(place) == ["mixed", str(place / "bester/backoff.py")]


@compiling
def test_what_does_not_compile_ends_the_build(source: Path) -> None:
    with (source / "src/bester/backoff.py").open("a") as file:
        file.write('WRONG: int = "a text"\n')
    done = pip("wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", source, source)
    assert done.returncode != 0
    assert "bester/backoff.py" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"BESTER_PURE": "1"}, "BESTER_PURE is set"),
        ({"CC": "/no/such/compiler"}, "there is no C compiler (/no/such/compiler)"),
    ],
)
def test_a_wheel_is_pure(variables: dict[str, str], reason: str, source: Path, tmp_path: Path) -> None:
    built, said = wheel(source, **variables)
    assert built.name.endswith("-py3-none-any.whl")
    assert f"bester is built as pure Python: {reason}" in said
    place = tmp_path / "place"
    assert pip(*INSTALL, place, built).returncode == 0
    assert says(place) == ["pure", str(place / "bester/backoff.py")]
    assert not [*place.rglob("*.so")]


def test_headers_of_python_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false")
    assert "false does not compile with Python.h" in why_pure()


def test_the_source_has_no_compiled_modules() -> None:
    assert not [*(ROOT / "src").rglob("*.so")], "they would run in place of the source; make clean removes them"


@pytest.mark.parametrize(
    "strange",
    [
        "a: list[int] = []",
        "a: list[int] = field(default_factory=list)",
        "a: ClassVar[int] = 0",
        "A = 5",
        "def __post_init__(self) -> None: ...",
        "class Inner: ...",
    ],
)
def test_what_only_a_struct_does_ends_the_build(strange: str) -> None:
    source = "from __future__ import annotations\nclass One(Struct, gc=False, eq=False):\n"
    assert "self.b: int = b" in native(source + '    """It has one."""\n\n    b: int = 0\n    """This one."""\n', {})
    with pytest.raises(ValueError, match="One: "):
        native(f"{source}    {strange}\n", {})


@pytest.mark.parametrize("option", ["frozen=True", "kw_only=True", "rename='camel'", "tag=True"])
def test_options_that_only_a_struct_has_end_the_build(option: str) -> None:
    with pytest.raises(ValueError, match=option.split("=")[0]):
        native(f"class One(Struct, eq=False, {option}):\n    b: int\n", {})
