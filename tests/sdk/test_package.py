"""What ``import bester`` gives."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bester
import bester_gadgets


def test_every_name_is_there() -> None:
    for name in bester.__all__:
        assert getattr(bester, name) is not None
        assert name in dir(bester)
    assert set(bester._HOMES) | {"__version__"} == set(bester.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = bester.nothing


def test_the_import_is_light() -> None:
    program = (
        "import bester, sys; print(sorted(m for m in ('asyncio', 'msgspec', 'uvloop', 'ssl') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=False)
    if "No module named 'bester'" in done.stderr:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_client_of_ours_says_what_mail_it_takes() -> None:
    """A client that says nothing empties its account's mailbox, which is rarely what a command or a page is for."""
    roots = [Path(str(package.__file__)).parent for package in (bester, bester_gadgets)]
    files = [path for root in roots for path in root.rglob("*") if "templates" not in path.parts]
    python = [path for path in files if path.suffix == ".py" and path.name != "sync.py"]
    calls = [(path, call) for path in python for call in _clients_made(path)]
    silent = [
        f"{path}:{call.lineno}" for path, call in calls if "mail" not in {keyword.arg for keyword in call.keywords}
    ]
    pages = [path for path in files if path.suffix == ".js" and path.name != "bester.js"]
    made = [
        (path, text)
        for path in pages
        for text in re.findall(r"new Client\(.*?;|Client\.connect\(.*?;", path.read_text())
    ]
    silent += [f"{path}: {text}" for path, text in made if "mail" not in text]
    assert (len(calls) >= 3, len(made) >= 3, silent) == (True, True, [])


def _clients_made(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Client", "Client.connect"):
            yield node
