"""What a client remembers of deliveries, in memory and in a file."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bester.client.seen_deliveries import SeenDeliveries, SeenDeliveriesFile

IDS = st.lists(st.text(max_size=8), max_size=12)


@contextmanager
def opened(path: Path, size: int = 10) -> Iterator[SeenDeliveriesFile]:
    seen = SeenDeliveriesFile(path, size)
    seen.open()
    try:
        yield seen
    finally:
        seen.close()


def test_memory_is_bounded() -> None:
    seen = SeenDeliveries(3)
    seen.record(["a", "b"])
    seen.record(["b", "c", "d"])
    assert len(seen) == 3
    assert [id in seen for id in "abcd"] == [False, True, True, True]
    seen.close()


def test_a_file_outlives_the_process(folder: Path) -> None:
    path = folder / "seen"
    with opened(path) as seen:
        seen.open()  # nothing happens
        seen.record(["a", 'odd "\n\x00 ö 😀'])
    with opened(path) as seen:
        assert "a" in seen
        assert 'odd "\n\x00 ö 😀' in seen
        assert len(seen) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_is_made_private(folder: Path) -> None:
    path = folder / "seen"
    path.touch(mode=0o644)
    with opened(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_a_killed_process_recorded_is_there(folder: Path) -> None:
    program = (
        "import os, signal, sys; from bester.client.seen_deliveries import SeenDeliveriesFile\n"
        "seen = SeenDeliveriesFile(sys.argv[1]); seen.open(); seen.record(['a', 'b']); seen.record(['c'])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = folder / "seen"
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    with opened(path) as seen:
        assert all(id in seen for id in "abc")


@pytest.mark.parametrize("torn", [b'"c', b'"c"', b"\x00\x00\x00"])
def test_a_torn_last_line(folder: Path, torn: bytes) -> None:
    path = folder / "seen"
    path.write_bytes(b'"a"\n"b"\n' + torn)
    with opened(path) as seen:
        assert len(seen) == 2
        seen.record(["d"])
    assert path.read_bytes() == b'"a"\n"b"\n"d"\n'


def test_lines_that_are_no_ids(folder: Path) -> None:
    path = folder / "seen"
    path.write_bytes(b'"a"\n\x00\x00\n12\n\n"\xff"\n"b"\n')
    with opened(path) as seen:
        assert len(seen) == 2


def test_the_file_is_bounded(folder: Path) -> None:
    path = folder / "seen"
    with opened(path, 10) as seen:
        for number in range(100):
            seen.record([str(number)])
            assert path.read_bytes().count(b"\n") <= 20
    with opened(path, 10) as seen:
        assert [number for number in range(100) if str(number) in seen] == list(range(90, 100))
    assert os.listdir(folder) == ["seen"]
    with opened(path, 3) as seen:  # a smaller size: made so when it is opened
        assert len(seen) == 3
    assert path.read_bytes() == b'"97"\n"98"\n"99"\n'


def test_a_file_has_one_client(folder: Path) -> None:
    path = folder / "seen"
    with opened(path, 1) as seen, pytest.raises(BlockingIOError, match="in use by another client"):
        SeenDeliveriesFile(path).open()
    with opened(path, 1) as seen:
        for id in "abc":  # which puts another file in its place
            seen.record([id])
        with pytest.raises(BlockingIOError):
            SeenDeliveriesFile(path).open()
    with opened(path) as seen:
        assert "c" in seen


def test_a_file_that_cannot_be_made(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SeenDeliveriesFile(folder / "none" / "seen").open()
    with pytest.raises(IsADirectoryError):
        SeenDeliveriesFile(folder).open()


def test_what_is_recorded_while_it_is_closed(folder: Path) -> None:
    with opened(folder / "seen") as seen:
        pass
    seen.record(["a"])
    assert "a" in seen
    seen.open()
    assert "a" in seen
    seen.close()
    assert (folder / "seen").read_bytes() == b'"a"\n'


def test_a_full_disk(folder: Path) -> None:
    path = folder / "seen"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with opened(path, 20) as seen:
        try:
            seen.record(["a" * 10])
            resource.setrlimit(resource.RLIMIT_FSIZE, (30, limits[1]))
            with pytest.raises(OSError, match="seen"):
                seen.record(["b" * 10, "c" * 10])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        assert "b" * 10 not in seen
        assert path.read_bytes() == b'"aaaaaaaaaa"\n'
        seen.record(["b"])
    assert path.read_bytes() == b'"aaaaaaaaaa"\n"b"\n'


def test_where_it_cannot_be_rewritten_it_goes_on_to_grow(folder: Path) -> None:
    path = folder / "seen"
    (folder / "seen.new").mkdir()
    with opened(path, 2) as seen:
        for number in range(12):
            seen.record([str(number)])
        assert "11" in seen
    with opened(path, 2) as seen:
        assert "11" in seen
        assert len(seen) == 2


@settings(deadline=None)  # it waits for the disk
@given(batches=st.lists(st.tuples(IDS, st.booleans()), max_size=12), size=st.integers(1, 6), cut=st.integers(0, 40))
def test_it_is_as_memory_is(batches: list[tuple[list[str], bool]], size: int, cut: int) -> None:
    """However often it is closed in between, and whatever is cut off its end: the newest, and nothing else."""
    everything = {id for ids, _ in batches for id in ids}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "seen"
        seen, memory = SeenDeliveriesFile(path, size), SeenDeliveries(size)
        seen.open()
        for ids, again in batches:
            seen.record(ids)
            memory.record(ids)
            if again:
                seen.close()
                seen.open()
            assert all((id in seen) == (id in memory) for id in everything)
        seen.close()
        content = path.read_bytes()
        content = content[: max(0, len(content) - cut)]
        path.write_bytes(content)
        whole = [json.loads(line) for line in content.split(b"\n")[:-1]]
        newest = list(dict.fromkeys(reversed(whole)))[:size]
        with opened(path, size) as seen:
            assert {id for id in everything if id in seen} == set(newest)
