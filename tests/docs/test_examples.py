"""The examples can be followed: the shop's README, its tests and its recording, and the streams."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from bester import Handler
from bester.sync import Client
from bester.testing import LocalServer

README = "examples/shop/README.md"


def test_the_shop(reader: Any, root: Path, parts_of: Callable[[str], list[Any]]) -> None:
    for file in (root / README).parent.glob("*.*"):
        if file.suffix == ".conf":
            (reader.folder / file.name).write_text(reader.local(file.read_text(encoding="utf-8")), encoding="utf-8")
        else:
            shutil.copy(file, reader.folder)
    # The fixtures, also where this copy of Bester was installed before it had their entry point.
    reader.environment |= {"PYTEST_PLUGINS": "bester.testing.plugin", "BESTER_PASSWORD": "secret"}
    reader.follow(parts_of(README))
    assert reader.programs.keys() == {"server", "shop", "next"}


def test_the_shop_is_short_and_its_recording_is_redacted(root: Path) -> None:
    folder = (root / README).parent
    programs = [file for file in folder.glob("*.py") if not file.name.startswith("test_")]
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in programs) < 150
    recording = (folder / "orders.jsonl").read_text(encoding="utf-8")
    assert "ann" not in recording
    assert "Street" not in recording


@pytest.fixture
def streams(root: Path, bester_server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the streams' handler runs, attached to the server."""
    monkeypatch.chdir(tmp_path)
    spec = spec_from_file_location("streams", root / "examples" / "streams.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    handler: Handler = module.handler
    bester_server.attach(handler)
    return tmp_path


def test_tokens(streams: Path, bester_client: Client) -> None:
    assert [part.data for part in bester_client.stream("tokens", "good morning")] == ["You", "said:", "good", "morning"]


def test_a_long_export(streams: Path, bester_client: Client) -> None:
    with closing(sqlite3.connect(streams / "export.db")) as book, book:
        book.execute("CREATE TABLE line (id INTEGER PRIMARY KEY, text TEXT)")
        book.executemany("INSERT INTO line VALUES (?, ?)", [(number, "text") for number in range(1200)])
    parts = [part.data for part in bester_client.stream("export", 100)]
    assert [len(part) for part in parts] == [500, 500, 100]
    assert parts[0][0] == [100, "text"]


def test_a_tail_of_a_log(streams: Path, bester_client: Client) -> None:
    log = streams / "error.log"
    log.write_text("old\n", encoding="utf-8")
    with bester_client.stream("tail", "error.log", timeout=60) as parts, log.open("a", encoding="utf-8") as lines:
        assert next(parts).data == "old"
        print("new", file=lines, flush=True)
        assert next(parts).data == "new"
