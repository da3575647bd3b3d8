"""The checks of a handler of the classic form (docs/protocol.md, section 3)."""

from __future__ import annotations

import asyncio
import os

from bester.timeouts import within
from bester.workbench.bench import Bench
from bester.workbench.check import check
from bester.workbench.checks import COMMON
from bester.workbench.classic import ClassicBench
from bester.workbench.contract import Failed, Skipped

_MESSAGES = 48
"""How many connections are made to check whether the handler keeps any of them."""
_SPARE = 20
"""How many more descriptors it may have afterwards, for caches, pools or a new log."""
_STOP_S = 3.0
"""The time after which a server kills the handler."""


def _here(bench: Bench) -> ClassicBench:
    assert isinstance(bench, ClassicBench)
    return bench


@check("listen", "3.1", "The handler listens on the socket in BESTER_SOCKET.")
async def listen(bench: Bench) -> None:
    _, writer = await _here(bench).connect()
    writer.close()


@check(
    "answer",
    "3.2",
    "The handler reads one frame and answers with one, without waiting for the end: a status, commands of section 3.3.",
)
async def answer(bench: Bench) -> None:
    sample = bench.sample
    answer = await _here(bench).ask(sample, quiet=True)
    if not answer.good:
        if bench.options.sample is not None:
            raise Failed(f"the sample was answered with {answer.refusal}")
        bench.note = "it did not accept the sample, which it need not; give data that it accepts with --sample"
    bench.compare(sample, answer)


@check("probe", "10.1", "A server may connect and send nothing, to see whether a handler listens.")
async def probe(bench: Bench) -> None:
    here = _here(bench)
    for _ in range(3):
        _, writer = await here.connect()
        writer.close()
        await writer.wait_closed()
    await bench.serves_on()


@check("let-go", "3.1", "The server closes after the answer; the handler keeps none of the connections.")
async def let_go(bench: Bench) -> None:
    here = _here(bench)
    await here.ask(here.sample)  # after this the handler certainly listens
    pid = here.pid()
    before = _descriptors(pid)
    for _ in range(_MESSAGES // here.at_once):
        await here.ask_all([here.sample] * here.at_once)
    deadline = asyncio.get_running_loop().time() + here.options.timeout_s
    while (kept := _descriptors(pid) - before) > _SPARE:
        if asyncio.get_running_loop().time() > deadline:
            raise Failed(f"after {_MESSAGES} messages the handler has {kept} more open descriptors")
        await asyncio.sleep(0.02)


def _descriptors(pid: int | None) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        raise Skipped("the handler's open descriptors cannot be counted here") from None


@check("stop", "10.1", "A handler that a server started ends within 3 s after SIGTERM.")
async def stop(bench: Bench) -> None:
    process = bench.process
    if process is None:
        raise Skipped("the handler was not started here")
    bench.stopping = True
    process.terminate()
    bench.transcript.note("SIGTERM")
    try:
        async with within(_STOP_S):
            await asyncio.shield(process.ended)
    except TimeoutError:
        raise Failed(
            f"the handler did not end within {_STOP_S:g} s after SIGTERM; a server then uses SIGKILL"
        ) from None


CLASSIC = (listen, answer, *COMMON, probe, let_go, stop)
"""All checks of this form, in the order in which they are run."""
