"""``bester handler new``: what it writes is what examples/handlers shows, and the steps that it prints work."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.ports import free_port

from bester.workbench.skeletons import LANGUAGES, PORT, TEMPLATES, TYPE, files, is_good_name

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PATIENCE_S = 100.0
AT_ONCE = 3
NAME = "kitchen-1"
NEW = ("describe", "samples", "unfitting", "parts", "cancel", "passed-over")
"""Checks of what handlers need not know of."""
POSIX = {f"{name}.h" for name in ("assert", "errno", "poll", "signal", "stdbool", "stddef", "stdint", "stdio", "time")}
POSIX |= {"stdlib.h", "string.h", "sys/socket.h", "sys/un.h", "sys/wait.h", "unistd.h"}


def environment() -> dict[str, str]:
    """As in a shell where this virtual environment is activated."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BESTER_")}
    path = os.pathsep.join((str(BIN), os.environ["PATH"]))
    return kept | {"PATH": path, "NO_COLOR": "1", "GOFLAGS": "-vet=off"}


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@contextlib.contextmanager
def running(command: str, folder: Path, until: str) -> Iterator[None]:
    """A program that runs on; its output is read until a line has this text."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    assert process.stdout is not None
    try:
        lines: list[str] = []
        while until not in (lines or [""])[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], f"{command} ended: {''.join(lines)}"
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)


def follow(lang: str, folder: Path) -> dict[str, Any]:
    """Does what ``bester handler new`` prints, with a port of its own; returns what the steps told."""
    made = shell(f"bester handler new {NAME} --lang {lang} --json", folder)
    assert made.returncode == 0, made.stdout
    enter, *steps = json.loads(made.stdout)["next"]
    inside = folder / enter.removeprefix("cd ")
    port = str(free_port())
    config = inside / "server.conf"
    config.write_text(config.read_text().replace(str(PORT), port))
    report = folder / f"{lang}.xml"
    told: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        for step in steps:
            if step.startswith("besterd"):
                stack.enter_context(running(step, inside, "is ready"))
            elif step == LANGUAGES[lang].run:
                stack.enter_context(running(step, inside, "attached"))
            else:
                if step.startswith("bester handler check"):
                    step += f" --timeout 30 --reattach 30 --json --junit {report}"
                done = shell(step.replace(str(PORT), port), inside)
                assert done.returncode == 0, f"{step}\n{done.stdout}"
                told[step.split()[0]] = done.stdout
                if "handler check" in step:
                    told["check"] = json.loads(done.stdout)
    told["last"] = done.stdout
    told["junit"] = report.read_text()
    return told


@pytest.fixture(scope="module")
def followed() -> Iterator[dict[str, Future[dict[str, Any]]]]:
    """All languages, some at the same time."""
    with tempfile.TemporaryDirectory(prefix="bester-") as name, ThreadPoolExecutor(AT_ONCE) as pool:
        started = {}
        for lang, language in LANGUAGES.items():
            if all(map(shutil.which, language.needs)):
                folder = Path(name) / lang
                folder.mkdir()
                started[lang] = pool.submit(follow, lang, folder)
        yield started


@pytest.mark.timeout(400)  # a step may take PATIENCE_S, and others' come first
@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_printed_steps_work(followed: dict[str, Future[dict[str, Any]]], lang: str) -> None:
    if lang not in followed:
        pytest.skip(f"not all of {', '.join(LANGUAGES[lang].needs)} are installed")
    told = followed[lang].result()
    asked = json.loads(LANGUAGES[lang].asks)
    assert json.loads(told["last"]) == (asked if LANGUAGES[lang].echoes else asked | {"user": "t"})
    allowed = {"dry-run", *NEW} if LANGUAGES[lang].echoes else {"numbers", "opaque", "parts"}
    outcomes = {one["id"]: one["outcome"] for one in told["check"]["checks"]}
    assert {id for id, outcome in outcomes.items() if outcome != "ok"} <= allowed
    assert told["check"]["form"] == LANGUAGES[lang].form
    assert f'tests="{len(outcomes)}" failures="0"' in told["junit"]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_template_serves_its_type_and_no_other(lang: str) -> None:
    texts = [(TEMPLATES / lang / file).read_text(encoding="utf-8") for file in files(lang)]
    assert any(TYPE in text for text in texts)
    assert not any(NAME in text for text in texts)
    assert any(path.name.lower().startswith("handler.") for path in files(lang))
    assert "server.conf" in map(str, files(lang))


def test_the_examples_are_the_templates() -> None:
    examples = ROOT / "examples" / "handlers"
    if not examples.exists():
        pytest.skip("a source distribution has them in the package alone")
    assert examples.resolve() == TEMPLATES
    assert {path.name for path in examples.iterdir() if path.is_dir()} == set(LANGUAGES)


def test_the_templates_need_no_more_than_their_language_has() -> None:
    for file in files("c"):
        text = (TEMPLATES / "c" / file).read_text(encoding="utf-8")
        for header in re.findall(r"#include <(.+)>", text):
            assert header in POSIX, header
    assert "require" not in (TEMPLATES / "go" / "go.mod").read_text()
    assert "ependencies" not in (TEMPLATES / "node" / "package.json").read_text()
    assert "ependencies" not in (TEMPLATES / "rust" / "Cargo.toml").read_text()
    for file in files("java"):
        text = (TEMPLATES / "java" / file).read_text(encoding="utf-8")
        assert re.findall(r"^import (?!java\.)", text, re.MULTILINE) == []


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "builtin", "dummy", "ü", "x" * 65, 'x"'])
def test_names_that_are_refused(name: str) -> None:
    assert not is_good_name(name)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    for arguments, status in ((NAME, 1), (shlex.quote("../x"), 2), (f"{NAME} --lang cobol", 2)):
        done = shell(f"bester handler new {arguments}", tmp_path)
        assert done.returncode == status, done.stdout
    assert not list((tmp_path / NAME).iterdir())
