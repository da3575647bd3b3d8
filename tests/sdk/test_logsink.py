"""A log that nobody reads: nothing waits for it, what has no room is counted, and the log tells what is missing."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.waiting import PATIENCE_S

from bester.logsink import MAX_BYTES, Sink, SinkHandler

LINE = "x" * 1000
PIPE_BYTES = 64 * 1024
"""What a pipe holds."""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def read_until(reading: int, end: bytes) -> bytes:
    text = b""
    while not text.endswith(end):
        text += os.read(reading, 1 << 20)
    return text


def test_lines_come_whole_and_in_order(pipe: tuple[int, int]) -> None:
    sink = Sink(pipe[1])
    for number in range(1000):
        assert sink.write(f"{number} caf\N{LATIN SMALL LETTER E WITH ACUTE} \udc80")
    lines = read_until(pipe[0], b"999 caf\xc3\xa9 \\udc80\n").decode().splitlines()
    assert lines == [f"{number} café \\udc80" for number in range(1000)]
    assert sink.flush(PATIENCE_S)


def test_what_has_no_room_is_counted_and_told(pipe: tuple[int, int]) -> None:
    sink = Sink(pipe[1])
    logger = logging.Logger("test")
    handler = SinkHandler(sink)
    logger.addHandler(handler)
    count = (MAX_BYTES + PIPE_BYTES) // (len(LINE) + 1) + 50
    for _ in range(count):
        logger.warning(LINE)
    assert 0 < sink.dropped <= 50 + PIPE_BYTES // (len(LINE) + 1) + 1  # as much as is in the pipe already
    assert not sink.flush(0.01)
    taken = b""
    while not sink.flush(0.001):
        taken += os.read(pipe[0], 1 << 20)
    logger.warning("read again")
    rest = taken + read_until(pipe[0], b"read again\n")
    assert rest.count(LINE.encode()) == count - sink.dropped
    missing = f"\n{sink.dropped} lines of the log are missing here: nobody read it in time\nread again\n"
    assert missing.encode() in rest


def test_a_reader_that_is_gone_is_no_error(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    sink = Sink(pipe[1])
    assert sink.write("nobody reads this")
    assert sink.flush(PATIENCE_S)


def test_a_descriptor_that_does_not_block_is_waited_for(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    sink = Sink(pipe[1])
    for _ in range(200):
        sink.write(LINE)
    sink.write("end")
    assert read_until(pipe[0], b"end\n").count(LINE.encode()) == 200


def test_the_end_of_the_program_waits_for_its_last_lines_but_not_for_ever() -> None:
    program = (
        "import logging; from bester.logsink import set_up_plain_log; set_up_plain_log()\n"
        "for n in range(3000): logging.getLogger('test').info('%d %s', n, 'x' * 100)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) as process:
        assert process.wait(PATIENCE_S) == 0  # though nobody has read
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1].startswith("INFO test: 2999 x")
