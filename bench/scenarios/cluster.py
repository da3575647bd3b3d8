"""Nodes of one server: what it costs to be one of several, and what a message costs that goes from one to another."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import Any

from bench.figures import OURS
from bench.machine import memory_kib, nats_server
from bench.nodes import Pair, pair, passing, traffic
from bench.peers import Accounts, Running
from bench.programs import module, program
from bench.run import Run
from bench.scenarios.crowds import FIRST, SETTLED_S

LOADS = (("50x8", 50, 8), ("50x1", 50, 1))
ALONE, WITH = "one server", "node, all of it here"
CROSSING = {
    "handler": "node, handler at the other",
    "recipient": "node, recipient at the other",
    "both": "node, both at the other",
}
CROWD = 10_000
"""Idle clients at each node."""
BEFORE = 100
"""Clients that are connected before memory is counted."""
AWAY = FIRST + 1000
"""The first account of those who are away."""


def cluster(run: Run, stack: ExitStack) -> None:
    """Measures messages within a node, between nodes and to mailboxes; then many idle clients."""
    if nats_server() is None:
        run.figures.notes.append("The cluster is not measured: nats-server is not installed.")
        return
    few = Accounts(run.peers.new_folder(), AWAY + 100)
    with run.peers.bester(handler=None) as alone, passing(alone), pair(run.peers, few) as nodes:
        _messages(run, alone, nodes)
        _kept(run, nodes, "letters")
    with pair(run.peers, few, sync="always") as nodes:
        _kept(run, nodes, "letters, synced")
    count = min(CROWD, run.crowd)
    run.progress("accounts move into the cluster")
    many = Accounts(run.peers.new_folder(), FIRST + 2 * (count + BEFORE))
    with pair(run.peers, many) as nodes:
        run.figures.add("import", OURS, "accounts/s", many.count / nodes.import_s)
        _idle(run, nodes, count)


def _load(run: Run, plan: dict[str, Any]) -> dict[str, Any]:
    plan = {"size": 64, "seconds": run.seconds, "warm_up": run.warm_up, "first": FIRST} | plan
    with program(*module("pairs", json.dumps(plan))) as load:
        return load.result()


def _messages(run: Run, alone: Running, nodes: Pair) -> None:
    """Measures all paths in turns; the handler is at one node, and the senders are at that one or at the other."""
    both = {"nodes": nodes.pids, "nats": [nodes.nats]}
    ways = {
        ALONE: (alone, alone, {"nodes": alone.pids}),
        WITH: (nodes.other, nodes.other, both),
        CROSSING["handler"]: (nodes.one, nodes.one, both),
        CROSSING["recipient"]: (nodes.other, nodes.one, both),
        CROSSING["both"]: (nodes.one, nodes.other, both),
    }
    turns = list(ways)
    figures = run.figures
    with passing(nodes.other):
        for name, clients, outstanding in LOADS:
            for round in range(run.rounds):
                for way in turns[round % len(turns) :] + turns[: round % len(turns)]:
                    run.progress(f"{name}, {way}")
                    here, there, processes = ways[way]
                    plan = {"port": here.port, "to": there.port, "clients": clients, "outstanding": outstanding}
                    before = traffic(nodes)
                    found = _load(run, plan | {"processes": processes})
                    figures.add(f"pairs {name}", way, "CPU µs", found["cpuUs"]["nodes"])
                    figures.add(f"pairs {name}", way, "1/s", found["rate"])
                    if way in CROSSING.values():
                        figures.add(f"pairs {name}", way, "nats-server CPU µs", found["cpuUs"]["nats"])
                        whole = found["rate"] * (run.seconds + run.warm_up)
                        figures.add(f"pairs {name}", way, "NATS messages for each", (traffic(nodes) - before) / whole)
            used = {way: figures.get(f"pairs {name}", way, "CPU µs") or 0.0 for way in ways}
            figures.add(f"pairs {name}", OURS, "node / one server", used[WITH] / used[ALONE])
            for what, way in CROSSING.items():
                figures.add(f"pairs {name}", OURS, f"{what} there / here", used[way] / used[WITH])


def _kept(run: Run, nodes: Pair, name: str) -> None:
    """Measures letters for accounts that are away."""
    with passing(nodes.one):
        for clients, outstanding in ((50, 8), (1, 1)):
            for _ in range(run.rounds):
                run.progress(f"{name} {clients}x{outstanding}")
                processes = {"nodes": nodes.pids, "nats": [nodes.nats]}
                plan = {"port": nodes.one.port, "to": 0, "clients": clients, "outstanding": outstanding}
                found = _load(run, plan | {"first": AWAY, "processes": processes})
                add = run.figures.add
                add(f"{name} {clients}x{outstanding}", OURS, "1/s", found["rate"])
                add(f"{name} {clients}x{outstanding}", OURS, "CPU µs", found["cpuUs"]["nodes"])
                add(f"{name} {clients}x{outstanding}", OURS, "nats-server CPU µs", found["cpuUs"]["nats"])


def _idle(run: Run, nodes: Pair, count: int) -> None:
    """Measures, once, many idle clients at each node."""
    with ExitStack() as stack:
        crowds = []
        for number, node in enumerate((nodes.one, nodes.other)):
            command = module("crowd", "bester", str(node.port), str(FIRST + number * (count + BEFORE)))
            crowds.append(stack.enter_context(program(*command)))
        for crowd in crowds:
            crowd.tell(f"add {BEFORE}")
            crowd.result()
        time.sleep(SETTLED_S)
        before = memory_kib(nodes.pids), memory_kib([nodes.nats])
        began = time.monotonic()
        for crowd in crowds:
            crowd.tell(f"add {count}")
        run.progress(f"{2 * count:,} log in")
        came = [crowd.result() for crowd in crowds]
        seconds = time.monotonic() - began
        time.sleep(SETTLED_S)
        add = run.figures.add
        add("idle at two nodes", OURS, "clients", sum(one["clients"] - one["lost"] for one in came))
        add("idle at two nodes", OURS, "failures", sum(one["failures"] + one["lost"] for one in came))
        add("idle at two nodes", OURS, "logins/s", 2 * count / seconds)
        add("idle at two nodes", OURS, "KiB", (memory_kib(nodes.pids) - before[0]) / (2 * count))
        add("idle at two nodes", "nats-server", "KiB", (memory_kib([nodes.nats]) - before[1]) / (2 * count))
