"""The blocking client: the asyncio client, in the loop of a separate thread.

::

    from bester.sync import Client

    with Client("bester://t:secret@localhost") as client:
        client.send("chat", {"text": "hello"}).raise_for_status()
        for message in client:
            print(message.type, message.data)

Several threads may use one client at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

from bester.client.client import Client as AsyncClient
from bester.client.described import TypeDescription
from bester.client.held import HeldForConsent as AsyncHeld
from bester.client.stream import Stream as AsyncStream
from bester.protocol.received import ReceivedMessage
from bester.protocol.reports import ConnectionClosed, Report

__all__ = ["Client", "Stream"]

T = TypeVar("T")
_END_TIMEOUT_S = 1.0


class Client:
    """The blocking form of :class:`bester.Client`, with the same arguments; each call returns when it is done.

    The thread runs from :meth:`open` to :meth:`close`; ``on_message`` and ``on_connection`` are called in it.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._client = AsyncClient(url, **options)
        self.held = HeldForConsent(self._client.held, self._do)
        """What guards hold until the account consents to it."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return repr(self._client).replace("bester.Client", "bester.sync.Client")

    @classmethod
    def connect(cls, url: str, **options: Any) -> Self:
        """Returns an open client; close it with :meth:`close`."""
        client = cls(url, **options)
        client.open()
        return client

    def open(self) -> Report:
        """Connects and authenticates; raises the errors of :meth:`bester.Client.open`, and is then closed."""
        if self._loop is None:
            self._loop = uvloop.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="bester-client", daemon=True)
            self._thread.start()
        try:
            return self._do(self._client.open)
        except BaseException:
            if not self._client.connected:
                self.close()
            raise

    def close(self) -> None:
        """Ends the connection and the thread. Can be called again."""
        if self._loop is not None:
            try:
                self._do(self._client.close)
            finally:
                self._end_thread()

    def _end_thread(self) -> None:
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(_others_done(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _do(self, call: Callable[..., Coroutine[Any, Any, T]], *args: Any, **options: Any) -> T:
        if self._loop is None:
            raise self._client.closed_error()
        future = asyncio.run_coroutine_threadsafe(call(*args, **options), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # needed if we were interrupted, by Ctrl-C
            raise

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is None:
            return
        try:
            self._do(self._client.__aexit__, kind, error, trace)
        finally:
            self._end_thread()

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as the client knows."""
        return self._client.connected

    @property
    def server(self) -> str | None:
        """The server's name, if the server gave it."""
        return self._client.server

    @property
    def features(self) -> tuple[str, ...]:
        """The features that the server granted."""
        return self._client.features

    @property
    def token(self) -> str | None:
        """See :attr:`bester.Client.token`."""
        return self._client.token

    def send(
        self,
        type: str,
        data: Any = None,
        *,
        id: str | None = None,
        timeout: float | None = None,
        once: bool = False,
        route: bool = False,
        dry_run: bool = False,
    ) -> Report:
        """Sends a message and returns the report on it, as :meth:`bester.Client.send` does; with ``once`` that can take
        several connections.
        """
        return self._do(self._client.send, type, data, id=id, timeout=timeout, once=once, route=route, dry_run=dry_run)

    def ask(self, type: str, data: Any = None, *, timeout: float | None = None) -> ReceivedMessage:
        """Sends a message and returns a handler's reply to it, as :meth:`bester.Client.ask` does."""
        return self._do(self._client.ask, type, data, timeout=timeout)

    def stream(self, type: str, data: Any = None, *, window: int = 64, timeout: float | None = None) -> Stream:
        """Sends a message and returns the parts of a handler's answer, as :meth:`bester.Client.stream` does."""
        return Stream(self._client.stream(type, data, window=window, timeout=timeout), self._do)

    def cancel(self, id: str) -> bool:
        """Asks the server to cancel a message, as :meth:`bester.Client.cancel` does."""
        return self._do(self._cancel, id)

    async def _cancel(self, id: str) -> bool:
        return self._client.cancel(id)

    def receive(self, timeout: float | None = None) -> ReceivedMessage:
        """Returns the next message, as :meth:`bester.Client.receive` does."""
        return self._do(self._client.receive, timeout)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ReceivedMessage:
        if self._loop is None:
            raise StopIteration
        message = self._do(self._next)
        if message is None:
            raise StopIteration
        return message

    async def _next(self) -> ReceivedMessage | None:
        async for message in self._client:
            return message
        return None

    def ping(self, timeout: float | None = None) -> float:
        """Returns the seconds that the server took to answer."""
        return self._do(self._client.ping, timeout)

    def builtin(self, command: str, /, *, timeout: float | None = None, **args: Any) -> Any:
        """Runs a built-in command of the server, and returns its result."""
        return self._do(self._client.builtin, command, timeout=timeout, **args)

    def login(self, username: str, password: str) -> None:
        """Authenticates again, after :meth:`logout`."""
        self._do(self._client.login, username, password)

    def logout(self) -> None:
        """Ends the session; the connection stays open."""
        self._do(self._client.logout)

    def register(self, username: str, password: str) -> None:
        """Creates an account, where the server allows that."""
        self._do(self._client.register, username, password)

    def change_password(self, old: str, new: str) -> None:
        """Changes the account's password."""
        self._do(self._client.change_password, old, new)

    def list_types(self) -> list[str]:
        """Returns the types that the server has handlers for."""
        return self._do(self._client.list_types)

    def describe(self, type: str | None = None) -> list[TypeDescription]:
        """Returns what handlers say of a type, or of each type that the account may send, sorted."""
        return self._do(self._client.describe, type)

    def server_info(self) -> dict[str, Any]:
        """Returns the server's information about itself."""
        return self._do(self._client.server_info)


