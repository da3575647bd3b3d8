"""The public interface of handlers.

A handler is *started* until it is *stopped*; in between it is attached, or waits to attach again. A program needs only
``run``; ``start``, ``stop`` and ``wait_attached`` are for applications with their own event loop.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from types import TracebackType
from typing import Self

from bester.backoff import Backoff
from bester.handler.address import find_address
from bester.handler.attached import Attachment
from bester.handler.classic import ClassicListener
from bester.handler.export import exporting
from bester.handler.registry import Registry
from bester.handler.router import Router
from bester.handler.runner import log
from bester.logsink import set_up_plain_log
from bester.protocol.commands import Response
from bester.protocol.refusals import Refuse
from bester.protocol.reports import ClientError, ConnectError, ConnectionClosed, Refused, Report
from bester.timeouts import within

HandlerError = Refuse
"""The former name of :class:`Refuse`, from before senders were told of refusals."""

DEFAULT_MAX_FRAME_BYTES = 1024 * 1024 + 64 * 1024


class Handler(Router):
    """Handles messages of one or more types.

    ::

        handler = Handler()

        @handler.on("chat")
        def chat(message):
            return SendClients(["g"], message.data)

        handler.run()

    Args:
        address: the path of the server's handler socket, or ``tls://user:token@host:port`` of a server on another
            machine (see :mod:`bester.handler.address`); None: the environment's ``BESTER_HANDLERS``, or
            ``besterHandlers`` if that is not set. A program that a server has started with ``"transport": "stdio"``
            speaks to it over its standard input and output.
        name: the name that operators see; None: the types.
        concurrency: how many requests the server may have outstanding here.
        classic: listen on this socket in the classic form, instead of attaching; True takes the path from the
            environment's ``BESTER_SOCKET``, which a server sets for the handlers that it starts.
        dry_run: whether the functions are called in dry runs too, with ``message.dry_run`` set. A function that does
            more than answer must then do nothing else; otherwise give False here or in :meth:`on`, so that it is not
            called (docs/protocol.md, section 7).
        max_frame_bytes: the largest frame that is accepted.
        retry_first_s: the pause before the first attempt to attach again; it doubles each time, varied at random,
        retry_max_s: up to this.
        grace_s: how long the outstanding requests may take to finish when the handler is stopped.
    """

    def __init__(
        self,
        address: str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        concurrency: int = 64,
        classic: str | os.PathLike[str] | bool | None = None,
        dry_run: bool = True,
        max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES,
        retry_first_s: float = 0.1,
        retry_max_s: float = 5.0,
        grace_s: float = 30.0,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1; got {concurrency}")
        self._address = find_address(address)
        self._classic_path = _classic_path(classic)
        self._name = name
        self._concurrency = concurrency
        self._max_frame_bytes = max_frame_bytes
        self._retry_first_s = retry_first_s
        self._retry_max_s = retry_max_s
        self._grace_s = grace_s
        super().__init__()
        self.dry_run = dry_run
        self._attachment: Attachment | None = None
        self._ready: asyncio.Event | None = None
        self._stopping: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def types(self) -> list[str]:
        """The types that have a function."""
        return self.registry.types

    @property
    def classic(self) -> bool:
        """Whether it has the classic form, in which it is called by the server."""
        return self._classic_path is not None

    @property
    def registry(self) -> Registry:
        """What is registered by now, as the handler runs it; for tests and descriptions.

        Raises:
            TypeError, ValueError: what is registered does not fit together.
        """
        return Registry(self)

    # -- to run -----------------------------------------------------------------------------------------------

    def run(self, on_attached: Callable[[], None] | None = None) -> None:
        """Handles messages until SIGTERM or SIGINT; then finishes the outstanding messages and returns.

        Sends OpenTelemetry spans to ``OTEL_EXPORTER_OTLP_ENDPOINT``, if that is set (docs/tracing.md).

        Args:
            on_attached: called when the handler is attached for the first time.

        Raises:
            Refused: the server refuses the handler, because of its types or its name.
            bester.errors.BadConfiguration: the classic socket cannot be created.
        """
        import uvloop  # only the code that runs the loop chooses it

        set_up_plain_log()
        with (
            exporting(self._name or ",".join(self.types)),
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(self._run(on_attached))

    async def _run(self, on_attached: Callable[[], None] | None) -> None:
        loop = asyncio.get_running_loop()
        serving = self._begin()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask_to_stop)
        try:
            if on_attached is not None and await self._attached_first(serving):
                on_attached()
            await asyncio.wait([serving])
            if not serving.cancelled():  # it is cancelled if we were asked to stop twice
                serving.result()
        finally:
            serving.cancel()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def _attached_first(self, serving: asyncio.Task[None]) -> bool:
        """Waits until the handler is attached; returns False if it ends before that."""
        assert self._ready is not None
        ready = asyncio.ensure_future(self._ready.wait())
        try:
            await asyncio.wait({ready, serving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waited = not ready.cancel()
        return waited

    def _ask_to_stop(self) -> None:
        if self._stopping is not None:
            if self._stopping.is_set() and self._task is not None:
                self._task.cancel()  # asked twice: stop at once
            self._stopping.set()

    async def serve(self) -> None:
        """Handles messages until :meth:`stop`; if cancelled, ends without waiting for the outstanding messages.

        Raises:
            Refused, bester.errors.BadConfiguration: as :meth:`run`.
        """
        task = self._begin()
        try:
            await task
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            raise

    async def start(self, timeout: float | None = None) -> None:
        """Begins to handle messages in the background; returns when the handler is attached. End it with :meth:`stop`.

        Raises:
            TimeoutError: there is no server yet; the handler keeps trying.
            Refused, bester.errors.BadConfiguration: as :meth:`run`.
        """
        self._begin()
        await self.wait_attached(timeout)

    def _begin(self) -> asyncio.Task[None]:
        if self._task is not None and not self._task.done():
            raise RuntimeError("the handler runs already")
        registry = self.registry
        types = registry.types
        if not types:
            raise RuntimeError("no type has a function; register one with @handler.on(type)")
        if self.classic and len(types) != 1:
            raise RuntimeError(
                f"a handler of the classic form has one type, because the server does not say it; got {len(types)}"
            )
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._serve(registry))
        return self._task

    async def _serve(self, registry: Registry) -> None:
        async with registry.lifespans():
            if self._classic_path is None:
                await self._serve_attached(registry)
            else:
                await self._serve_classic(registry, self._classic_path)

    async def stop(self) -> None:
        """Takes no new messages, finishes the outstanding ones (for at most ``grace_s``), and ends."""
        if self._task is not None and self._stopping is not None:
            self._stopping.set()
            await asyncio.wait([self._task])

    async def wait_attached(self, timeout: float | None = None) -> None:
        """Waits until the handler is attached (in the classic form: until it listens).

        Raises:
            TimeoutError: it is not attached in time.
            ConnectionClosed: the handler was stopped first.
            Refused, bester.errors.BadConfiguration: as :meth:`run`.
        """
        if self._task is None or self._ready is None:
            raise RuntimeError("the handler is not started")
        if self._ready.is_set() and not self._task.done():
            return
        async with within(timeout):
            await self._attached_first(self._task)
        if self._task.done():
            await self._task
            raise ConnectionClosed("the handler is stopped")

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except asyncio.CancelledError:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def push(self, command: Response, *, type: str | None = None, timeout: float | None = None) -> Report:
        """Sends a command without a request; returns the report, good or bad. Waits until the handler is attached.

        Args:
            command: a command or commands, as functions return them; a command without data carries null.
            type: the type of messages whose command does not give one; None: this handler's first type.
            timeout: seconds.

        Raises:
            ConnectionClosed: the command may or may not have been carried out.
            TimeoutError: no report in time; the command may or may not have been carried out.
            RuntimeError: the handler is not started; or it has the classic form, and can only answer.
            TypeError: the command has no form on the wire.
        """
        if self.classic:
            raise RuntimeError("a handler of the classic form can only answer; it cannot push")
        async with within(timeout):
            await self.wait_attached()
            assert self._attachment is not None
            return await self._attachment.push(command, type)

    # -- the two forms ----------------------------------------------------------------------------------------

    async def _serve_classic(self, registry: Registry, path: str) -> None:
        assert self._ready is not None
        assert self._stopping is not None
        listener = ClassicListener(path, registry, self._max_frame_bytes)
        await listener.open()
        grace_s: float = 0
        try:
            self._ready.set()
            await self._stopping.wait()
            grace_s = self._grace_s
        finally:
            await listener.stop(grace_s)

    async def _serve_attached(self, registry: Registry) -> None:
        assert self._stopping is not None
        backoff = Backoff(self._retry_first_s, self._retry_max_s)
        while not self._stopping.is_set():
            try:
                error: ClientError | None = await self._attach_once(registry)
                backoff.reset()
            except ConnectError as refusal:
                error = refusal
            except Refused as refusal:
                if not refusal.temporary:
                    raise
                error = refusal
            if error is None:
                return
            if self._address.stdio:  # the server that started the program starts it again
                if isinstance(error, ConnectError):
                    raise error
                return
            wait_s = backoff.next_s()
            log.warning("%s; trying again in %.1f s", error, wait_s)
            try:
                async with within(wait_s):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def _attach_once(self, registry: Registry) -> ConnectionClosed | None:
        """Attaches and serves; returns why the connection ended, or None if we were asked to stop."""
        assert self._ready is not None
        assert self._stopping is not None
        attachment = Attachment(registry, self._max_frame_bytes)
        name = self._name if self._name is not None else ",".join(registry.types)
        await attachment.open(self._address, name, self._concurrency)
        self._attachment = attachment
        self._ready.set()
        log.info("attached to %s for %s", self._address, ", ".join(registry.types))
        stopping: asyncio.Future[bool] = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((stopping, attachment.lost), return_when=asyncio.FIRST_COMPLETED)
            if attachment.lost.done():
                return attachment.lost.result()
            self._ready.clear()
            await attachment.stop(self._grace_s)
            return None
        finally:
            stopping.cancel()
            self._ready.clear()
            await attachment.end()


def _classic_path(classic: str | os.PathLike[str] | bool | None) -> str | None:
    if classic is True:
        path = os.environ.get("BESTER_SOCKET")
        if not path:
            raise ValueError("classic=True reads the path from BESTER_SOCKET, which is not set")
        return path
    return os.fspath(classic) if classic else None
