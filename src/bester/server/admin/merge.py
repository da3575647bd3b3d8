"""Merges the answers of a cluster's nodes: rows about one thing become one row, which says its nodes.

Numbers are added up, and mean times are weighted by the number of answers. Where only one node can know a value, the
first answer that has it counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

Row = dict[str, Any]
Answers = Sequence[tuple[str, Any]]
"""Nodes' names with their answers, sorted."""


def added(values: Iterable[Any]) -> Any:
    """Adds up numbers, and objects of numbers member by member."""
    found: Any = None
    for value in values:
        if found is None:
            found = value
        elif isinstance(value, dict):
            found = {key: added(one[key] for one in (found, value) if key in one) for key in {**found, **value}}
        else:
            found += value
    return found


def clients(answers: Answers, limit: int | None) -> list[Row]:
    """Returns a row for each account; its sessions say their nodes."""
    found: dict[str, list[Row]] = {}
    for node, rows in answers:
        for row in rows:
            sessions = [session | {"node": node} for session in row["sessions"]]
            found.setdefault(row["username"], []).extend(sessions)
    return [{"username": name, "sessions": found[name]} for name in sorted(found)[:limit]]


def handlers(answers: Answers) -> list[Row]:
    """Returns a row for each type; ``nodes`` has the nodes that serve it, with their own numbers."""
    found: dict[str, list[tuple[str, Row]]] = {}
    for node, rows in answers:
        for row in rows:
            found.setdefault(row["type"], []).append((node, row))
    return [_handler(name, rows) for name, rows in sorted(found.items())]


def _handler(name: str, rows: list[tuple[str, Row]]) -> Row:
    serving = [(node, row) for node, row in rows if row["attached"] or row["classic"] or row["process"]]
    stoppable = [row["stopped"] for _, row in serving if row["classic"] or row["process"]]
    asked = [row["validates"] for _, row in serving if row.get("validates") is not None]
    each = ("classic", "process", "stopped", "down", "active", "waiting", "answered", "failed", "meanMs", "lastError")
    return {
        "type": name,
        "attached": [one | {"node": node} for node, row in serving for one in row["attached"]],
        "classic": _first(row["classic"] for _, row in serving),
        "process": _first(row["process"] and row["process"] | {"node": node} for node, row in serving),
        "stopped": bool(stoppable) and all(stoppable),
        "down": any(row["down"] for _, row in serving),
        **{key: sum(row[key] for _, row in rows) for key in ("active", "waiting", "answered", "failed")},
        "meanMs": _mean((row["meanMs"], row["answered"]) for _, row in rows),
        "lastError": _first(row["lastError"] for _, row in rows),
        "version": _first(row.get("version") for _, row in serving),  # an earlier release has none
        "validates": all(asked) if asked else None,
        "guards": list(dict.fromkeys(guard for _, row in rows for guard in row.get("guards", ()))),
        "verdicts": added(row["verdicts"] for _, row in rows if row.get("verdicts")),
        "nodes": [{"node": node} | {key: row[key] for key in each} for node, row in serving],
    }


def servers(answers: Answers) -> list[Row]:
    """Returns a row for each other server; ``node`` has the link to it, and is None if no node has."""
    found: dict[str, list[tuple[str, Row]]] = {}
    for node, rows in answers:
        for row in rows:
            found.setdefault(row["name"], []).append((node, row))
    return [_server(rows) for _, rows in sorted(found.items())]


def _server(rows: list[tuple[str, Row]]) -> Row:
    rank = {"up": 0, "classic": 1}
    node, best = min(rows, key=lambda one: rank.get(one[1]["link"], 2))
    retries = [row["retryIn"] for _, row in rows if row["retryIn"] is not None]
    return best | {
        "node": node if best["link"] in rank else None,
        "incoming": sum(row["incoming"] for _, row in rows),
        "inFlight": sum(row["inFlight"] for _, row in rows),
        # Only the row of the node that read the store has these: all nodes share the outbox.
        "waiting": max(row["waiting"] for _, row in rows),
        "dead": max(row["dead"] for _, row in rows),
        "retryIn": min(retries) if retries else None,
        "lastError": _first(row["lastError"] for _, row in rows),
    }


def problems(answers: Answers) -> list[Row]:
    """Returns the problems of all nodes, each with its node."""
    return [row | {"node": node} for node, rows in answers for row in rows]


