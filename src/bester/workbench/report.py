"""Formats a run's results for machines: as one JSON object, or as JUnit XML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from bester.workbench.check import Outcome, Result
from bester.workbench.contract import Form

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def count(results: Sequence[Result], outcome: Outcome) -> int:
    """Returns how many checks had this outcome."""
    return sum(result.outcome is outcome for result in results)


def as_json(target: str, form: Form, results: Sequence[Result]) -> dict[str, object]:
    """Returns the object that ``bester handler check --json`` prints."""
    return {
        "handler": target,
        "form": form.value,
        "ok": not count(results, Outcome.FAIL),
        "failed": count(results, Outcome.FAIL),
        "skipped": count(results, Outcome.SKIP),
        "checks": [
            {
                "id": result.check.id,
                "outcome": result.outcome.value,
                "seconds": round(result.seconds, 3),
                "section": result.check.section,
                "contract": result.check.contract,
                "detail": result.detail,
                "transcript": result.transcript,
                "output": result.output,
            }
            for result in results
        ],
    }


def as_junit(target: str, form: Form, results: Sequence[Result]) -> bytes:
    """Returns the results as JUnit XML, for CI services."""
    suite = ElementTree.Element(
        "testsuite",
        name=f"bester handler check ({form})",
        tests=str(len(results)),
        failures=str(count(results, Outcome.FAIL)),
        errors="0",
        skipped=str(count(results, Outcome.SKIP)),
        time=f"{sum(result.seconds for result in results):.3f}",
    )
    for result in results:
        case = ElementTree.SubElement(
            suite, "testcase", classname=xml_text(target), name=result.check.id, time=f"{result.seconds:.3f}"
        )
        if result.outcome is Outcome.FAIL:
            failure = ElementTree.SubElement(case, "failure", message=xml_text(result.detail))
            failure.text = xml_text("\n".join(explained(result)))
        elif result.outcome is Outcome.SKIP:
            ElementTree.SubElement(case, "skipped", message=xml_text(result.detail))
    whole: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return whole


def explained(result: Result) -> list[str]:
    """Returns the explanation of a failure, as lines."""
    lines = [result.detail, f"docs/protocol.md, section {result.check.section}: {result.check.contract}"]
    lines += result.transcript
    if result.output:
        lines += ["the handler wrote:", *(f"  {line}" for line in result.output)]
    return lines


def xml_text(text: str) -> str:
    """Returns a text in which what XML does not have is replaced."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
