"""Both distributions as wheels, outside of the repository: each one alone, and both together."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.system.conftest import environment

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60.0

Run = Callable[..., subprocess.CompletedProcess[str]]


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    pure = os.environ | {"BESTER_PURE": "1"}  # test_compiled.py has those that are compiled
    done = subprocess.run(command, env=pure, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both wheels, by the first words of their names."""
    folder = tmp_path_factory.mktemp("wheels")
    for source in (ROOT, ROOT / "gadgets"):
        pip("wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    return {path.name.partition("-")[0]: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that is installed here besides Bester and its gadgets."""
    folder = tmp_path_factory.mktemp("others")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if path.suffix != ".pth" and not path.name.startswith(("bester", "_bester", "__pycache__")):
            (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture
def installed(wheels: dict[str, Path], others: Path, tmp_path: Path) -> Callable[..., Run]:
    """Installs wheels into an empty place, and returns how to run a command there."""

    def install(*names: str) -> Run:
        place = tmp_path / "place"
        # What is run is compiled then; all else is not.
        options = ("--no-index", "--no-deps", "--no-compile", "--target", str(place))
        pip("install", *options, *(str(wheels[name]) for name in names))

        def run(*words: str) -> subprocess.CompletedProcess[str]:
            # -S: what is installed for the tests is not seen, but through PYTHONPATH.
            command = [sys.executable, "-S", *words]
            paths = environment(PYTHONPATH=f"{place}:{others}")
            return subprocess.run(command, cwd=tmp_path, env=paths, capture_output=True, text=True, timeout=TIMEOUT_S)

        return run

    return install


def bester(*arguments: str) -> tuple[str, ...]:
    return "-c", "import sys; sys.argv[0] = 'bester'; from bester.cli.main import main; main()", *arguments


def test_both(installed: Callable[..., Run]) -> None:
    run = installed("bester", "bester_gadgets")
    where = run("-c", "import bester, bester_gadgets; print(bester.__file__, bester_gadgets.__file__)")
    assert where.stdout.count("/place/") == 2, where.stderr
    listed = run(*bester("gadget", "--help"))
    ready_made = ("chat", "guard", "kitchen", "mail", "webhook")
    assert all(f"\n  {name} " in listed.stdout for name in ready_made), listed.stderr
    assert "Not installed" not in listed.stdout
    for name in ready_made:
        done = run(*bester("gadget", name, "--help"))
        assert f"place/bester/docs/{name}.md" in "".join(done.stdout.split()), done.stderr
    assert "USER@SERVER" in run(*bester("chat", "--help")).stdout
    pages = run("-c", "from bester.web.pages import find_pages; print(*find_pages()['chat'].iterdir())")
    assert "index.html" in pages.stdout, pages.stderr


def test_bester_alone(installed: Callable[..., Run], wheels: dict[str, Path]) -> None:
    run = installed("bester")
    assert run(*bester("--help")).returncode == 0
    add = f"-m pip install '{wheels['bester_gadgets']}[all]'"
    listed = run(*bester("gadget", "--help"))
    assert "Not installed: chat, guard, kitchen, mail, webhook." in listed.stdout
    for words in (["gadget", "chat", "chat.toml", "--database", "x"], ["gadget", "mail"], ["chat", "t@a.example"]):
        done = run(*bester(*words))
        assert (done.returncode, "comes with bester-gadgets, which is not installed" in done.stderr) == (2, True)
        assert add in done.stderr, done.stderr
    assert "No such command 'teapot'" in run(*bester("gadget", "teapot")).stderr
    pages = run("-c", "from bester.web.pages import find_pages; print(find_pages())")
    assert pages.stdout == "{}\n", pages.stderr
