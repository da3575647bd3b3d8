"""Runs a gadget as a process: its handler and what else it does, until a signal."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from bester import Handler
from bester.logsink import set_up_plain_log

log = logging.getLogger("bester.gadgets")


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a gadget's coroutine in a loop of its own, with its log on standard error."""
    import uvloop  # only whoever runs the loop chooses it

    set_up_plain_log()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def serve(handlers: Sequence[Handler], *others: Coroutine[Any, Any, None]) -> None:
    """Serves until SIGTERM or SIGINT; then the others are cancelled, and after them the handlers finish.

    What the others do at their end can still be pushed.

    A second signal ends it at once.

    Raises:
        Refused: the server does not want one of the handlers.
        Exception: what one of the others raised.
    """
    loop = asyncio.get_running_loop()
    here = asyncio.current_task()
    assert here is not None
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            here.cancel()
        stopping.set()

    waiting = loop.create_task(stopping.wait())
    serving = [loop.create_task(handler.serve()) for handler in handlers]
    beside = [loop.create_task(one) for one in others]
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, hung_up)
    try:
        await asyncio.wait([waiting, *serving, *beside], return_when=asyncio.FIRST_COMPLETED)
        await _ended(beside)
        await asyncio.gather(*(handler.stop() for handler in handlers))
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
        await _ended(beside)
        await _ended([waiting, *serving])
    for task in (*serving, *beside):
        if not task.cancelled():
            task.result()


def hung_up() -> None:
    """SIGHUP ends no gadget: files are read again when they are needed, without being told."""
    log.info("SIGHUP: certificates and passwords are read again when their files change; other settings at the start")


async def _ended(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
