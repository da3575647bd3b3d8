"""The programs of the documents are well typed for strict mypy and strict TypeScript, and so are copies of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.javascript import check_programs, tsc

_LOCAL = re.compile(r"^(?:import|from) (\w+)", re.MULTILINE)


def test_the_programs_of_the_documents(root: Path, parts_of: Callable[[str], list[Any]], tmp_path: Path) -> None:
    """One call for all: each document's programs are modules of their own, with the document's name before theirs."""
    programs = {}
    for document in sorted((root / "docs").glob("*.md")):
        for mark, part in pairwise(parts_of(f"docs/{document.name}")):
            if part.language == "python" and mark.mark and re.search(r"^(from|import) bester\b", part.text, re.M):
                name = mark.mark.removeprefix("file: ").removesuffix(".py")
                programs[document.stem, name] = part.text
    assert len(programs) > 10
    for (document_name, name), text in programs.items():
        for module in _LOCAL.findall(text):
            if (document_name, module) in programs:
                text = text.replace(f"import {module}\n", f"import {document_name}_{module} as {module}\n")
                text = text.replace(f"from {module} import", f"from {document_name}_{module} import")
        (tmp_path / f"{document_name}_{name}.py").write_text(text, encoding="utf-8")
    # The project's own settings, so that what "make check" knows of the source is used, and not made anew.
    mypy: list[str | Path] = [sys.executable, "-m", "mypy", *sorted(tmp_path.glob("*.py"))]
    environment = os.environ | {"MYPYPATH": f"{root / 'src'}:{tmp_path}"}
    done = subprocess.run(mypy, cwd=root, env=environment, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(tsc() is None, reason="TypeScript is not installed; make check installs it")
def test_the_javascript_of_the_documents(root: Path, parts_of: Callable[[str], list[Any]], tmp_path: Path) -> None:
    """The programs that use the client, typed by the declarations of its package."""
    documents = [f"docs/{path.name}" for path in sorted((root / "docs").glob("*.md"))]
    programs = {}
    for document in (*documents, "src/bester/web/static/js/README.md"):
        for number, part in enumerate(parts_of(document)):
            if part.language == "html":
                text = "".join(re.findall(r'<script type="module">(.*?)</script>', part.text, re.DOTALL))
            else:
                text = part.text if part.language == "js" else ""
            if "import { Client }" in text:
                programs[f"{Path(document).stem}{number}.js"] = text.replace('"/bester.js"', '"bester"')
    assert len(programs) > 1
    done = check_programs(programs, tmp_path)
    assert done.returncode == 0, done.stdout