class Stream:
    """The blocking form of :class:`bester.Stream`; made by :meth:`Client.stream`.

    It is cancelled when a loop over it is left, when Ctrl-C interrupts a wait, and at the end of its ``with``.
    """

    def __init__(self, stream: AsyncStream, do: Callable[..., Any]) -> None:
        self._stream = stream
        self._do = do

    @property
    def report(self) -> Report | None:
        """The report on the message; None as long as there is none, and if the connection was lost before it."""
        return self._stream.report

    def close(self) -> None:
        """Gives the stream up, unless it has ended."""
        with suppress(ConnectionClosed):  # the client is closed
            self._do(self._stream.aclose)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ReceivedMessage:
        message: ReceivedMessage | None = self._do(self._stream.take)
        if message is None:
            raise StopIteration
        return message

    def __enter__(self) -> Self:
        self._do(self._stream.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class HeldForConsent:
    """The blocking form of :class:`bester.client.held.HeldForConsent`; :attr:`Client.held`."""

    def __init__(self, held: AsyncHeld, do: Callable[..., Any]) -> None:
        self._held = held
        self._do = do

    def list(self, after: int = 0, limit: int = 100) -> dict[str, Any]:
        """Returns what is held, oldest first, and whom the account trusts: ``held`` and ``trusted``."""
        return dict(self._do(self._held.list, after, limit))

    def release(
        self,
        ids: Sequence[int] | None = None,
        *,
        user: str | None = None,
        server: str | None = None,
        always: bool = False,
    ) -> int:
        """Consents to messages by their ids, or to all of a sender, with ``always`` also to what the sender will send;
        returns to how many.
        """
        return int(self._do(self._held.release, ids, user=user, server=server, always=always))

    def refuse(self, ids: Sequence[int] | None = None, *, user: str | None = None, server: str | None = None) -> int:
        """Removes messages by their ids, or all of a sender, which is no longer trusted; returns how many."""
        return int(self._do(self._held.refuse, ids, user=user, server=server))


async def _others_done() -> None:
    """Waits until the calls of other threads, which have failed already, have returned; the loop ends after that."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=_END_TIMEOUT_S)
