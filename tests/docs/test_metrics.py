"""docs/metrics.md names every metric that there is, every queue, and every cause of a drop; and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.web.browsers import browsing

from bester.core.metrics import CODE, Drop
from bester.errors import all_kinds
from bester.server.admin import numbers
from bester.server.telemetry import logs

ROW = re.compile(r"^\| (?P<first>`[^|]+) \|(?P<second>[^|]*)\|", re.MULTILINE)


def rows(root: Path, heading: str) -> Iterator[tuple[list[str], str]]:
    """Gives the rows of the tables below a heading: the names of the first column, and the second one."""
    text = (root / "docs" / "metrics.md").read_text(encoding="utf-8")
    (part,) = re.findall(rf"^##+ {heading}$(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    for row in ROW.finditer(part.partition("|---|")[2]):
        yield re.findall(r"`([^`]+)`", row["first"]), row["second"].strip(" `")


async def test_every_metric(root: Path) -> None:
    async with browsing() as play:
        _, text, _ = await play.get("/metrics")
    found = {line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE bester_")}
    found.add("bester_spans_total")  # only where they are configured
    found |= {"bester_nodes", "bester_bus_up", "bester_bus_losses_total"}  # and these in a cluster
    found |= {f"bester_nodes_{name}_total" for name in ("asked", "brought", "done_for")}
    named = {name for names, _ in rows(root, "Metrics") for name in names if name.startswith("bester_")}
    # The text format names an info's sample otherwise than its family.
    assert {re.sub("_info$", "", name) for name in found} == {re.sub("_info$", "", name) for name in named}


async def test_every_queue(root: Path) -> None:
    async with browsing() as play:
        assert [names[0] for names, _ in rows(root, "Queues")] == list(numbers.queues(play.server.admin))


def test_every_cause_of_a_drop(root: Path) -> None:
    documented = [(names[0], cause) for names, cause in rows(root, "What is dropped")]
    assert len(documented) == len(set(documented))
    assert set(documented) == {(drop.what, drop.cause) for drop in Drop}


def test_every_cause_is_counted_somewhere_and_nowhere_by_another_name(root: Path) -> None:
    source = {path: path.read_text(encoding="utf-8") for path in (root / "src" / "bester").rglob("*.py")}
    used = {name for text in source.values() for name in re.findall(r"\bDrop\.([A-Z_]+)", text)}
    assert used == {drop.name for drop in Drop}
    coded = {drop for drop in Drop if drop.cause == CODE}
    for path, text in source.items():
        for name, rest in re.findall(r"count\(\s*Drop\.([A-Z_]+)([^)]*)\)", text):
            assert (Drop[name] in coded) == ("code=" in rest), f"{path}: {name}"
    assert not {drop.cause for drop in Drop} & all_kinds().keys() - {"internal"}, "a cause is mistaken for a code"


def test_every_field_of_the_log(root: Path) -> None:
    assert [name for names, _ in rows(root, "The log") for name in names] == list(logs.FIELDS)
