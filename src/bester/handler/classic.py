"""The classic form: the server opens a connection for each message (docs/protocol.md, section 3)."""

from __future__ import annotations

from bester.handler.registry import Registry
from bester.handler.runner import Runner, log
from bester.net.channel import Channel
from bester.net.listeners import UnixListener
from bester.protocol.commands import Response
from bester.protocol.handler import classic_answer, classic_failure, classic_request
from bester.protocol.refusals import Refuse
from bester.protocol.requests import Request
from bester.timeouts import within

_CLOSE_TIMEOUT_S = 5.0


class ClassicListener:
    """Answers on a socket until it is stopped."""

    def __init__(self, path: str, registry: Registry, max_frame_bytes: int) -> None:
        self._type = registry.types[0]
        self._max_frame_bytes = max_frame_bytes
        self._listener = UnixListener(path)
        self._runner = Runner(registry, self._answer, self._fail, max_frame_bytes)
        self._channels: dict[Channel, None] = {}
        self._asked: dict[str, Channel] = {}
        self._count = 0

    async def open(self) -> None:
        """Listens; replaces a socket on which nobody answers.

        Raises:
            bester.errors.BadConfiguration: another process answers on the socket, or it cannot be created.
        """
        self._listener.open(lambda arrival: self._make_channel())

    def _make_channel(self) -> Channel:
        channel = Channel(
            self._max_frame_bytes,
            lambda bodies: self._received(channel, bodies),
            lambda cause: self._ended(channel, cause),
        )
        self._channels[channel] = None
        return channel

    def _received(self, channel: Channel, bodies: list[bytes]) -> None:
        self._count += 1
        request = classic_request(self._type, bodies[0])
        request.request_id = str(self._count)  # not on the wire: says which connection gets the answer
        self._asked[request.request_id] = channel
        if len(bodies) > 1:
            log.warning("more than one message on a connection of the classic form: only the first is answered")
        self._runner.handle(request)

    def _answer(self, request: Request, response: Response) -> None:
        self._reply(request, classic_answer(request, response))

    def _fail(self, request: Request, why: Refuse | None) -> None:
        self._reply(request, classic_failure(why))

    def _reply(self, request: Request, frame: bytes) -> None:
        channel = self._asked.pop(request.request_id)
        channel.write(frame)
        channel.close()

    def _ended(self, channel: Channel, cause: Exception | None) -> None:
        self._channels.pop(channel, None)
        if cause is not None:
            log.info("a connection of the classic form was lost: %s", cause)

    async def stop(self, timeout_s: float | None) -> None:
        """Stops accepting, finishes the outstanding requests within the time limit, and ends all connections."""
        self._listener.close()
        await self._runner.finish(timeout_s)
        for channel in list(self._channels):
            channel.close()
        for channel in list(self._channels):
            try:
                async with within(_CLOSE_TIMEOUT_S):
                    await channel.wait_closed()
            except TimeoutError:
                channel.abort()
                await channel.wait_closed()
