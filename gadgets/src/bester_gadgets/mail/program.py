"""The gadget as a process: its parts put together, started and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from pathlib import Path

from bester import Handler, Informer
from bester.logsink import set_up_plain_log
from bester_gadgets.mail.delivering import Delivering
from bester_gadgets.mail.listener import Listener
from bester_gadgets.mail.message import TYPE
from bester_gadgets.mail.outgoing import Outbound
from bester_gadgets.mail.settings import MailSettings
from bester_gadgets.mail.smarthost import Route
from bester_gadgets.mail.store import Store
from bester_gadgets.mail.worker import Worker
from bester_gadgets.running import hung_up
from bester_gadgets.settings import read_settings

# A frame is a message with what is around it.
FRAME_BYTES = 64 * 1024
STOP_S = 10.0
"""How long the mail that is just being sent may take at a stop."""


class MailGadget:
    """Serves from :meth:`start` to :meth:`stop`."""

    def __init__(self, settings: MailSettings) -> None:
        """Checks what the settings name.

        Raises:
            SettingsError: a file cannot be used.
        """
        self.settings = settings
        self.store = Store(settings.database)
        # A dry run queues nothing.
        self.handler = Handler(
            settings.handlers, name="mail", dry_run=False, max_frame_bytes=settings.max_message + FRAME_BYTES
        )
        self._informer = Informer(settings.informer)
        delivering = Delivering(settings, self.handler, self._informer, self.store)
        route = Route(settings.smarthost, settings.domain) if settings.smarthost is not None else None
        self._worker = Worker(settings, self.store, delivering, route)
        self.handler.on(TYPE)(Outbound(settings, self.store, delivering, self._worker).handle)
        self.listener = (
            Listener(settings.listen, settings.domain, settings.max_message, delivering) if settings.listen else None
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Opens the queue and the listener; returns before there is a server, which it goes on trying to reach.

        Raises:
            SettingsError: the database, the address or the certificate cannot be used.
        """
        await self.store.open()
        try:
            if self.listener is not None:
                await self.listener.open()
        except BaseException:
            await self.store.close()
            raise
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self.handler.serve()), loop.create_task(self._worker.run())]
        await asyncio.sleep(0)  # now the handler has begun, and can be waited for and stopped

    async def wait(self) -> None:
        """Returns when something ended that should not, with its error.

        Raises:
            Refused: the server does not want this handler.
        """
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def stop(self) -> None:
        """Takes nothing new, finishes what is being delivered, and ends; the queue stays for the next start."""
        if self.listener is not None:
            await self.listener.close()
        self._worker.stop_soon()
        await self.handler.stop()
        await asyncio.wait(self._tasks, timeout=STOP_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._informer.close()
        await self.store.close()


def run(path: Path, say: Callable[[str], None]) -> None:
    """Runs the gadget until SIGTERM or SIGINT.

    Args:
        path: the settings.
        say: prints a line.

    Raises:
        SettingsError: they are wrong, or name what cannot be used.
        Refused: the server does not want this handler.
    """
    settings = read_settings(path, MailSettings).beside(path.parent)
    set_up_plain_log()
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd's, with a line for each command of a stranger
    # asyncio's own loop, because aiosmtpd puts asyncio's TLS on its sockets.
    asyncio.run(_run(settings, say))


async def _run(settings: MailSettings, say: Callable[[str], None]) -> None:
    gadget = MailGadget(settings)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, hung_up)
    await gadget.start()
    try:
        if gadget.listener is not None and settings.listen is not None:
            say(f"mail: listening on {settings.listen.address}:{gadget.listener.port} ({settings.listen.protocol})")
        if settings.smarthost is not None:
            say(f"mail: sending through {settings.smarthost.address}:{settings.smarthost.port}")
        say(f"mail: is ready for {', '.join(settings.domains)}")
        failing = asyncio.ensure_future(gadget.wait())
        waiting = asyncio.ensure_future(stopping.wait())
        await asyncio.wait({failing, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if failing.done():
            failing.result()
        failing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await failing
    finally:
        await gadget.stop()
        say("mail: stopped")
