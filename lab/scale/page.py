"""Puts figures into a page: ``python -m lab.scale.page RESULT.json [RESULT.json ...] docs/scale-model.md``.

The text between ``<!-- figures -->`` and ``<!-- end of figures -->`` is replaced.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lab.scale.scenarios import SCENARIOS

BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->"
Results = dict[str, dict[str, Any]]


def page(machine: dict[str, str], results: Results, text: str) -> str:
    """Returns the page with these figures."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n".join(_lines(machine, results)) + "\n" + END + rest.partition(END)[2]


def merged(sources: Iterable[Path]) -> tuple[dict[str, str], Results]:
    """Returns the machine of the last run, and all scenarios' figures, in the order of the scenarios."""
    machine: dict[str, str] = {}
    found: Results = {}
    for source in sources:
        run = json.loads(source.read_text(encoding="utf-8"))
        machine = run["machine"]
        found |= run["scenarios"]
    return machine, {name: found[name] for name in SCENARIOS if name in found}


def _lines(machine: dict[str, str], results: Results) -> Iterator[str]:
    yield f"Machine: {', '.join(f'{name} {value}' for name, value in machine.items())}."
    yield ""
    missing = [name for name in SCENARIOS if name not in results]
    if missing:
        yield f"Not run: {'; '.join(missing)}."
        yield ""
    yield from _table(
        ("Scenario", "servers", "messages", "deliveries", "hops", "broken promises", "p50 ms", "p99 ms"),
        (
            (
                name,
                f"{one['servers']:,}",
                f"{one['messages']:,}",
                f"{one['deliveries']:,}",
                _hops(one["hops"]),
                "; ".join(one["faults"]) or "none",
                _short(one["latencyMs"]["p50"]),
                _short(one["latencyMs"]["p99"]),
            )
            for name, one in results.items()
        ),
    )
    yield from _table(
        (
            "Scenario",
            "messages/s of a server: mean",
            "p50",
            "p99",
            "busiest",
            "busy: p50",
            "busiest",
            "longest turn ms",
        ),
        (
            (
                name,
                *(_short(one["rate"][key]) for key in ("mean", "p50", "p99", "busiest")),
                *(f"{one['busy'][key]:.2%}" for key in ("p50", "busiest")),
                _short(one["longestTurnMs"]),
            )
            for name, one in results.items()
        ),
    )
    yield from _table(
        ("Scenario", "links of a server: mean", "most", "KiB of a server", "dials", "events/s", "CPU s"),
        (
            (
                name,
                _short(one["links"]["mean"]),
                f"{one['links']['most']:,}",
                _short(one["kibPerServer"]["after"]),
                f"{one['dials']:,}",
                f"{one['events'] / one['cpuS']:,.0f}",
                _short(one["cpuS"]),
            )
            for name, one in results.items()
        ),
    )
    parted = {name: one for name, one in results.items() if "healedAt" in one}
    if parted:
        yield from _table(
            ("Partition of 60 s", "cut off", "on disk: all", "one server", "last late message s", "backlogs empty s"),
            (
                (
                    name,
                    f"{one['cutOff']:,}",
                    f"{one['storedMost']:,}",
                    f"{one['stored']:,}",
                    _short(one["lastLateS"]),
                    _short(one["backlogsEmptyS"]),
                )
                for name, one in parted.items()
            ),
        )
    digests = ", ".join(f"{name} `{one['digest']}`" for name, one in results.items())
    seeds = sorted({one["seed"] for one in results.values()})
    yield f"Seed {', '.join(map(str, seeds))}; digests of all that happened: {digests}."


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---|" + "---:|" * (len(head) - 1)
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _hops(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    return ", ".join(f"{hops} ({number / total:.0%})" for hops, number in counts.items() if number / total >= 0.005)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def main(arguments: list[str]) -> None:
    """Writes the page, and its picture beside it."""
    *sources, target = map(Path, arguments)
    machine, results = merged(sources)
    target.write_text(page(machine, results, target.read_text(encoding="utf-8")), encoding="utf-8")
    from lab.scale.plot import plot

    plot(results, target.with_suffix(".svg"))


if __name__ == "__main__":
    main(sys.argv[1:])
