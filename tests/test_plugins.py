"""What other distributions add: found, run, served; and what is broken harms nothing else."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bester import plugins
from bester.cli.main import app
from bester.plugins import Plugin, PluginError
from bester.web.pages import RESERVED, find_pages, not_found

Add = Callable[..., None]
MODULES = {"added", "broken", "ending", "other", "third", "around", "failing"}


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Add]:
    """Adds a distribution: what its one module says, and its entry points by group."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def add(name: str, code: str = "", **groups: list[str]) -> None:
        (tmp_path / f"{name}.py").write_text(code)
        info = tmp_path / f"{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        lines = [line for group, names in groups.items() for line in (f"[bester.{group}]", *names)]
        (info / "entry_points.txt").write_text("\n".join(lines))

    yield add
    for name in MODULES & sys.modules.keys():
        del sys.modules[name]


def bester(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, words, env={"COLUMNS": "300"})
    return done.exit_code, done.output


HELLO = """
import typer
app = typer.Typer(add_completion=False)

def hello(name: str = "you") -> None:
    '''Greet somebody.'''
    print(f"hello {name}")

@app.command()
def one() -> None:
    '''Be one of two.'''
    print("one")

@app.command()
def two() -> None:
    print("two")

number = 7

def bad(what: int | str) -> None: pass
"""


def test_functions_and_groups_are_commands(add: Add) -> None:
    add("added", HELLO, gadgets=["hello = added:hello", "both = added:app"], commands=["greet = added:hello"])
    assert bester("gadget", "hello", "--name", "G") == (0, "hello G\n")
    assert bester("gadget", "both", "two") == (0, "two\n")
    assert bester("greet") == (0, "hello you\n")
    assert "  greet        Greet somebody.\n" in bester("--help")[1]
    assert "  hello    Greet somebody.\n" in bester("gadget", "--help")[1]


def test_no_command_of_ours_is_replaced(add: Add) -> None:
    add("added", HELLO, commands=["send = added:hello"])
    assert bester("--help")[1].count("\n  send ") == 1
    assert "Send a message" in bester("send", "--help")[1]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("broken:x", "ZeroDivisionError: division by zero"),
        ("ending:x", "SystemExit: 3"),
        ("missing:x", "ModuleNotFoundError: No module named 'missing'"),
        ("added:nothing", "AttributeError: module 'added' has no attribute 'nothing'"),
        ("added:number", "added:number must be a function or a typer.Typer, and is int"),
        ("added:bad", "no command can be made of added:bad"),
    ],
)
def test_one_that_is_broken_says_so_and_harms_no_other(add: Add, value: str, why: str) -> None:
    add("broken", "1 / 0")
    add("ending", "raise SystemExit(3)")
    add("added", HELLO, gadgets=["hello = added:hello", f"odd = {value}"])
    status, told = bester("gadget", "odd", "any", "--thing")
    assert (status, told.startswith("bester: odd of added"), why in told) == (2, True, True), told
    status, listed = bester("gadget", "--help")
    assert (status, "  hello    Greet somebody." in listed, "  odd      odd of added" in listed) == (0, True, True)
    assert bester("gadget", "hello") == (0, "hello you\n")


def test_a_name_that_two_distributions_add_is_not_run(add: Add) -> None:
    add("added", HELLO, gadgets=["hello = added:hello"])
    add("other", HELLO, gadgets=["hello = other:hello"], pages=["p = other"])
    add("third", HELLO, pages=["p = third"])
    status, told = bester("gadget", "hello")
    assert (status, "hello of added and other: several distributions add this name" in told) == (2, True)
    assert "p" not in find_pages()


def test_nothing_is_imported_before_it_is_needed(add: Add) -> None:
    add("broken", "1 / 0", gadgets=["hello = broken:x"])
    found = plugins.find(plugins.GADGETS)["hello"]
    assert isinstance(found, Plugin)
    with pytest.raises(PluginError, match="hello of broken cannot be loaded"):
        found.load()


def test_pages(add: Add, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "around" / "page"
    folder.mkdir(parents=True)
    (tmp_path / "failing" / "page").mkdir(parents=True)
    (tmp_path / "failing" / "__init__.py").write_text("1 / 0")
    (folder / "__init__.py").write_text("1 / 0")
    entries = ["good = around.page", "Bad = around.page", "console = around.page", "file = added"]
    add("added", "", pages=[*entries, "gone = nowhere.page", "failing = failing.page"])
    with caplog.at_level(logging.WARNING, "bester.web"):
        found = find_pages()
    assert found["good"] == folder
    assert not {"Bad", "console", "file", "gone", "failing"} & found.keys()
    told = "\n".join(caplog.messages)
    for line in (
        "Bad of added: its prefix must be",
        "console of added: its prefix must be",
        "file of added: added must be a package with an index.html in its folder",
        "gone of added: nowhere.page cannot be found: ModuleNotFoundError",
        "failing of added: failing.page cannot be found: ZeroDivisionError",
    ):
        assert f"a page is not served: {line}" in told


def test_no_page_hides_a_path_of_ours() -> None:
    from bester.web.files import ROOT

    assert {path.name for path in ROOT.iterdir() if path.is_dir()} <= RESERVED


def test_a_ready_made_page_that_is_not_installed_says_so() -> None:
    assert "comes with bester-gadgets, which this server does not have" in not_found("chat", ())
    assert not_found("chat", ("chat",)) == not_found("x", ()) == "there is nothing here\n"