def outputs(answers: Answers, lines: int) -> list[Row]:
    """Returns the last lines of all nodes by their times."""
    rows = [row | {"node": node} for node, found in answers for row in found]
    rows.sort(key=lambda row: float(row["time"]))
    return rows[-lines:] if lines else []


def histories(own: list[list[Any]], others: Iterable[list[list[Any]]]) -> list[list[Any]]:
    """Adds other nodes' rows (:data:`~bester.server.telemetry.rates.HISTORY_COLUMNS`) to those of the same seconds."""
    found = {round(row[0]): list(row) for row in own}
    for rows in others:
        for row in rows:
            mine = found.get(round(row[0]))
            if mine is None:
                continue
            mean = _mean(((mine[5], mine[1] + mine[2]), (row[5], row[1] + row[2])))
            sums = [first + second for first, second in zip(mine[1:5], row[1:5], strict=True)]
            mine[1:] = [*sums, mean, max(mine[6], row[6]), mine[7] + row[7], mine[8] + row[8]]
    return list(found.values())


def glances(answers: Answers) -> Row:
    """Returns one glance (:func:`bester.server.admin.numbers.glance`) for those of all nodes."""
    all = [one for _, one in answers]
    kinds: dict[str, list[Row]] = {}
    for one in all:
        for name, kind in one["types"].items():
            kinds.setdefault(name, []).append(kind)
    return {
        "rates": added(one["rates"] for one in all) or {},
        "types": {
            name: {
                "answered": round(sum(row["answered"] for row in rows), 2),
                "failed": round(sum(row["failed"] for row in rows), 2),
                "meanMs": _mean((row["meanMs"], row["answered"]) for row in rows),
            }
            for name, rows in kinds.items()
        },
        "latency": {
            "meanMs": _mean(
                (one["latency"]["meanMs"], sum(row["answered"] for row in one["types"].values())) for one in all
            ),
            "p95Ms": max((one["latency"]["p95Ms"] for one in all if one["latency"]["p95Ms"] is not None), default=None),
        },
        "counts": added(one["counts"] for one in all),
        "totals": added(one["totals"] for one in all),
        "loop": {key: max(one["loop"][key] for one in all) for key in ("lagMs", "worstLagMs")},
        "handlers": [row | {"node": node} for node, one in answers for row in one["handlers"]],
        "recordings": [row | {"node": node} for node, one in answers for row in one.get("recordings", ())],
        "nodes": [
            {
                "node": node,
                "version": one["server"]["version"],
                "pid": one["server"]["pid"],
                "uptime": one["server"]["uptime"],
                "draining": one["server"]["draining"],
                "sessions": one["counts"]["sessions"],
                "connections": one["counts"]["connections"],
                "handlers": one["counts"]["handlers"],
                "rate": round(one["rates"].get("good", 0.0) + one["rates"].get("bad", 0.0), 2),
                "lagMs": one["loop"]["worstLagMs"],
                "problems": len(one["problems"]),
            }
            for node, one in answers
        ],
    }


def node(name: str, answer: Row) -> Row:
    """Returns the row of one node in ``status``, from its answer."""
    numbers, process = answer["numbers"], answer["process"]
    return {
        "node": name,
        "version": answer["version"],
        "uptime": process["uptime"],
        "pid": process["pid"],
        "listeners": process["listeners"],
        "connections": numbers["connections"],
        "accounts": answer["accounts"],
        "sessions": numbers["sessions"],
        "underWay": numbers["underWay"],
        "messages": numbers["messages"],
        "problems": len(answer["problems"]),
    }


def starts(answers: Answers) -> Row:
    """Returns the result of ``startHandler``."""
    process = _first(one["process"] and one["process"] | {"node": node} for node, one in answers)
    return {"process": process, "nodes": [node for node, _ in answers]}


def stops(answers: Answers) -> Row:
    """Returns the result of ``stopHandler`` or ``drainHandler``."""
    total: Counter[str] = Counter()
    for _, one in answers:
        total.update({key: value for key, value in one.items() if key != "process"})
    serving = [node for node, one in answers if one["attached"] or one["process"] or one.get("outstanding")]
    return {**total, "process": any(one["process"] for _, one in answers), "nodes": serving}


def _first(values: Iterable[Any]) -> Any:
    return next((value for value in values if value is not None), None)


def _mean(parts: Iterable[tuple[float | None, float]]) -> float | None:
    known = [(mean, times) for mean, times in parts if mean is not None and times]
    total = sum(times for _, times in known)
    return round(sum(mean * times for mean, times in known) / total, 3) if total else None
