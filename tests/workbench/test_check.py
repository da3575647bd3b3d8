"""The tester finds what it should: each of these handlers has one fault."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bester.workbench.check import Outcome, Result
from bester.workbench.contract import SAMPLE, Form, Options
from bester.workbench.runner import CHECKS, Target, run

HERE = Path(__file__).parent
PYTHON = {
    Form.ATTACHED: (sys.executable, "-S", str(HERE / "faulty_attached.py")),
    Form.CLASSIC: (sys.executable, "-S", str(HERE / "faulty_classic.py")),
}
PARTS = (sys.executable, "-S", str(HERE / "faulty_parts.py"))
NODE = ("node", str(HERE / "faulty.mjs"))
LIBRARY = (
    sys.executable,
    "-c",
    "from bester import Handler, Reply; h = Handler(classic=True); h.on()(lambda message: Reply(message.raw)); h.run()",
)
PERL = ("perl", str(HERE / "faulty.pl"))
OPTIONS = Options(echo=True, sample=SAMPLE, timeout_s=1.0, reattach_s=2.0)
PATIENT = Options(echo=True, sample=SAMPLE, timeout_s=20.0, reattach_s=20.0)
AT_ONCE = 12

FAULTS: list[tuple[Any, Form, str, str, str]] = [
    # Handler, form, its fault, the check that must find it, and what that tells.
    (PYTHON, Form.ATTACHED, "big-endian", "attach", "is your length big endian? It must be little endian"),
    (PYTHON, Form.ATTACHED, "one-read-is-one-frame", "split", "closed its connection"),
    (PYTHON, Form.ATTACHED, "one-frame-per-read", "joined", "answer"),
    (PYTHON, Form.ATTACHED, "counts-characters", "unicode", "is not a message of section 6"),
    (PYTHON, Form.ATTACHED, "ascii-only", "unicode", "got back"),
    (PYTHON, Form.ATTACHED, "answers-twice", "answer", "a second time"),
    (PYTHON, Form.ATTACHED, "senders-id", "answer", "'c1', which no request"),
    (PYTHON, Form.ATTACHED, "id-as-number", "answer", "is not a message of section 6"),
    (PYTHON, Form.ATTACHED, "no-status", "answer", "no header.status"),
    (PYTHON, Form.ATTACHED, "no-command", "answer", "header.command is missing"),
    (PYTHON, Form.ATTACHED, "error-in-words", "answer", "header.error does not have the form of section 3.2"),
    (PYTHON, Form.ATTACHED, "error-with-a-code-of-its-own", "answer", "its code is not 1 to 64"),
    (PYTHON, Form.ATTACHED, "unknown-command", "answer", "must be one of"),
    (PYTHON, Form.ATTACHED, "recipient-no-list", "answer", "list of strings"),
    (PYTHON, Form.ATTACHED, "knows-all-members", "members", "ended with 1"),
    (PYTHON, Form.ATTACHED, "remembers-ids", "ids", "no answer within"),
    (PYTHON, Form.ATTACHED, "wants-a-user", "senders", "ended with 1"),
    (PYTHON, Form.ATTACHED, "no-dry-runs", "dry-run", "no answer within"),
    (PYTHON, Form.ATTACHED, "wants-data", "empty", "no answer within"),
    (PYTHON, Form.ATTACHED, "truncates", "big", "got back"),
    (PYTHON, Form.ATTACHED, "small-buffer", "big", "ended with 1"),
    (PYTHON, Form.ATTACHED, "recurses", "deep", "ended with 1"),
    (PYTHON, Form.ATTACHED, "swaps", "many", "got back"),
    (PYTHON, Form.ATTACHED, "drops-when-full", "many", "no answer within"),
    (PYTHON, Form.ATTACHED, "answers-elsewhere", "cut-answer", "which no request on this connection has"),
    (PYTHON, Form.ATTACHED, "dies-of-garbage", "garbage", "ended with 1"),
    (PYTHON, Form.ATTACHED, "zero-is-the-end", "zero-length", "ended with 1"),
    (PYTHON, Form.ATTACHED, "makes-room-first", "oversize", "ended with 1"),
    (PYTHON, Form.ATTACHED, "gives-up", "fatal", "ended with 0"),
    (PYTHON, Form.ATTACHED, "stays-away", "restart", "did not attach again"),
    (PYTHON, Form.ATTACHED, "ends-at-once", "detach", "ended"),
    (PYTHON, Form.ATTACHED, "ignores-sigterm", "detach", "did not send detach"),
    (PYTHON, Form.ATTACHED, "forgets-the-late", "detach", "did not answer"),
    (NODE, Form.ATTACHED, "rounds", "numbers", "9007199254740992"),
    (NODE, Form.ATTACHED, "counts-characters", "unicode", "is not a message of section 6"),
    (NODE, Form.ATTACHED, "text-chunks", "split", ""),
    (NODE, Form.ATTACHED, "short-size", "big", ""),
    (NODE, Form.ATTACHED, "another-scope", "attach", "header.scope"),
    (NODE, Form.ATTACHED, "no-types", "attach", "1 to 256 types"),
    (PARTS, Form.ATTACHED, "no-schema", "describe", "describe.check.answer.type"),
    (PARTS, Form.ATTACHED, "many-samples", "describe", "describe.check.samples: has 17; at most 16 are allowed"),
    (PARTS, Form.ATTACHED, "wrong-sample", "samples", "samples[1] does not fit the schema request: data.to"),
    (PARTS, Form.ATTACHED, "refuses-its-sample", "samples", "was answered with the status '1' (no)"),
    (PARTS, Form.ATTACHED, "replies-in-words", "samples", "a reply does not fit the schema answer or parts"),
    (PARTS, Form.ATTACHED, "trusts-the-schema", "unfitting", "ended with 1"),
    (PARTS, Form.ATTACHED, "parts-for-all", "answer", "its request has no header.parts"),
    (PARTS, Form.ATTACHED, "counts-no-credit", "parts", "still granted: 0, already used: 1"),
    (PARTS, Form.ATTACHED, "ignores-more", "parts", "neither a part nor the last answer came"),
    (PARTS, Form.ATTACHED, "sends-no-last", "parts", "neither a part nor the last answer came"),
    (PARTS, Form.ATTACHED, "parts-in-words", "parts", "a reply does not fit the schema parts"),
    (PARTS, Form.ATTACHED, "drops-cancelled", "cancel", "no answer within"),
    (PARTS, Form.ATTACHED, "answers-cancelled-twice", "cancel", "a second time"),
    (PARTS, Form.ATTACHED, "answers-cancel", "passed-over", "a second time"),
    (PARTS, Form.ATTACHED, "answers-more", "passed-over", "a second time"),
    (PARTS, Form.ATTACHED, "knows-its-requests", "passed-over", "ended with 1"),
    (PYTHON, Form.CLASSIC, "does-not-listen", "listen", "did not listen"),
    (PYTHON, Form.CLASSIC, "one-recv", "split", "closed the connection"),
    (PYTHON, Form.CLASSIC, "waits-for-the-end", "answer", "it answered only after the server's end was closed"),
    (PYTHON, Form.CLASSIC, "status-in-words", "answer", "the status 'ok'"),
    (PYTHON, Form.CLASSIC, "no-brace", "answer", "does not have the form of section 3.2"),
    (PYTHON, Form.CLASSIC, "answers-twice", "answer", "sent more"),
    (PYTHON, Form.CLASSIC, "writes-anew", "opaque", "got back"),
    (PYTHON, Form.CLASSIC, "one-at-a-time", "many", "closed the connection"),
    (PYTHON, Form.CLASSIC, "does-not-wait", "slow-reader", "closed the connection"),
    (PYTHON, Form.CLASSIC, "dies-of-half", "cut-request", "ended with 1"),
    (PYTHON, Form.CLASSIC, "dies-of-a-probe", "probe", "ended with 1"),
    (PYTHON, Form.CLASSIC, "dies-of-garbage", "garbage", "ended with 1"),
    (PYTHON, Form.CLASSIC, "keeps-connections", "let-go", "more open descriptors"),
    (PYTHON, Form.CLASSIC, "ignores-sigterm", "stop", "did not end"),
    (PERL, Form.CLASSIC, "big-endian", "answer", "closed the connection"),
    (PERL, Form.CLASSIC, "short-size", "big", ""),
    (PERL, Form.CLASSIC, "counts-characters", "unicode", "does not have the form of section 3.2"),
    (PERL, Form.CLASSIC, "strips-space", "opaque", "got back"),
    (PERL, Form.CLASSIC, "dies-of-sigpipe", "cut-answer", "SIGPIPE"),
    (PERL, Form.CLASSIC, "keeps-connections", "let-go", "more open descriptors"),
]
NEW = ("describe", "samples", "unfitting", "parts", "cancel", "passed-over")
"""Checks that are skipped for a handler that knows nothing of them."""
ELSEWHERE = {Form.ATTACHED: set[str](), Form.CLASSIC: set[str](), Form.STDIO: {"answer", "input-ends"}}
"""The checks whose faults test_stdio_check.py has."""
RIGHT: list[tuple[Any, Form]] = [
    (PYTHON, Form.ATTACHED),
    (PARTS, Form.ATTACHED),
    (PYTHON, Form.CLASSIC),
    (PERL, Form.CLASSIC),
    (LIBRARY, Form.CLASSIC),
]


def command(handler: Any, form: Form, fault: str) -> tuple[str, ...]:
    return (*(PYTHON[form] if handler is PYTHON else handler), fault)


def check(command: tuple[str, ...], form: Form, options: Options, ids: set[str] | None = None) -> list[Result]:
    if command[: len(PARTS)] == PARTS:  # it describes what it takes, and returns none of it
        options = replace(options, echo=False, sample=None)
    chosen = [one for one in CHECKS[form] if ids is None or one.id in ids]
    return asyncio.run(run(Target(command), form, options, chosen, lambda _: None))


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield pool


@pytest.fixture(scope="module")
def runs(pool: ThreadPoolExecutor) -> dict[tuple[str, ...], Future[list[Result]]]:
    """All of them at the same time, because they mostly wait."""
    started = {}
    for handler, form, fault, id, _ in FAULTS:
        words = command(handler, form, fault)
        if shutil.which(words[0]):
            started[words] = pool.submit(check, words, form, OPTIONS, {id})
    for handler, form in RIGHT:
        words = command(handler, form, "none")
        if shutil.which(words[0]):
            started[words] = pool.submit(check, words, form, PATIENT)
    return started


@pytest.mark.parametrize(
    ("handler", "form", "fault", "id", "told"),
    FAULTS,
    ids=[
        f"{'python' if handler in (PYTHON, PARTS) else handler[0]}-{form}-{fault}"
        for handler, form, fault, _, _ in FAULTS
    ],
)
def test_a_fault_is_found(
    runs: dict[tuple[str, ...], Future[list[Result]]], handler: Any, form: Form, fault: str, id: str, told: str
) -> None:
    words = command(handler, form, fault)
    if words not in runs:
        pytest.skip(f"{words[0]} is not installed")
    [result] = runs[words].result()
    assert result.outcome is Outcome.FAIL, "it was not found"
    assert told in result.detail
    # What died of one connection may be gone before the next: then nothing was said that could be shown.
    assert result.transcript or id in ("attach", "listen", "describe", "samples") or "cannot connect" in result.detail


@pytest.mark.parametrize(("handler", "form"), RIGHT, ids=["attached", "parts", "classic", "perl", "library"])
def test_the_same_handlers_without_a_fault(
    runs: dict[tuple[str, ...], Future[list[Result]]], handler: Any, form: Form
) -> None:
    words = command(handler, form, "none")
    if words not in runs:
        pytest.skip(f"{words[0]} is not installed")
    bad = {one.check.id: (one.outcome, one.detail) for one in runs[words].result() if one.outcome is not Outcome.OK}
    # Those in Python read JSON and write it anew.
    expected = {"numbers", "opaque"} if handler in (PYTHON, PARTS) else set()
    if form is Form.ATTACHED:
        expected |= {"dry-run"} if handler is PARTS else {"dry-run", *NEW}
    assert set(bad) <= expected, bad
    assert all(outcome is Outcome.SKIP for id, (outcome, _) in bad.items() if id not in ("numbers", "opaque")), bad


def test_every_check_finds_something() -> None:
    for form, checks in CHECKS.items():
        found = {id for _, of, _, id, _ in FAULTS if of is form}
        elsewhere = {id for _, _, _, id, _ in FAULTS}
        assert {one.id for one in checks} - found <= elsewhere - {"answer"} | ELSEWHERE[form]
