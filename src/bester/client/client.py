"""The asyncio client.

A client that lost its connection can be opened again, or opens itself again (``reconnect``). What was under way has
failed then, but for the messages that were sent with ``once``: those are sent again until there is a report on them.
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
from uuid import uuid4

from bester.client.asking import reported
from bester.client.seen import Seen, SeenFile
from bester.client.session import Session
from bester.client.talking import Options
from bester.client.url import parse_url
from bester.protocol.client import AUTHENTICATION_ID, ClientConversation, ReceivedMessage
from bester.protocol.reports import AuthenticationError, ClientError, ConnectionClosed, Report
from bester.protocol.values import BadNumber
from bester.timeouts import within
from bester.tracing import current_traceparent

REPLY_TO = "replyTo"
"""The feature with which replies say what they answer."""


class Client:
    """One account's session on a server.

    ::

        async with Client("bester://t:secret@localhost") as client:
            report = await client.send("chat", {"text": "hello"})
            async for message in client:
                print(message.type, message.data)

    Args:
        url: see :mod:`bester.client.url`.
        username: in place of the URL's.
        password: in place of the URL's.
        token: from an earlier session (:attr:`token`), in place of a password.
        features: what to ask of the server: ``ack``, ``route``, ``token`` (docs/protocol.md, section 2); ``replyTo`` is
            always asked for.
        mail: whether to take the account's messages, or of which types; the others stay where they are. Whoever only
            sends and asks gives False, and is sent nothing but replies.
        register: make the account when connecting, where the server allows that to anyone.
        tls: a context of your own, for ``besters://``.
        cafile: the authorities that a ``besters://`` server's certificate is checked against.
        fingerprint: ``sha256:...`` of the only certificate that is accepted, or of its key.
        max_queued: received messages that wait to be taken; then the socket is not read on, and that holds up reports
            too.
        on_message: called in the loop with each received message, which then is not queued.
        connect_timeout: seconds, for connecting and authenticating each.
        max_frame_bytes: the largest frame that is accepted from the server.
        reconnect: connect again whenever the connection is lost, for as long as the client is open; readers wait
            meanwhile. Without it that is only so while a ``once`` message waits for its report.
        on_connection: called in the loop with True and "" when a connection begins, and with False and the reason when
            it was lost, or when the client gives up because the server does not let it in any more.
        seen_file: with the feature ``ack``, remembers the newest 100,000 messages that the application is done with,
            so that those that are delivered again are recognised after a restart too. One file per client; it is
            locked while the client is open.
        retry_first_s: the pause before the first try to connect again; it doubles, with some chance in it,
        retry_max_s: up to this.
        idle_ping_s: when nothing was received for about so long, the server is asked whether it is there; and after
            twice that the connection is given up. Only with ``reconnect``, or while a ``once`` message waits.

    With the feature ``ack`` a message is acknowledged when the next one is asked for, when ``on_message`` returned, or
    when the client is closed without an error; and a message that is delivered again is not given out again, unless
    the application failed with it. There must be one reader then. A process that dies between the application's work
    on a message and the next turn of the loop has not recorded it, and gets it again.
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
            seen=Seen() if seen_file is None else SeenFile(seen_file),
            reconnect=reconnect,
            retry_first_s=retry_first_s,
            retry_max_s=retry_max_s,
            idle_ping_s=idle_ping_s,
        )
        self._session = Session(target, options, self._hello, self._authenticated, self._refused)
        self.token = token
        """With the feature ``token``: what stands in place of the password when connecting again. Keep it secret."""
        self._asked_features = tuple(dict.fromkeys((*features, REPLY_TO)))
        if isinstance(mail, str):
            raise TypeError(f"mail must be True, False or a list of types, not the string {mail!r:.200}")
        self._mail = mail if isinstance(mail, bool) else tuple(mail)
        self._register = register
        self._once_prefix = ""

    def __repr__(self) -> str:
        return f"<bester.Client {self._session.target} {'open' if self.connected else 'closed'}>"

    # -- the connection ---------------------------------------------------------------------------------------

    @classmethod
    async def connect(cls, url: str, **options: Any) -> Self:
        """Returns an open client; the arguments are those of the class. Close it with :meth:`close`.

        Raises:
            ConnectError, AuthenticationError, OSError: as :meth:`open`.
        """
        client = cls(url, **options)
        await client.open()
        return client

    async def open(self) -> Report:
        """Connects and authenticates; returns the server's report on that.

        Raises:
            ConnectError: the server cannot be reached, or does not want this connection.
            AuthenticationError: it does not want this account.
            BlockingIOError: the ``seen_file`` is in use by another client.
            OSError: the ``seen_file`` cannot be used.
            RuntimeError: the client is open already.
        """
        return await self._session.open()

    def _hello(self, conversation: ClientConversation) -> bytes:
        target = self._session.target
        return conversation.hello(
            target.username,
            password=target.password,
            token=None if self._register else self.token,
            features=self._asked_features,
            mail=self._mail,
            register=self._register,
        )

    def _authenticated(self, report: Report) -> None:
        self._register = False
        if report.token is not None:
            self.token = report.token

    def _refused(self, error: AuthenticationError) -> bool:
        """A token ends, by its age or with its server's database; the password is still there then."""
        if error.code != "authenticationFailed" or self.token is None or self._session.target.password is None:
            return False
        self.token = None
        return True

    async def close(self) -> None:
        """Ends the connection; what is under way fails with :class:`ConnectionClosed`, and so do ``once`` messages
        that wait to be sent again. Can be called again.
        """
        await self._session.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What has a number that nobody can hold is done with: whoever takes it next would fail as well.
        await self._session.close(acknowledge=error is None or isinstance(error, BadNumber))

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._session.connected

    def closed_error(self) -> ConnectionClosed:
        """Returns what the calls raise that need a connection, where there is none: with the server's reason."""
        return self._session.closed_error()

    @property
    def server(self) -> str | None:
        """The name of the server, if it told."""
        return self._session.conversation.server

    @property
    def features(self) -> tuple[str, ...]:
        """Those that the server granted."""
        return self._session.conversation.features

    @property
    def max_message(self) -> int:
        """The largest message in bytes, all of its frame's body counted, that the server takes."""
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
            id: an own one; it must differ from those that have no report yet.
            timeout: seconds; None waits as long as the connection lasts.
            once: the message is sent again by itself, over as many connections as it takes, until there is a report
                on it; it is not handled twice (docs/protocol.md, section 4). The client connects by itself meanwhile.
                With an own id, the same can go on in the next process; the id must differ from all of the last days.
            route: the report tells the way that the message took (feature ``route``).
            dry_run: nothing is delivered, the report tells the way that it would take (feature ``route``).

        Raises:
            ConnectionClosed: what became of the message is not known. With ``once``: the client was closed, or its
                server found the form of the message wrong.
            AuthenticationError: with ``once``, the server does not let the client in any more; the same.
            TimeoutError: the same.
            bester.errors.TooLarge: more than the server takes; nothing was sent.
            TypeError: ``data`` has no JSON form.
        """
        if timeout is not None:
            async with within(timeout):
                return await self.send(type, data, id=id, once=once, route=route, dry_run=dry_run)
        session = self._session
        channel = session.channel
        if channel is not None and channel.full:
            await channel.drain()
        if id is None and not (once or route or dry_run):  # the way that is measured
            id = str(session.next_id())
            message = session.conversation.message(type, id, data, traceparent=current_traceparent())
            return await session.write(message, id)
        if once:
            await session.waiting.room()
        return await self._start(type, data, id, once, route, dry_run)

    async def post(
        self, type: str, data: Any = None, *, id: str | None = None, once: bool = False
    ) -> asyncio.Future[Report]:
        """Sends a message without waiting for its report, which is what the returned future is for.

        Waits only while the server reads slower than this client writes; or with ``once``, while 16 MiB wait for their
        reports. The future may be ignored.

        Raises:
            ConnectionClosed, bester.errors.TooLarge, TypeError: as :meth:`send`; nothing was sent.
        """
        channel = self._session.channel
        if channel is not None and channel.full:
            await channel.drain()
        if once:
            await self._session.waiting.room()
        future = self._start(type, data, id, once, False, False)
        future.add_done_callback(_looked_at)
        return future

    def _start(
        self, type: str, data: Any, id: str | None, once: bool, route: bool, dry_run: bool
    ) -> asyncio.Future[Report]:
        session = self._session
        if id is None:
            id = str(session.next_id())
            if once:
                self._once_prefix = self._once_prefix or uuid4().hex
                id = f"{self._once_prefix}n{id}"
        elif id == AUTHENTICATION_ID:
            raise ValueError(f"the id {id} belongs to the protocol")
        message = session.conversation.message(
            type, id, data, once=once, route=route, dry_run=dry_run, traceparent=current_traceparent()
        )
        return session.write_once(message, id) if once else session.write(message, id)

    async def ask(self, type: str, data: Any = None, *, timeout: float | None = None) -> ReceivedMessage:
        """Sends a message and returns what a handler replies to it, whatever its type; any number at once.

        The first reply is returned as soon as it comes, also where something else that the message led to fails. It
        does not come out of :meth:`receive`, nor go to ``on_message``; further replies, and one that comes after the
        time-out, are dropped.

        Raises:
            Refused: the message was reported bad, and nobody replied.
            NoReply: it was reported good, and nobody replied.
            ConnectionClosed, TimeoutError: nothing came, and what became of the message is not known.
            ClientError: the server does not know the feature ``replyTo``, so that answers cannot be told apart; nothing
                was sent.
            bester.errors.TooLarge, TypeError: as :meth:`send`.
        """
        session = self._session
        if self.connected and REPLY_TO not in self.features:
            raise ClientError(f"{session.target}: the server does not say what a reply answers (feature {REPLY_TO})")
        id, answer = session.asking.begin()
        try:
            async with within(timeout):
                if (channel := session.channel) is not None and channel.full:
                    await channel.drain()
                self._start(type, data, id, False, False, False).add_done_callback(partial(reported, answer))
                return await answer
        finally:
            session.asking.end(id)

    async def ping(self, timeout: float | None = None) -> float:
        """Asks whether the server is there; returns the seconds that the answer took.

        Raises:
            ConnectionClosed, TimeoutError: it is not.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await self._session.ping(timeout)
        return loop.time() - begun

    # -- built-in commands (docs/protocol.md, section 5) --------------------------------------------------------

    async def builtin(self, command: str, /, *, timeout: float | None = None, **args: Any) -> Any:
        """Runs a built-in command of the server, and returns its result.

        Raises:
            Refused: with the server's code, as ``unknownCommand`` or ``notAllowed``.
            ConnectionClosed, TimeoutError: what became of it is not known.
        """
        return (await self._builtin(command, str(self._session.next_id()), args, timeout)).data

    async def _builtin(self, command: str, id: str, args: dict[str, Any], timeout: float | None = None) -> Report:
        async with within(timeout):
            report = await self._session.write(self._session.conversation.builtin(command, id, args), id)
        return report.raise_for_status()

    async def login(self, username: str, password: str) -> None:
        """Authenticates again, perhaps as somebody else, which later connections then are too; only after
        :meth:`logout`.
        """
        session = self._session
        hello = session.conversation.hello(
            username, password=password, features=self._asked_features, mail=self._mail, again=True
        )
        report = await session.write(hello, AUTHENTICATION_ID)
        self._authenticated(report.raise_for_status())
        self._session.target = replace(self._session.target, username=username, password=password)

    async def logout(self) -> None:
        """Ends the session and its token; the connection stays, for a :meth:`login` soon."""
        await self.builtin("logout")
        self._session.conversation.logged_out()
        self.token = None

    async def register(self, username: str, password: str) -> None:
        """Makes an account, where the server allows that."""
        await self.builtin("register", username=username, password=password)

    async def change_password(self, old: str, new: str) -> None:
        """Gives the account another password; that ends its other sessions and all tokens."""
        await self.builtin("changePassword", old=old, new=new)
        self.token = None
        self._session.target = replace(self._session.target, password=new)

    async def list_types(self) -> list[str]:
        """Returns the types that the server has handlers for."""
        return list(await self.builtin("listTypes"))

    async def server_info(self) -> dict[str, Any]:
        """Returns what the server tells of itself."""
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
            ConnectionClosed: all that came before is taken, and no more will come.
            TimeoutError: none came; the next one is not lost.
        """
        async with within(timeout):
            message = await self._session.take()
        if message is None:
            raise self._session.closed_error()
        return message


def _looked_at(future: asyncio.Future[Any]) -> None:
    """Takes note of a future's exception, which is otherwise logged as never looked at."""
    if not future.cancelled():
        future.exception()
