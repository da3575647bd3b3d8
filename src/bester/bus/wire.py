"""What nats-py lacks for many subjects and many messages: plain callbacks, and publishing without a coroutine.

A subscription of nats-py has a queue of its own, and a task where it has a callback; a server with ten thousand
accounts online has as many subscriptions. A :class:`Listening` is only looked up and called. All that is used of
nats-py beyond its public interface is in this file: ``_subs`` and what becomes of them after a reconnection and at the
end, ``_process_msg``, ``_connect_command``, ``_pending`` with its flusher, the task that connects again, and
the transport.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

from nats.aio.client import Client
from nats.aio.transport import TcpTransport
from nats.errors import Error

from bester import dialling
from bester.timeouts import within

Heard = Callable[[str, str, bytes, bytes], None]
"""Called with subject, subject for replies (or ``""``), header block (or ``b""``) and data."""


class Listening:
    """Interest in one subject; made by :meth:`WireClient.listen`."""

    __slots__ = ("_id", "_queue", "_subject", "callback")

    # What nats-py asks of each subscription.
    _max_msgs = 0
    _received = 0
    _wait_for_msgs_task = None
    _message_iterator = None
    _pending_next_msgs_calls = None

    def __init__(self, id: int, subject: str, queue: str, callback: Heard) -> None:
        self._id = id
        self._subject = subject
        self._queue = queue
        self.callback = callback


class _Kept(dict[int, Any]):
    """Interest that outlives its client, which forgets all when it is closed."""

    def clear(self) -> None:
        pass


class _Dialled(TcpTransport):
    """Tries the addresses of a server as all our dialling does, with the certificates that are in the files then."""

    def __init__(self, context: Callable[[], ssl.SSLContext | None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._context = context

    async def connect(self, uri: Any, buffer_size: int, connect_timeout: float) -> None:
        async with within(connect_timeout):
            connected = await dialling.connected(await dialling.addresses([(uri.hostname, uri.port)]))
            reader, writer = await asyncio.open_connection(sock=connected, limit=buffer_size)
        self._bare_io_reader = self._io_reader = reader
        self._bare_io_writer = self._io_writer = writer

    async def connect_tls(
        self, uri: Any, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: float
    ) -> None:
        await super().connect_tls(uri, self._context() or ssl_context, buffer_size, int(connect_timeout))


class WireClient(Client):
    """A NATS client whose subscriptions are plain callbacks, called by its reader."""

    _subs: dict[int, Any]
    _pending: list[bytes]

    def __init__(self, context: Callable[[], ssl.SSLContext | None] = lambda: None) -> None:
        """Makes one that is not connected; ``context`` is asked at each connection whose TLS is configured."""
        super().__init__()
        self._subs = _Kept()
        self._transport = _Dialled(context)

    @property
    def gave_up(self) -> bool:
        """Whether it is not connected, and never will be again."""
        if self.is_connected:
            return False
        return self.is_closed or (self._reconnection_task is not None and self._reconnection_task.done())

    def take_over(self, before: WireClient) -> None:
        """Listens to all that one listened to that is closed."""
        self._subs, self._sid = before._subs, before._sid
        for sid, listening in self._subs.items():
            self._send(f"SUB {listening._subject} {listening._queue} {sid}\r\n".encode())

    def listen(self, subject: str, callback: Heard, queue: str = "") -> Listening:
        """Subscribes; also while the connection is down, and anew after each reconnection."""
        sid = self._sid = self._sid + 1
        listening = self._subs[sid] = Listening(sid, subject, queue, callback)
        if self.is_connected:
            self._send(f"SUB {subject} {queue} {sid}\r\n".encode())
        return listening

    def unlisten(self, listening: Listening) -> None:
        """Ends it."""
        if self._subs.pop(listening._id, None) is not None and self.is_connected:
            self._send(f"UNSUB {listening._id}\r\n".encode())

    def send(self, subject: str, data: bytes, reply: str, headers: bytes) -> None:
        """Publishes; written at the end of the loop's turn, with what else there is."""
        if headers:
            size = len(headers)
            head = f"HPUB {subject} {reply} {size} {size + len(data)}\r\n".encode()
            self._send(b"".join((head, headers, data, b"\r\n")))
        else:
            self._send(b"".join((f"PUB {subject} {reply} {len(data)}\r\n".encode(), data, b"\r\n")))

    def _send(self, command: bytes) -> None:
        self._pending.append(command)
        self._pending_data_size += len(command)
        queue = self._flush_queue
        if queue is not None and queue.empty():
            queue.put_nowait(asyncio.get_running_loop().create_future())

    @property
    def release(self) -> str:
        """That of the NATS server."""
        return str(self._server_info.get("version", ""))

    @property
    def unsent_bytes(self) -> int:
        """What waits for the socket."""
        return int(self._pending_data_size)

    def _connect_command(self) -> bytes:
        """Sees that a connection is encrypted where that is wanted: nats-py would give the password to any server
        that says it has no TLS."""
        server = self._current_server
        wanted = self.options.get("tls") is not None or (server is not None and server.uri.scheme == "tls")
        if wanted and not self._server_info.get("tls_required"):
            raise Error("the server has no TLS, which tls:// and cluster.ca and certificate want")
        return super()._connect_command()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        listening = self._subs.get(sid)
        if type(listening) is Listening:
            listening.callback(subject.decode(), reply.decode(), headers or b"", data)
        else:
            await super()._process_msg(sid, subject, reply, data, headers)
