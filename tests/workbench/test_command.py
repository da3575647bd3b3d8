"""``bester handler check`` as a command: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.waiting import until_sync
from typer.testing import CliRunner, Result

from bester.cli.handler import handler
from bester.workbench.classic import is_socket
from bester.workbench.contract import Form
from bester.workbench.runner import CHECKS

HERE = Path(__file__).parent
ATTACHED = f"{sys.executable} -S {HERE / 'faulty_attached.py'}"
CLASSIC = f"{sys.executable} -S {HERE / 'faulty_classic.py'}"


def check(*arguments: str) -> Result:
    return CliRunner().invoke(handler, ["check", *arguments], env={"NO_COLOR": "1"})


def test_a_good_one() -> None:
    result = check(f"{ATTACHED} none", "--echo", "--only", "attach", "--only", "answer", "--sample", '"Hello"')
    assert result.exit_code == 0, result.output
    assert "a handler of the attached form" in result.output
    assert result.output.splitlines()[-1].startswith("2 passed, 0 failed, 0 skipped")


def test_the_words_of_the_command_may_stand_apart() -> None:
    result = check("--only", "answer", *ATTACHED.split()[:1], "--", *ATTACHED.split()[1:], "none")
    assert result.exit_code == 0, result.output


def test_a_failure_is_explained(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    only = ("--only", "answer", "--skip", "attach", "--junit", str(report))
    result = check(f"{ATTACHED} answers-twice", "--attached", *only)
    assert result.exit_code == 1
    lines = [line.strip() for line in result.output.splitlines()]
    assert lines[1].startswith("FAIL  answer")
    assert lines[2] == "the handler answered the id '1', a second time"
    assert lines[3].startswith("docs/protocol.md, section 6.3: Each request is answered once")
    assert lines[4].startswith('> \\x0e\\x01\\x00\\x00{"header":{"messageType":"request","id":"1"')
    assert [line[0] for line in lines[5:7]] == ["<", "<"]
    suite = ElementTree.parse(report).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == lines[2]
    assert lines[4] in (failure.text or "")


def test_json() -> None:
    result = check(f"{CLASSIC} no-brace", "--json", "--only", "answer", "--only", "listen", "--only", "numbers")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert {name: told[name] for name in ("form", "ok", "failed", "skipped")} == {
        "form": "classic",
        "ok": False,
        "failed": 1,
        "skipped": 1,
    }
    assert [(one["id"], one["outcome"]) for one in told["checks"]] == [
        ("listen", "ok"),
        ("answer", "fail"),
        ("numbers", "skip"),
    ]
    assert "the form of section 3.2" in told["checks"][1]["detail"]
    assert told["checks"][1]["transcript"][0].startswith("> \\x19\\x00\\x00\\x00{")


@pytest.fixture
def listening() -> Iterator[Path]:
    """The socket of a classic handler that runs already."""
    with tempfile.TemporaryDirectory(prefix="bester-") as name:
        path = Path(name) / "socket"
        environment = os.environ | {"BESTER_SOCKET": str(path)}
        process = subprocess.Popen([*CLASSIC.split(), "none"], env=environment)
        until_sync(lambda: is_socket(path) or process.poll() is not None)
        assert process.poll() is None
        yield path
        process.kill()
        process.wait()


def test_the_first_handler_of_the_readme(tmp_path: Path) -> None:
    text = (HERE.parents[1] / "README.md").read_text(encoding="utf-8")
    [program] = re.findall(r"<!-- file: afrikaans.py -->\n```python\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "afrikaans.py").write_text(program, encoding="utf-8")
    asked = f"{sys.executable} {tmp_path / 'afrikaans.py'}"
    result = check(asked, "--sample", '"good morning friend"', "--timeout", "20", "--json")
    told = json.loads(result.stdout)
    assert [one["id"] for one in told["checks"] if one["outcome"] == "fail"] == [], result.stdout
    assert {one["id"] for one in told["checks"] if one["outcome"] == "skip"} == {"numbers", "opaque"}


def test_a_socket(listening: Path) -> None:
    ids = ("listen", "answer", "many", "let-go", "stop")
    result = check(str(listening), "--json", *(word for id in ids for word in ("--only", id)))
    assert result.exit_code == 0, result.output
    outcomes = {one["id"]: one["outcome"] for one in json.loads(result.stdout)["checks"]}
    assert outcomes == dict.fromkeys(ids, "ok") | {"stop": "skip"}


def test_the_list_is_complete() -> None:
    told = [json.loads(line) for line in check("--list", "--json").stdout.splitlines()]
    for form in Form:
        listed = {one["id"] for one in told if form.value in one["forms"]}
        assert listed == {one.id for one in CHECKS[form]}
    assert {line.split()[0] for line in check("--list", "--classic").stdout.splitlines()} == {
        one.id for one in CHECKS[Form.CLASSIC]
    }


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "the handler is missing"),
        (["./no-such-program"], "cannot start ./no-such-program: No such file or directory"),
        (["'"], "the command cannot be parsed"),
        (["true", "--only", "nothing"], "there is no check 'nothing'; the checks are: answer, "),
        (["true", "--sample", "{"], "neither a file nor JSON"),
        (["true", "--attached", "--only", "stop"], "none of the chosen checks"),
    ],
)
def test_wrong_usage(arguments: list[str], told: str) -> None:
    result = check(*arguments)
    assert result.exit_code == 2
    assert told in result.output


def test_a_program_that_is_no_handler() -> None:
    result = check("sh -c 'echo no; exit 3'")
    assert result.exit_code == 1
    assert "neither attached nor listened" in result.output
    assert "its process ended with 3\n  no" in result.output


def test_what_cannot_be_started_again_is_not_tried_again() -> None:
    result = check("sh -c 'exit 3'", "--attached", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert (told["failed"], told["skipped"]) == (1, len(CHECKS[Form.ATTACHED]) - 1)


def test_one_cause_is_told_once() -> None:
    """As a whole process, where nothing may be written beside it."""
    program = [sys.executable, "-W", "error", "-c", "from bester.cli.main import main; main()", "handler", "check"]
    for fault, told, passed in (
        ("no-status", "the answer has no header.status, so the sender gets handlerError", 1),
        ("big-endian", "is your length big endian? It must be little endian", 0),
    ):
        asked = [*program, "--timeout", "2", "--reattach", "5", f"{ATTACHED} {fault}"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
        lines = done.stdout.splitlines()
        assert (done.returncode, done.stderr) == (1, "")
        assert (lines[0].endswith("a handler of the attached form"), len(lines) < 20) == (True, True), done.stdout
        assert done.stdout.count(told) == 1
        assert lines[-2].startswith("  skip  ")
        assert "cannot be judged before" in lines[-2]
        assert lines[-1].startswith(f"{passed} passed, 1 failed")


def test_a_sample_that_is_not_taken(tmp_path: Path) -> None:
    sample = tmp_path / "sample.json"
    sample.write_text("[]\n")
    result = check(f"{CLASSIC} status-in-words", "--classic", "--only", "answer", "--sample", str(sample))
    assert result.exit_code == 1
    assert "the sample was answered with the status 'ok'" in result.output
    result = check(f"{CLASSIC} status-in-words", "--classic", "--only", "answer")
    assert result.exit_code == 0
    assert "it did not accept the sample, which it need not" in result.output
