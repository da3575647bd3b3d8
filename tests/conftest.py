"""For all tests: long files first, passwords cost next to nothing, one NATS serves all, ``PATH`` has ``node``."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from tests import forking
from tests.javascript import environment
from tests.nats import NatsServer

import bester
from bester.bus import connection as bus
from bester.compiled import build
from bester.server import runtime
from bester.store import passwords

LONG = "web", "bench", "system", "faults", "lab", "workbench", "cluster", "gadgets", "docs", "properties"
"""The folders whose files can take half a minute: no process is to be left alone with one of them at the end."""
SWEEP_S = 0.02
REAL_WORK = {"MEMORY_KIB": passwords.MEMORY_KIB, "PASSES": passwords.PASSES}
os.environ["PATH"] = environment()["PATH"]


def pytest_report_header() -> str:
    return f"bester: {build()}, {Path(bester.__file__).parent}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts by folder; the order in a folder stays."""
    root = Path(__file__).parents[1]
    order = {name: place for place, name in enumerate(LONG)}

    def place(item: pytest.Item) -> int:
        top, below, *_ = item.path.relative_to(root).parts
        return order.get(below if top == "tests" else top, len(LONG))

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """Lets no garbage collection look again at what was collected, which stays until the end."""
    gc.freeze()


def pytest_unconfigure() -> None:
    forking.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Lets no half character of what was printed or logged end the run: xdist sends UTF-8 alone."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(autouse=True, scope="session")
def _little_work() -> Iterator[None]:
    """As little work as argon2 can be told to do, in this process; the real work is 20 ms for each login."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "MEMORY_KIB", 8)
        patch.setattr(passwords, "PASSES", 1)
        yield


@pytest.fixture(autouse=True, scope="session")
def _quick_sweeps() -> Iterator[None]:
    """Lets servers in this process look at deadlines so often that no test waits for the next look."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "SWEEP_S", SWEEP_S)
        patch.setattr(bus, "SWEEP_S", SWEEP_S)
        yield


@pytest.fixture
def real_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work that a server does."""
    for name, value in REAL_WORK.items():
        monkeypatch.setattr(passwords, name, value)


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A real NATS server; each test has a server's name of its own there."""
    made = NatsServer(tmp_path_factory.mktemp("nats"))
    yield made
    made.kill()
