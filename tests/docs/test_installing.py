"""What errors, ``--help`` and documents say about installing is right for this installation."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from importlib.metadata import PathDistribution as Distribution
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import bester
import bester_gadgets
from bester.cli.main import app
from bester.installation import document, how_to_add, how_to_add_gadgets

FOLDERS = {"bester": ".", "bester-gadgets": "gadgets"}
WHEEL = f"bester_gadgets-{bester.__version__}-py3-none-any.whl"
EXTRAS = [
    *(("bester", extra) for extra in ("redis", "otel", "cluster", "schema")),
    *(("bester-gadgets", extra) for extra in ("chat", "mail", "kitchen")),
]


def project(root: Path, distribution: str) -> dict[str, Any]:
    text = (root / FOLDERS[distribution] / "pyproject.toml").read_text(encoding="utf-8")
    found: dict[str, Any] = tomllib.loads(text)["project"]
    return found


def test_nothing_says_that_an_index_has_bester(root: Path) -> None:
    texts = [root / "README.md", *(root / "docs").glob("*.md"), *(root / "packaging").rglob("*.*")]
    folders = root / "src", root / "gadgets"
    texts += (path for kind in ("py", "js", "html", "md") for folder in folders for path in folder.rglob(f"*.{kind}"))
    for path in texts:
        assert not re.search(r"(pip|pipx) install (--?\w+ )*'?bester\b", path.read_text(encoding="utf-8")), path


def test_both_distributions_are_of_one_version(root: Path) -> None:
    assert bester_gadgets.__version__ == bester.__version__
    minor = bester.__version__.rpartition(".")[0]
    assert f"bester~={minor}.0" in project(root, "bester-gadgets")["dependencies"]
    assert (root / "gadgets/LICENSE").read_text() == (root / "LICENSE").read_text()


@pytest.mark.parametrize("distribution", FOLDERS)
def test_all_is_all_extras(root: Path, distribution: str) -> None:
    extras = project(root, distribution)["optional-dependencies"]
    assert extras["all"] == [f"{distribution}[{','.join(name for name in extras if name != 'all')}]"]
    assert {(distribution, name) for name in extras if name != "all"} == {
        one for one in EXTRAS if one[0] == distribution
    }


@pytest.mark.parametrize(("distribution", "extra"), EXTRAS)
def test_every_extra_is_added_by_its_own_packages(root: Path, distribution: str, extra: str) -> None:
    wanted = project(root, distribution)["optional-dependencies"][extra]
    command = how_to_add(extra, distribution)
    for requirement in wanted:
        name = re.match(r"[\w.-]+(\[\w+\])?", requirement)
        assert name is not None
        assert name[0] in command
    assert "bester" not in command.partition(" -m pip install ")[2]


@pytest.mark.parametrize(
    ("origin", "wanted"),
    [
        ({"url": "file://{clone}", "dir_info": {}}, "'{clone}/gadgets[all]'"),
        ({"url": "file://{clone}", "dir_info": {"editable": True}}, "'{clone}/gadgets[all]'"),
        (
            {"url": "file://{clone}/w%20x/bester.whl", "archive_info": {}},
            "'{clone}/w x/{wheel}[all]'",
        ),
        (
            {"url": "file://{clone}/bester.whl", "archive_info": {}},
            "'./{wheel}[all]'",
        ),
        (
            {"url": "https://git.example/bester", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}},
            "'bester-gadgets[all] @ git+https://git.example/bester@c0ffee#subdirectory=gadgets'",
        ),
        ({}, "'./{wheel}[all]'"),
    ],
)
def test_the_gadgets_come_from_where_bester_came_from(
    origin: dict[str, Any], wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gadgets").mkdir()
    (tmp_path / "w x").mkdir()
    (tmp_path / "w x" / WHEEL).touch()
    told = json.dumps(origin).replace("{clone}", str(tmp_path))
    monkeypatch.setattr(Distribution, "read_text", lambda self, name: told if name == "direct_url.json" else None)
    monkeypatch.setattr(Distribution, "version", bester.__version__)
    wanted = wanted.format(clone=tmp_path, wheel=WHEEL)
    assert how_to_add_gadgets() == f"{sys.executable} -m pip install {wanted}"


def test_an_extra_that_there_is_not_is_no_traceback() -> None:
    assert "pyproject.toml" in how_to_add("teapot")


def test_the_documents_that_are_named_are_there() -> None:
    assert Path(document("mail.md")).read_text(encoding="utf-8").startswith("# Mail")


@pytest.mark.parametrize("gadget", ["mail", "kitchen", "webhook", "chat"])
def test_a_gadgets_help_names_the_document_that_is_installed(gadget: str) -> None:
    said = CliRunner().invoke(app, ["gadget", gadget, "--help"], env={"COLUMNS": "200"}).output
    assert document(f"{gadget}.md") in re.sub(r"\n\s*", "", said) or document(f"{gadget}.md") in said


def test_the_npm_packages_need_no_others(root: Path) -> None:
    for package in (root / "src").rglob("package.json"):
        needs = json.loads(package.read_text(encoding="utf-8"))
        assert not needs.get("dependencies"), package
