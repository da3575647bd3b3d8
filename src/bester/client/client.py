"""The asyncio client.

A client that lost its connection can be opened again, or opens itself again (``reconnect``). All calls that were under
way have then failed, except messages sent with ``once``: the client sends them again until it has a report on them.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self

from bester.client.described import TypeDescription, described_types
from bester.client.greeting import Greeting
from bester.client.held import HeldForConsent
from bester.client.messaging import Options
from bester.client.questions import fail_unanswered
from bester.client.seen_deliveries import SeenDeliveries, SeenDeliveriesFile
from bester.client.session import Session
from bester.client.stream import Stream
from bester.client.url import parse_url
from bester.protocol.client import AUTHENTICATION_ID
from bester.protocol.received import ReceivedMessage
from bester.protocol.reports import ConnectionClosed, Report
from bester.protocol.values import BadNumber
from bester.timeouts import within
from bester.tracing import current_traceparent


class Client:
    """One account's session on a server.

    ::

        async with Client("bester://t:secret@localhost") as client:
            report = await client.send("chat", {"text": "hello"})
            async for message in client:
                print(message.type, message.data)

    Args:
        url: see :mod:`bester.client.url`.

        username: replaces the username in the URL.
        password: replaces the password in the URL.
        token: from an earlier session (:attr:`token`); replaces the password.
        features: to request from the server: ``ack``, ``route``, ``token`` (docs/protocol.md, section 2); the client
            always requests ``replyTo`` and ``parts``.
        mail: whether to receive the account's messages, or the types to receive; other messages stay in the mailbox.
            Give False for a client that only sends and asks: it receives nothing but replies.
        register: create the account when connecting, where the server lets anyone do that.
        tls: your own context for ``besters://``.
        cafile: the authorities that a ``besters://`` server's certificate is checked against.
        fingerprint: ``sha256:...`` of the only certificate that is accepted, or of its key.
        max_queued: how many received messages may wait to be taken; beyond that the client stops reading the socket,
            which delays reports too.
        on_message: called in the loop with each received message, which is then not queued.
        connect_timeout: seconds, for connecting and again for authenticating.
        max_frame_bytes: the largest frame that is accepted from the server.
        reconnect: connect again whenever the connection is lost, for as long as the client is open; readers wait
            meanwhile. Without it the client reconnects only while a ``once`` message waits for its report.
        on_connection: called in the loop with True and "" when a connection begins, and with False and the reason when
            the connection is lost, or when the client gives up because the server does not let it in any more.
        seen_file: with the feature ``ack``, a file that records the newest 100,000 messages that the application has
            finished with, so that the client recognises them when they are delivered again, also after a restart.
            Each client needs its own file; it is locked while the client is open.
        retry_first_s: the pause before the first attempt to reconnect; it doubles each time, varied at random,
        retry_max_s: up to this.
        idle_ping_s: when nothing was received for about this long, the client pings the server; after twice that it
            gives the connection up. Only with ``reconnect``, or while a ``once`` message waits.

    With the feature ``ack`` the client acknowledges a message when the application asks for the next one, when
    ``on_message`` returns, or when the client is closed without an error. A message that is delivered again is not
    handed to the application again, unless the application failed on it. There must then be only one reader. A process
    that dies between the application's work on a message and the next turn of the loop has not recorded the message,
    and gets it again.
    """

    def __init__(
        self,
        url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        token: str | None = None,
        features: Iterable[str] = (),
        mail: bool | Iterable[str] = True,
        register: bool = False,
        tls: ssl.SSLContext | None = None,
        cafile: str | None = None,
        fingerprint: str | None = None,
        max_queued: int = 1000,
        on_message: Callable[[ReceivedMessage], object] | None = None,
        connect_timeout: float = 10.0,
        max_frame_bytes: int = 16 * 1024 * 1024,
        reconnect: bool = False,
        on_connection: Callable[[bool, str], object] | None = None,
        seen_file: str | os.PathLike[str] | None = None,
        retry_first_s: float = 0.1,
        retry_max_s: float = 30.0,
        idle_ping_s: float = 15.0,
    ) -> None:
        target = parse_url(url, username, password, cafile, fingerprint)
        options = Options(
            tls=tls,
            max_queued=max_queued,
            on_message=on_message,
            on_connection=on_connection,
            connect_timeout_s=connect_timeout,
            max_frame_bytes=max_frame_bytes,
            seen=SeenDeliveries() if seen_file is None else SeenDeliveriesFile(seen_file),
            reconnect=reconnect,
            retry_first_s=retry_first_s,
            retry_max_s=retry_max_s,
            idle_ping_s=idle_ping_s,
        )
        self._session = Session(target, options, Greeting(token, features, mail, register))
        self.held = HeldForConsent(self.builtin)
        """What guards hold until the account consents to it."""

    def __repr__(self) -> str:
        return f"<bester.Client {self._session.target} {'open' if self.connected else 'closed'}>"

    # -- the connection ---------------------------------------------------------------------------------------

    @classmethod
    async def connect(cls, url: str, **options: Any) -> Self:
        """Returns an open client; takes the arguments of the class. Close it with :meth:`close`.

        Raises:
            ConnectError, AuthenticationError, OSError: see :meth:`open`.
        """
        client = cls(url, **options)
        await client.open()
        return client

    async def open(self) -> Report:
        """Connects and authenticates; returns the server's report on the authentication.

        Raises:
            ConnectError: the server cannot be reached, or refuses the connection.
            AuthenticationError: the server refuses the account.
            BlockingIOError: another client uses the ``seen_file``.
            OSError: the ``seen_file`` cannot be used.
            RuntimeError: the client is open already.
        """
        return await self._session.open()

    async def close(self) -> None:
        """Ends the connection. Calls that are under way, and ``once`` messages that wait to be sent again, fail with
        :class:`ConnectionClosed`. Can be called again.
        """
        await self._session.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A message with a number that Python cannot represent is finished with: every later reader would fail too.
        await self._session.close(acknowledge=error is None or isinstance(error, BadNumber))

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as the client knows."""
        return self._session.connected

    def closed_error(self) -> ConnectionClosed:
        """Returns the error, with the server's reason, that calls raise if they need a connection and there is none."""
        return self._session.closed_error()

    @property
    def token(self) -> str | None:
        """With the feature ``token``: the token that replaces the password when connecting again. Keep it secret."""
        return self._session.greeting.token

    @property
    def server(self) -> str | None:
        """The server's name, if the server gave it."""
        return self._session.conversation.server

    @property
    def features(self) -> tuple[str, ...]:
        """The features that the server granted."""
        return self._session.conversation.features

    @property
    def max_message(self) -> int:
        """The largest frame body, in bytes, that the server accepts."""
        return self._session.conversation.max_message

    # -- to the server ----------------------------------------------------------------------------------------

    async def send(
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
        """Sends a message and returns the report on it, good or bad; see :meth:`Report.raise_for_status`.

        Within an OpenTelemetry span the message belongs to the span's trace (docs/tracing.md).

        Args:
            type: names the handler.
            data: any JSON value; :class:`msgspec.Raw` goes out byte for byte.
            id: your own id; it must differ from the ids of all messages that have no report yet.
            timeout: seconds; None waits as long as the connection lasts.
            once: the client sends the message again, over as many connections as it takes, until there is a report on
                it; it is handled only once (docs/protocol.md, section 4). The client reconnects by itself meanwhile.
                With your own id, another process can continue this; the id must differ from all ids of the last days.
            route: the report contains the route that the message took (feature ``route``).
            dry_run: nothing is delivered; the report contains the route that the message would take (feature
                ``route``).

        Raises:
            ConnectionClosed: the message may or may not have been handled. With ``once``: the client was closed, or
                the server found the message malformed.
            AuthenticationError: with ``once``, the server does not let the client in any more; the message may or may
                not have been handled.
            TimeoutError: no report in time; the message may or may not have been handled. The server is asked to cancel
                it, as when the calling task is cancelled, except with ``once``.
            bester.errors.TooLarge: the message is larger than the server accepts; nothing was sent.
            TypeError: ``data`` has no JSON form.
        """
        if timeout is not None:
            async with within(timeout):
                return await self.send(type, data, id=id, once=once, route=route, dry_run=dry_run)
        session = self._session
        channel = session.channel
        while channel is not None and channel.full:
            await channel.drained()
        if id is None and not (once or route or dry_run):  # the fast path, which the benchmarks measure
            id = str(session.next_id())
            message = session.conversation.message(type, id, data, traceparent=current_traceparent())
            reporting = session.write(message, id)
        else:
            if once:
                await session.unreported.wait_for_space()
            id = session.checked_id(id, once)
            reporting = self._start(type, data, id, once, route, dry_run)
        try:
            return await reporting
        except asyncio.CancelledError:
            if not once:
                session.cancel(id)
            raise

    async def post(
        self, type: str, data: Any = None, *, id: str | None = None, once: bool = False
    ) -> asyncio.Future[Report]:
        """Sends a message and returns the future of its report, without waiting for it.

        Waits only while the server reads more slowly than this client writes, or with ``once`` while 16 MiB of messages
        have no report yet. The future may be ignored.

        Raises:
            ConnectionClosed, bester.errors.TooLarge, TypeError: see :meth:`send`; nothing was sent.
        """
        channel = self._session.channel
        while channel is not None and channel.full:
            await channel.drained()
        if once:
            await self._session.unreported.wait_for_space()
        future = self._start(type, data, self._session.checked_id(id, once), once, False, False)
        future.add_done_callback(_looked_at)
        return future

    def _start(self, type: str, data: Any, id: str, once: bool, route: bool, dry_run: bool) -> asyncio.Future[Report]:
        session = self._session
        message = session.conversation.message(
            type, id, data, once=once, route=route, dry_run=dry_run, traceparent=current_traceparent()
        )
        return session.write_once(message, id) if once else session.write(message, id)

    async def ask(self, type: str, data: Any = None, *, timeout: float | None = None) -> ReceivedMessage:
        """Sends a message and returns a handler's reply to it, of any type; calls may overlap.

        Returns the first reply as soon as it arrives, even if another part of the message's processing fails. Neither
        :meth:`receive` nor ``on_message`` gets that reply; the client drops further replies, and any reply that arrives
        after the time-out. When the time is over or the calling task is cancelled, the server is asked to cancel the
        message.

        Raises:
            Refused: the message was reported bad, and nobody replied.
            NoReply: the message was reported good, and nobody replied.
            ConnectionClosed, TimeoutError: no reply arrived; the message may or may not have been handled.
            ClientError: the server does not know the feature ``replyTo``, so that answers cannot be told apart; nothing
                was sent.
            bester.errors.TooLarge, TypeError: see :meth:`send`.
        """
        session = self._session
        session.require_replies()
        id, answer = session.questions.begin()
        try:
            async with within(timeout):
                while (channel := session.channel) is not None and channel.full:
                    await channel.drained()
                self._start(type, data, id, False, False, False).add_done_callback(partial(fail_unanswered, answer))
                return await answer
        except (asyncio.CancelledError, TimeoutError):
            session.cancel(id)
            raise
        finally:
            session.questions.end(id)

    def stream(self, type: str, data: Any = None, *, window: int = 64, timeout: float | None = None) -> Stream:
        """Sends a message and returns the parts of a handler's answer to it, as they come; streams may overlap.

        ::

            async for part in client.stream("count", 1000):
                print(part.data)

        The message is sent when the first part is asked for. The loop ends with the report, which is then in
        :attr:`Stream.report`. Leaving the loop early cancels the message; ``async with client.stream(...) as parts:``
        does so also where the stream is still referred to. Neither :meth:`receive` nor ``on_message`` gets the parts.
        A handler or a server that does not know parts sends all replies at the end.

        Args:
            type: names the handler.
            data: any JSON value; :class:`msgspec.Raw` goes out byte for byte.
            window: how many parts may be under way or wait to be taken, from 1 to 65,536; the handler waits meanwhile.
            timeout: seconds that each part may take; None waits as long as the connection lasts.

        While the stream is read, after the parts that came before, it raises:

            - Refused: the message was reported bad.
            - ConnectionClosed: it is not known what became of the message, and it is not sent again.
            - TimeoutError: no part in time; the message is cancelled.
            - ClientError, bester.errors.TooLarge, TypeError: as :meth:`ask`; nothing was sent.
        """
        return Stream(self._session, type, data, window, timeout)

    def cancel(self, id: str) -> bool:
        """Asks the server to cancel a message that was sent with this ``id``; does not wait.

        The report still comes: bad, with the code ``cancelled``, unless the handler has done its work.

        Returns:
            Whether the server was asked: not if there is a report already, if there is no connection, or if the server
            does not know the feature ``parts``.
        """
        return self._session.cancel(id)

    async def ping(self, timeout: float | None = None) -> float:
        """Pings the server; returns the seconds that the answer took.

        Raises:
            ConnectionClosed, TimeoutError: the server did not answer.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await self._session.ping(timeout)
        return loop.time() - begun

    # -- built-in commands (docs/protocol.md, section 5) --------------------------------------------------------

    async def builtin(self, command: str, /, *, timeout: float | None = None, **args: Any) -> Any:
        """Runs a built-in command of the server, and returns its result.

        Raises:
            Refused: with the server's code, such as ``unknownCommand`` or ``notAllowed``.
            ConnectionClosed, TimeoutError: the command may or may not have run.
        """
        return (await self._builtin(command, str(self._session.next_id()), args, timeout)).data

    async def _builtin(self, command: str, id: str, args: dict[str, Any], timeout: float | None = None) -> Report:
        async with within(timeout):
            report = await self._session.write(self._session.conversation.builtin(command, id, args), id)
        return report.raise_for_status()

    async def login(self, username: str, password: str) -> None:
        """Authenticates again, after :meth:`logout`, as any account; later connections use it too."""
        session = self._session
        hello = session.greeting.again(session.conversation, username, password)
        session.greeting.accepted((await session.write(hello, AUTHENTICATION_ID)).raise_for_status())
        session.target = replace(session.target, username=username, password=password)

    async def logout(self) -> None:
        """Ends the session and its token; the connection stays open for a :meth:`login`, which must follow soon."""
        await self.builtin("logout")
        self._session.conversation.logged_out()
        self._session.greeting.token = None

    async def register(self, username: str, password: str) -> None:
        """Creates an account, where the server allows that."""
        await self.builtin("register", username=username, password=password)

    async def change_password(self, old: str, new: str) -> None:
        """Changes the account's password; that ends its other sessions and all tokens."""
        await self.builtin("changePassword", old=old, new=new)
        self._session.greeting.token = None
        self._session.target = replace(self._session.target, password=new)

    async def list_types(self) -> list[str]:
        """Returns the types that the server has handlers for."""
        return list(await self.builtin("listTypes"))

    async def describe(self, type: str | None = None) -> list[TypeDescription]:
        """Returns what handlers say of a type, or of each type that the account may send, sorted."""
        return await described_types(self.builtin, type)

    async def server_info(self) -> dict[str, Any]:
        """Returns the server's information about itself."""
        return dict(await self.builtin("serverInfo"))

    # -- from the server --------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReceivedMessage:
        message = await self._session.take()
        if message is None:
            raise StopAsyncIteration
        return message

    async def receive(self, timeout: float | None = None) -> ReceivedMessage:
        """Returns the next message that a handler sent to this client.

        Args:
            timeout: seconds; None waits as long as the connection lasts.

        Raises:
            ConnectionClosed: all messages that arrived are taken, and no more will come.
            TimeoutError: no message arrived in time; the next one is not lost.
        """
        async with within(timeout):
            message = await self._session.take()
        if message is None:
            raise self._session.closed_error()
        return message


def _looked_at(future: asyncio.Future[Any]) -> None:
    """Retrieves a future's exception, which asyncio would otherwise log as never retrieved."""
    if not future.cancelled():
        future.exception()
