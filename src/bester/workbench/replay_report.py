"""Formats what a replay or a shadow found: for people, as one JSON object, or as JUnit XML."""

from __future__ import annotations

from xml.etree import ElementTree

from bester.workbench.differences import ABSENT, OUTCOME, Comparison, Difference
from bester.workbench.report import xml_text


def lines(comparison: Comparison, counted: str = "line") -> list[str]:
    """Returns the differences by their kind, most frequent first, and what was left out, for people.

    Args:
        comparison: the differences.
        counted: what the numbers of the examples count.
    """
    told: list[str] = []
    for kind, group in sorted(comparison.groups.items(), key=lambda one: -one[1].count):
        told.append(f"{group.count} x {kind}")
        told.append(f"    {counted} {group.line}: {group.example}")
    if comparison.left_out:
        told.append("left out, because the recorded handler answers differently itself when it is asked twice:")
        told += [f"    {count} x {kind}" for kind, count in sorted(comparison.left_out.items())]
    return told


def summary(comparison: Comparison) -> str:
    """Returns the totals in a line."""
    if not comparison.different:
        return f"{comparison.asked} requests, no difference"
    return f"{comparison.asked} requests, {comparison.different} differ"


def difference(one: Difference) -> dict[str, object]:
    """Returns a difference as JSON; a side that is absent has no member."""
    sides = {"before": one.before, "after": one.after}
    return {"place": one.place} | {name: value for name, value in sides.items() if value is not ABSENT}


def as_json(comparison: Comparison) -> dict[str, object]:
    """Returns the members that a replay and a shadow have in common."""
    return {
        "same": not comparison.different,
        "asked": comparison.asked,
        "different": comparison.different,
        "groups": [
            {"kind": kind, "count": group.count, "line": group.line, "example": difference(group.example)}
            for kind, group in comparison.groups.items()
        ],
        "leftOut": comparison.left_out,
    }


def as_junit(name: str, comparison: Comparison) -> bytes:
    """Returns JUnit XML in which each kind of difference is a failure; without any, there is one test that passed."""
    failures = len(comparison.groups)
    tests = str(failures or 1)
    suite = ElementTree.Element(
        "testsuite", name="bester handler replay", tests=tests, failures=str(failures), errors="0"
    )
    for kind, group in comparison.groups.items():
        case = ElementTree.SubElement(suite, "testcase", classname=xml_text(name), name=xml_text(kind))
        told = f"{group.count} of {comparison.asked} requests; line {group.line}: {group.example}"
        ElementTree.SubElement(case, "failure", message=xml_text(told))
    if not failures:
        ElementTree.SubElement(suite, "testcase", classname=xml_text(name), name=OUTCOME)
    whole: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return whole
