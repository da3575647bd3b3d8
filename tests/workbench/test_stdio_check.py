"""``bester handler check --stdio`` finds what is wrong with a program that speaks over standard input and output."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from bester.workbench.check import Outcome, Result
from bester.workbench.contract import Form, Options
from bester.workbench.runner import CHECKS, Target, run

GOOD = """\
echo "a line for the log" >&2
while IFS= read -r line; do
    data=${line#*\\"data\\":}
    printf '{"header":{"status":"0","command":{"type":"reply"}},"payload":{"data":%s}}\\n' "${data%\\}\\}}"
done
"""
ANSWER = """{"header":{"status":"0","command":{"type":"done"}}}"""

FAULTS = {
    "prints more": ('echo "Hello!"\n' + GOOD, "answer", "such lines belong on standard error"),
    "answers twice": (
        GOOD.replace("    printf", "    echo '" + ANSWER.replace("done", "reply") + "'\n    printf"),
        "answer",
        "",
    ),
    "no status": ("while read -r line; do echo '{\"header\":{}}'; done", "answer", "no header.status"),
    "no form": ("while read -r line; do echo '{\"header\":5}'; done", "answer", "form of section 3.2"),
    "another id": (
        'while read -r line; do echo \'{"header":{"id":"x","status":"0","command":{"type":"done"}}}\'; done',
        "answer",
        "which no request on this connection has",
    ),
    "silent": ("while read -r line; do :; done", "answer", "no answer within"),
    "one message": (GOOD.replace("done\n", "exit 4; done\n"), "answer", "ended with 4"),
    "swallows backslashes": (GOOD.replace("read -r", "read"), "unicode", ""),
    "goes on for ever": (GOOD + "sleep 60\n", "input-ends", "of the end of its input"),
    "ends at once": ("exit 3\n", "answer", "its process ended with 3"),
}


def checked(tmp_path: Path, program: str, timeout_s: float) -> list[Result]:
    path = tmp_path / "handler.sh"
    path.write_text("#!/bin/sh\n" + program)
    path.chmod(0o755)
    chosen = [one for one in CHECKS[Form.STDIO] if one.id in ("answer", "empty", "unicode", "opaque", "input-ends")]
    options = Options(echo=True, timeout_s=timeout_s)
    return asyncio.run(run(Target((str(path),)), Form.STDIO, options, chosen, lambda _: None))


def test_a_good_one_passes(tmp_path: Path) -> None:
    assert [one.outcome for one in checked(tmp_path, GOOD, 20)] == [Outcome.OK] * 5


LIBRARY = """\
from collections.abc import AsyncIterator
from bester import Handler
handler = Handler()

@handler.on("check", samples=[3])
async def count(to: int) -> AsyncIterator[int]:
    for number in range(to):
        yield number

handler.run()
"""


def test_one_on_the_library_that_answers_in_parts_passes(tmp_path: Path) -> None:
    path = tmp_path / "handler.py"
    path.write_text(LIBRARY)
    target = Target((sys.executable, str(path)))
    results = asyncio.run(run(target, Form.STDIO, Options(timeout_s=20), CHECKS[Form.STDIO], lambda _: None))
    assert {one.check.id: one.detail for one in results if one.outcome is Outcome.FAIL} == {}
    assert {one.check.id for one in results if one.outcome is Outcome.SKIP} == {"numbers", "opaque"}


ATTACHING = """\
import json, sys, time
data = {"types": ["check"], "describe": {"check": {"request": {"type": "integer"}, "samples": [SAMPLE]}}}
hello = {"header": {"scope": "handler", "features": ["parts"]}, "payload": {"type": "attach", "id": "a", "data": data}}
print(json.dumps(hello), flush=True)
for line in sys.stdin:
    header = json.loads(line)["header"]
    if header["messageType"] == "request":
        answer = {"status": "0", "command": {"type": "reply"}}
        for _ in range(3 if "parts" in header else 0):
            print(json.dumps({"header": answer | {"more": True}}), flush=True)
            time.sleep(0.01)  # so that the tester reads them one by one
        print(json.dumps({"header": answer}), flush=True)
"""


@pytest.mark.parametrize(
    ("sample", "check", "told"),
    [('"x"', "samples", "samples[0] does not fit"), ("1", "parts", "still granted: 0, already used: 1")],
)
def test_a_fault_in_what_it_attaches_with_is_found(tmp_path: Path, sample: str, check: str, told: str) -> None:
    path = tmp_path / "handler.py"
    path.write_text(ATTACHING.replace("SAMPLE", sample))
    chosen = [one for one in CHECKS[Form.STDIO] if one.id == check]
    target = Target((sys.executable, "-S", str(path)))
    [result] = asyncio.run(run(target, Form.STDIO, Options(timeout_s=5), chosen, lambda _: None))
    assert result.outcome is Outcome.FAIL
    assert told in result.detail


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_found(tmp_path: Path, case: str) -> None:
    program, check, told = FAULTS[case]
    results = {one.check.id: one for one in checked(tmp_path, program, 0.7)}
    assert results[check].outcome is Outcome.FAIL, results
    assert told in results[check].detail
