"""Messages for accounts that are away: how fast a server puts them on disk and reports them."""

from __future__ import annotations

import itertools
import json
import sqlite3
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from tests.ports import free_ports

from bench.figures import BARE, OURS
from bench.nodes import passing
from bench.peers import TCP
from bench.programs import module, program
from bench.run import Run
from bench.scenarios.crowds import FIRST

CLIENTS, OUTSTANDING = 50, 32
SIZE = 512
"""Bytes of data in each."""
AWAY = FIRST + 1000
"""The first account of those who are away, one for each client."""
SCENARIO = f"kept {CLIENTS}x{OUTSTANDING}"

Row = tuple[str, str, str, bytes]


def keeping(run: Run, stack: ExitStack) -> None:
    """Measures ours, then a loop that only inserts, as many at a time and as safe on disk; both on new files."""
    add = run.figures.add
    for _ in range(run.rounds):
        run.progress(OURS)
        found = _ours(run)
        for unit, value in found.items():
            add(SCENARIO, OURS, unit, value)
        run.progress(BARE)
        add(SCENARIO, BARE, "1/s", bare(run.peers.new_folder(), round(found["for each commit"]), run.seconds))


def _ours(run: Run) -> dict[str, float]:
    (metrics,) = free_ports(1)
    network = TCP | {"web": {"address": "127.0.0.1", "port": metrics}}
    with run.peers.bester(handler=None, network=network) as server, passing(server):
        processes = {"server": server.pids, "handler": server.handler}
        plan = {
            "port": server.port,
            "to": 0,
            "clients": CLIENTS,
            "outstanding": OUTSTANDING,
            "size": SIZE,
            "seconds": run.seconds,
            "warm_up": run.warm_up,
            "first": AWAY,
            "processes": processes,
        }
        with program(*module("pairs", json.dumps(plan))) as load:
            found = load.result()
        stored, commits = _counters(metrics)
        rate, cpu_us = found["rate"], found["cpuUs"]
        return {
            "1/s": rate,
            "CPU µs": cpu_us["server"],
            "for each commit": stored / commits,
            "server %": rate * cpu_us["server"] / 1e4,
            "handler %": rate * cpu_us["handler"] / 1e4,
            "client %": rate * cpu_us["load"] / 1e4,
        }


def _counters(port: int) -> tuple[float, float]:
    """Returns how many letters a server has stored, and with how many commits."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        values = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[0] != "#")
    return float(values["bester_mailbox_stored_total"]), float(values["bester_store_commit_seconds_count"])


def bare(folder: Path, batch: int, seconds: float) -> float:
    """Returns how many letters in a second a loop inserts that does nothing else."""
    with closing(sqlite3.connect(folder / "bare.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").close()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE letter (position INTEGER PRIMARY KEY, username, delivery_id, type, data)")
        batches = _batches(batch)

        def write() -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO letter (username, delivery_id, type, data) VALUES (?, ?, ?, ?)", next(batches)
            ).close()
            connection.execute("COMMIT")

        return _rate(write, batch, seconds)


def _batches(batch: int) -> Iterator[list[Row]]:
    """Rows for one account after the other."""
    data = b'"' + b"x" * (SIZE - 2) + b'"'
    numbers = itertools.count()
    while True:
        yield [
            (f"c{number % CLIENTS:05d}", f"0123456789abcdef-{number:x}", "echo", data)
            for number in itertools.islice(numbers, batch)
        ]


def _rate(write: Callable[[], None], batch: int, seconds: float) -> float:
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        write()
        count += batch
    return count / (time.perf_counter() - began)
