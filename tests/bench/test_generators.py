"""The load generators: those in C and those in Python drive the same servers, and tell the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from bench.figures import BUSY_AT_LEAST, NATS, OURS, SERVER_BUSY, TARGETS, Figures
from bench.machine import nats_server
from bench.peers import Accounts, Peers, Running
from bench.report import targets
from bench.run import Run

from bench import generators

SECONDS = 0.2
LONGER = 1, 10, 50
"""Where other work leaves a window almost empty, so many times as long a one is taken."""
CLIENTS = 3
ENOUGH = 10


def new_run(folder: Path) -> Run:
    return Run(Peers(folder, Accounts(folder, CLIENTS)), SECONDS, 1, 1, 1, lambda what: None)


@pytest.fixture(params=["C", "Python"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    if request.param == "Python":
        monkeypatch.setattr(generators, "missing", lambda: "this test says so")
    elif reason := generators.missing():
        pytest.skip(reason)
    return new_run(tmp_path)


def started(run: Run, name: str, handler: str | None) -> AbstractContextManager[Running]:
    starts: dict[str, Callable[[], AbstractContextManager[Running]]] = {
        "bester": lambda: run.peers.bester(handler=handler),
        "nats-server": lambda: run.peers.nats(handler=handler),
        "relay": run.peers.relay,
    }
    if name == "nats-server" and nats_server() is None:
        pytest.skip("nats-server is not installed")
    return starts[name]()


def filled(measure: Callable[[float], dict[str, Any]]) -> dict[str, Any]:
    """Returns what is found in a window, which is given in seconds, that has enough in it."""
    for times in LONGER:
        try:
            found = measure(times * SECONDS)
        except RuntimeError:  # a load ends where a window is empty
            if times == LONGER[-1]:
                raise
            continue
        if found["count"] > ENOUGH:
            break
    assert found["count"] > ENOUGH
    return found


@pytest.mark.parametrize("name", ["bester", "nats-server", "relay"])
def test_round_trips(run: Run, name: str) -> None:
    with started(run, name, "lean") as server:
        found = filled(lambda seconds: run.load(server, CLIENTS, 2, 1024, seconds))
        assert found["rate"] == pytest.approx(found["count"] / found["seconds"])
        assert found["seconds"] > 0.9 * SECONDS
        assert 0 < found["busy"] <= 1
        assert found["cpuUs"] > 0
        assert filled(lambda seconds: run.load(server, 1, 1, seconds=seconds))["p50Us"] > 1


@pytest.mark.parametrize("name", ["bester", "nats-server", "relay"])
def test_one_message_to_many(run: Run, name: str) -> None:
    with started(run, name, None) as server:
        found = filled(lambda seconds: run.fan(server, CLIENTS, 64, 0, seconds))
        assert found["count"] % CLIENTS == 0
        assert 0 < found["p50Ms"] <= found["maxMs"]


def test_the_relay_in_c(tmp_path: Path) -> None:
    if reason := generators.missing():
        pytest.skip(reason)
    run = new_run(tmp_path)
    with run.peers.relay(in_c=True) as server:
        filled(lambda seconds: run.load(server, CLIENTS, 2, seconds=seconds))
        filled(lambda seconds: run.fan(server, CLIENTS, 64, 0, seconds))


def test_messages_on_connections_of_their_own(run: Run) -> None:
    with started(run, "bester", "classic") as server:
        filled(lambda seconds: run.load(server, CLIENTS, 2, seconds=seconds))


def test_windows_follow_one_another(run: Run) -> None:
    def fewest(seconds: float) -> dict[str, Any]:
        with run.loading(server, CLIENTS, 1, 64, seconds, windows=100) as load:
            counts = [load.result()["count"], load.result()["count"]]
            return {"count": min([*counts, *(rate * seconds for rate in load.rates())])}

    with started(run, "bester", "lean") as server:
        filled(fewest)


def test_a_wrong_reply_is_seen(run: Run) -> None:
    # Nobody passes on: the handler replies, and the report is another.
    with started(run, "bester", "pass") as server:
        server.dialect = "bester"
        with pytest.raises(RuntimeError, match="ended"):
            run.load(server, 1, 1)


def test_a_server_that_waits_gives_no_valid_figure() -> None:
    target = next(target for target in TARGETS if target.scenario == "50x1")
    for busy, valid in ((BUSY_AT_LEAST, True), (BUSY_AT_LEAST - 1, False)):
        figures = Figures()
        for peer in (OURS, NATS):
            figures.add("50x1", peer, "CPU µs", 10.0)
            figures.add("50x1", peer, SERVER_BUSY, busy if peer == NATS else 100.0)
        assert target.valid(figures) is valid
        assert [found["valid"] for found in targets(figures)] == [valid]
        assert {one["peer"]: one["valid"] for one in figures.as_json()} == {OURS: True, NATS: valid}


def test_a_compiled_server_has_bounds_of_its_own() -> None:
    target = next(target for target in TARGETS if target.scenario == "50x1")
    assert target.reached(0.8, compiled=False)
    assert not target.reached(0.8, compiled=True)
    steady = next(target for target in TARGETS if target.scenario == "steady")
    assert steady.bound_of(compiled=True) == steady.bound_of(compiled=False)
