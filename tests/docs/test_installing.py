"""What errors, ``--help`` and documents say about installing is right for this installation."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bester.cli.main import app
from bester.installation import document, how_to_add


def pyproject(root: Path) -> dict[str, dict[str, dict[str, list[str]]]]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def test_nothing_says_that_an_index_has_bester(root: Path) -> None:
    texts = [root / "README.md", *(root / "docs").glob("*.md"), *(root / "packaging").rglob("*.*")]
    texts += (path for kind in ("py", "js", "html", "md") for path in (root / "src").rglob(f"*.{kind}"))
    for path in texts:
        assert not re.search(r"(pip|pipx) install (--?\w+ )*'?bester\b", path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("extra", ["redis", "otel", "chat", "mail", "kitchen", "cluster"])
def test_every_extra_is_added_by_its_own_packages(root: Path, extra: str) -> None:
    wanted = pyproject(root)["project"]["optional-dependencies"][extra]
    command = how_to_add(extra)
    for requirement in wanted:
        name = re.match(r"[\w.-]+(\[\w+\])?", requirement)
        assert name is not None
        assert name[0] in command
    assert "bester" not in command.partition(" -m pip install ")[2]


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
