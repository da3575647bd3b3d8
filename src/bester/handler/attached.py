"""The attached form: one connection to the server's handler socket (docs/protocol.md, section 6)."""

from __future__ import annotations

import asyncio
from itertools import count

from bester.handler.address import Address, connect
from bester.handler.described import descriptions
from bester.handler.registry import Registry
from bester.handler.runner import Runner
from bester.net.channel import Channel
from bester.protocol.commands import Response
from bester.protocol.handler import ATTACH_ID, DETACH_ID, HandlerConversation
from bester.protocol.refusals import Refuse
from bester.protocol.reports import ConnectError, ConnectionClosed, FatalError, Report, ReportError
from bester.protocol.requests import Cancel, MoreParts, Request
from bester.timeouts import within
from bester.tracing import current_traceparent

_ATTACH_TIMEOUT_S = 10.0
_DETACH_TIMEOUT_S = 1.0


class Attachment:
    """One connection: :meth:`open` it, wait until it is :attr:`lost`, or :meth:`stop` it."""

    def __init__(self, registry: Registry, max_frame_bytes: int) -> None:
        self._registry = registry
        self._max_frame_bytes = max_frame_bytes
        self._conversation = HandlerConversation()
        self._runner = Runner(registry, self._answer, self._fail, max_frame_bytes, self._send_part)
        self._channel: Channel | None = None
        self._fatal: ReportError | None = None
        self._reports: dict[str, asyncio.Future[Report]] = {}
        self._next_id = count(1).__next__
        self.lost: asyncio.Future[ConnectionClosed] = asyncio.get_running_loop().create_future()
        """Done when the connection ended, with the reason."""

    async def open(self, address: Address, name: str, concurrency: int) -> None:
        """Connects and attaches.

        Raises:
            ConnectError: no server answers.
            Refused: the server refuses the handler.
        """
        types, dry_types = self._registry.types, self._registry.dry_types
        some = dry_types if 0 < len(dry_types) < len(types) else None
        hello = self._conversation.attach(
            types,
            name,
            concurrency,
            self._registry.features,
            some,
            described=descriptions(self._registry),
            authentication=address.authentication,
        )
        self._channel = await connect(address, self._make_channel)
        try:
            async with within(_ATTACH_TIMEOUT_S):
                (await self._ask(hello, ATTACH_ID)).raise_for_status()
        except BaseException as error:
            self._channel.abort()
            await self._channel.wait_closed()
            if isinstance(error, ConnectionClosed | TimeoutError):
                raise ConnectError(f"{address}: {error or 'no answer'}", temporary=True) from error
            raise

    def _make_channel(self, lines: bool) -> Channel:
        return Channel(self._max_frame_bytes, self._received, self._ended, lines)

    async def push(self, response: Response, type: str | None) -> Report:
        """Sends commands that no request asked for.

        Raises:
            ConnectionClosed: the commands may or may not have been carried out.
            TypeError: the commands have no form on the wire.
        """
        id = f"push-{self._next_id()}"
        while self._channel is not None and self._channel.full:
            await self._channel.drained()
        return await self._ask(self._conversation.push(id, response, type, current_traceparent()), id)

    async def stop(self, timeout_s: float | None) -> None:
        """Takes no new requests, finishes the outstanding ones within the time limit, and ends the connection."""
        channel = self._channel
        if channel is not None and not self.lost.done():
            try:
                async with within(_DETACH_TIMEOUT_S):
                    await self._ask(self._conversation.detach(), DETACH_ID)
            except (ConnectionClosed, TimeoutError):
                pass  # the connection is gone already; or the server heeds the detach without reporting it
            await self._runner.finish(timeout_s)
            channel.close()
        await self.end()

    async def end(self) -> None:
        """Cancels the outstanding requests and cuts the connection, if there is one."""
        await self._runner.cancel()
        if self._channel is not None:
            if not self._channel.closed:
                self._channel.abort()
            try:
                async with within(_DETACH_TIMEOUT_S):
                    await self._channel.wait_closed()
            except TimeoutError:
                self._channel.abort()
                await self._channel.wait_closed()

    def _ask(self, frame: bytes, id: str) -> asyncio.Future[Report]:
        future: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        if self.lost.done():
            future.set_exception(self.lost.result())
        elif self._channel is not None:
            self._reports[id] = future
            self._channel.write(frame)
        return future

    # -- from the server --------------------------------------------------------------------------------------

    def _received(self, bodies: list[bytes]) -> None:
        receive = self._conversation.receive
        handle = self._runner.handle
        for body in bodies:
            event = receive(body)
            if type(event) is Request:
                handle(event)
            elif type(event) is MoreParts:
                self._runner.grant(event.request_id, event.parts)
            elif type(event) is Cancel:
                self._runner.give_up(event.request_id)
            elif isinstance(event, FatalError):
                self._fatal = event.error
            elif isinstance(event, Report):
                future = self._reports.pop(event.id, None)
                if future is not None and not future.done():
                    future.set_result(event)

    def _answer(self, request: Request, response: Response) -> None:
        if self._channel is not None:
            self._channel.write(self._conversation.answer(request, response))

    async def _send_part(self, request: Request, response: Response) -> None:
        if self._channel is not None:
            self._channel.write(self._conversation.answer(request, response, more=True))
            while self._channel.full:
                await self._channel.drained()

    def _fail(self, request: Request, why: Refuse | None) -> None:
        if self._channel is not None:
            self._channel.write(self._conversation.fail(request, why))

    def _ended(self, cause: Exception | None) -> None:
        if self._fatal is not None:
            error = ConnectionClosed(self._fatal.message, self._fatal.code, self._fatal.temporary)
        else:
            error = ConnectionClosed(f"the connection was lost: {cause or 'closed by the server'}", temporary=True)
        error.__cause__ = cause
        for future in self._reports.values():
            if not future.done():
                future.set_exception(error)
        self._reports.clear()
        self.lost.set_result(error)
