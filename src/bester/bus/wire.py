"""A NATS client with plain callbacks, and with publishing that needs no coroutine.

A subscription of nats-py has a queue, and a task where it has a callback. A node subscribes to a subject for each
account that is online, ten thousand of them, and publishes for each batch of messages. So :class:`WireClient` looks up
a :class:`~bester.bus.subscription.Subscription` and calls it, and appends to the buffer that nats-py flushes.

That uses parts of nats-py beyond its public interface. They may change in any minor release, so ``pyproject.toml`` pins
the one that this module was written for (2.16), and ``tests/bus/test_nats_py.py`` fails where one of them changes. All
of them are used in this module, and in :class:`~bester.bus.subscription.Subscription`, and nowhere else:

- ``Client._subs``, ``_sid``: the subscriptions by id, and the last id. After a reconnection nats-py subscribes again to
  all of ``_subs`` (by ``_subject``, ``_queue``, ``_max_msgs``, ``_received`` of each). When it closes, it cancels what
  each may have under way (``_wait_for_msgs_task``, ``_message_iterator``, ``_pending_next_msgs_calls``) and clears
  ``_subs``, which is replaced by a dictionary that survives that: another client can take the subscriptions over.
- ``Client._process_msg``: called by the reader with each message; overridden to call back without a queue.
- ``Client._pending``, ``_pending_data_size``, ``_flush_queue``: the commands that wait for the socket, how many bytes
  they are, and the queue that wakes the task that writes them. Appended to, as nats-py's own ``publish`` does.
- ``Client._connect_command``: returns the CONNECT command, with the password; overridden to refuse a server without the
  TLS that is wanted, for nats-py would give it the password.
- ``Client._server_info``, ``_current_server``: the server's INFO, and its URL.
- ``Client._reconnection_task``: tells that nats-py has stopped reconnecting.
- ``Client._transport``: nats-py makes one only where there is none; set to dial as all our dialling does.
- ``TcpTransport.connect``, ``connect_tls``, and the ``_io_reader``, ``_io_writer``, ``_bare_io_reader`` and
  ``_bare_io_writer`` that ``connect`` sets: overridden for that dialling, and for certificates that are renewed.
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
from bester.bus.subscription import MessageCallback, Subscription
from bester.timeouts import within


class _LastingSubscriptions(dict[int, Any]):
    """Subscriptions that outlive their client, which clears all when it is closed."""

    def clear(self) -> None:
        pass


class _Transport(TcpTransport):
    """Tries a server's addresses as all our dialling does, with the certificates that are on disk at that time."""

    def __init__(self, tls_context: Callable[[], ssl.SSLContext | None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tls_context = tls_context

    async def connect(self, uri: Any, buffer_size: int, connect_timeout: float) -> None:
        async with within(connect_timeout):
            connected = await dialling.connected(await dialling.addresses([(uri.hostname, uri.port)]))
            reader, writer = await asyncio.open_connection(sock=connected, limit=buffer_size)
        self._bare_io_reader = self._io_reader = reader
        self._bare_io_writer = self._io_writer = writer

    async def connect_tls(
        self, uri: Any, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: float
    ) -> None:
        await super().connect_tls(uri, self._tls_context() or ssl_context, buffer_size, int(connect_timeout))


class WireClient(Client):
    """A NATS client whose subscriptions are plain callbacks, called by its reader.

    Args:
        tls_context: asked at each connection whose TLS is configured; None: the context from before is used.
    """

    _subs: dict[int, Any]
    _pending: list[bytes]

    def __init__(self, tls_context: Callable[[], ssl.SSLContext | None] = lambda: None) -> None:
        super().__init__()
        self._subs = _LastingSubscriptions()
        self._transport = _Transport(tls_context)

    @property
    def gave_up(self) -> bool:
        """Whether it is not connected, and never will be again."""
        if self.is_connected:
            return False
        return self.is_closed or (self._reconnection_task is not None and self._reconnection_task.done())

    def take_over(self, before: WireClient) -> None:
        """Subscribes to everything that a closed client was subscribed to."""
        self._subs, self._sid = before._subs, before._sid
        for sid, subscription in self._subs.items():
            self._send(f"SUB {subscription._subject} {subscription._queue} {sid}\r\n".encode())

    def add_subscription(self, subject: str, callback: MessageCallback, queue: str = "") -> Subscription:
        """Subscribes; also while the connection is down, and again after each reconnection."""
        sid = self._sid = self._sid + 1
        subscription = self._subs[sid] = Subscription(sid, subject, queue, callback)
        if self.is_connected:
            self._send(f"SUB {subject} {queue} {sid}\r\n".encode())
        return subscription

    def remove_subscription(self, subscription: Subscription) -> None:
        """Unsubscribes; the second time it does nothing."""
        if self._subs.pop(subscription._id, None) is not None and self.is_connected:
            self._send(f"UNSUB {subscription._id}\r\n".encode())

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
        """The release of the NATS server."""
        return str(self._server_info.get("version", ""))

    @property
    def unsent_bytes(self) -> int:
        """How many bytes wait for the socket."""
        return int(self._pending_data_size)

    def _connect_command(self) -> bytes:
        server = self._current_server
        wanted = self.options.get("tls") is not None or (server is not None and server.uri.scheme == "tls")
        if wanted and not self._server_info.get("tls_required"):
            raise Error("the server has no TLS, which tls:// and cluster.ca and certificate want")
        return super()._connect_command()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        subscription = self._subs.get(sid)
        if type(subscription) is Subscription:
            subscription.callback(subject.decode(), reply.decode(), headers or b"", data)
        else:
            await super()._process_msg(sid, subject, reply, data, headers)
