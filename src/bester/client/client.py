"""The asyncio client.

A client that lost its connection can be opened again. What was under way has failed then, and its sender decides
whether to send it again: with ``once`` and the same id that is never handled twice.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from bester.client.session import Session
from bester.client.url import parse_url
from bester.protocol.client import AUTHENTICATION_ID, ClientConversation, ReceivedMessage
from bester.protocol.reports import ConnectionClosed, Report


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
        features: what to ask of the server: ``ack``, ``route``, ``token`` (docs/protocol.md, section 2).
        register: make the account when connecting, where the server allows that to anyone.
        tls: a context of your own, for ``besters://``.
        cafile: the authorities that a ``besters://`` server's certificate is checked against.
        fingerprint: ``sha256:...``, the only certificate that is accepted.
        max_queued: received messages that wait to be taken; then the socket is not read on, and that holds up reports
            too. Whoever sends and never receives gives ``on_message``.
        on_message: called in the loop with each received message, which then is not queued.
        connect_timeout: seconds, for connecting and authenticating each.
        max_frame_bytes: the largest frame that is accepted from the server.

    With the feature ``ack`` a message is acknowledged when the next one is asked for, or the client is closed without
    an error; and a message that is delivered again is not given out again. There must be one reader then.
    """

    def __init__(
        self,
        url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        token: str | None = None,
        features: Iterable[str] = (),
        register: bool = False,
        tls: ssl.SSLContext | None = None,
        cafile: str | None = None,
        fingerprint: str | None = None,
        max_queued: int = 1000,
        on_message: Callable[[ReceivedMessage], object] | None = None,
        connect_timeout: float = 10.0,
        max_frame_bytes: int = 16 * 1024 * 1024,
    ) -> None:
        target = parse_url(url, username, password, cafile, fingerprint)
        self._session = Session(target, tls, max_queued, on_message, connect_timeout, max_frame_bytes)
        self.token = token
        """With the feature ``token``: what stands in place of the password when connecting again. Keep it secret."""
        self._asked_features = tuple(features)
        self._register = register
        self._once_prefix = ""

    def __repr__(self) -> str:
        return f"<bester.Client {self._session.target} {'open' if self.connected else 'closed'}>"

    # -- the connection ---------------------------------------------------------------------------------------

    @classmethod
    async def connect(cls, url: str, **options: Any) -> Self:
        """Returns an open client; the arguments are those of the class. Close it with :meth:`close`.

        Raises:
            ConnectError, AuthenticationError: as :meth:`open`.
        """
        client = cls(url, **options)
        await client.open()
        return client

    async def open(self) -> Report:
        """Connects and authenticates; returns the server's report on that.

        Raises:
            ConnectError: the server cannot be reached, or does not want this connection.
            AuthenticationError: it does not want this account.
        """
        report = await self._session.open(self._hello)
        self._register = False
        self._authenticated(report)
        return report

    def _hello(self, conversation: ClientConversation) -> bytes:
        target = self._session.target
        return conversation.hello(
            target.username,
            password=target.password,
            token=None if self._register else self.token,
            features=self._asked_features,
            register=self._register,
        )

    async def close(self) -> None:
        """Ends the connection; what is under way fails with :class:`ConnectionClosed`. Can be called again."""
        self._session.acknowledge()
        await self._session.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._session.acknowledge()
        await self._session.close()

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

        Args:
            type: names the handler.
            data: any JSON value; :class:`msgspec.Raw` goes out byte for byte.
            id: an own one; it must differ from those that have no report yet.
            timeout: seconds; None waits as long as the connection lasts.
            once: sent again with the same id and data, the message is not handled twice. Needs an own id for that.
            route: the report tells the way that the message took (feature ``route``).
            dry_run: nothing is delivered, the report tells the way that it would take (feature ``route``).

        Raises:
            ConnectionClosed: what became of the message is not known.
            TimeoutError: the same.
            bester.errors.TooLarge: more than the server takes; nothing was sent.
            TypeError: ``data`` has no JSON form.
        """
        if timeout is not None:
            async with asyncio.timeout(timeout):
                return await self.send(type, data, id=id, once=once, route=route, dry_run=dry_run)
        channel = self._session.channel
        if channel is not None and channel.full:
            await channel.drain()
        return await self._start(type, data, id, once, route, dry_run)

    async def post(
        self, type: str, data: Any = None, *, id: str | None = None, once: bool = False
    ) -> asyncio.Future[Report]:
        """Sends a message without waiting for its report, which is what the returned future is for.

        Waits only while the server reads slower than this client writes. The future may be ignored.

        Raises:
            ConnectionClosed, bester.errors.TooLarge, TypeError: as :meth:`send`; nothing was sent.
        """
        channel = self._session.channel
        if channel is not None and channel.full:
            await channel.drain()
        future = self._start(type, data, id, once, False, False)
        future.add_done_callback(_looked_at)
        return future

    def _start(
        self, type: str, data: Any, id: str | None, once: bool, route: bool, dry_run: bool
    ) -> asyncio.Future[Report]:
        if id is None:
            id = str(self._session.next_id())
            if once:
                self._once_prefix = self._once_prefix or uuid4().hex
                id = f"{self._once_prefix}-{id}"
        elif id == AUTHENTICATION_ID:
            raise ValueError(f"the id {id} belongs to the protocol")
        message = self._session.conversation.message(type, id, data, once=once, route=route, dry_run=dry_run)
        return self._session.write(message, id)

    async def ask(
        self, type: str, data: Any = None, *, reply_type: str | None = None, timeout: float | None = None
    ) -> ReceivedMessage:
        """Sends a message and returns the next one that is received of the same type (or ``reply_type``).

        For handlers that reply to who asks. The received message comes from nowhere else then, not even if it was
        sent by somebody else.

        Raises:
            Refused: the message was reported bad.
            ConnectionClosed, TimeoutError: nothing came.
        """
        future = self._session.inbox.ask(reply_type if reply_type is not None else type)
        try:
            async with asyncio.timeout(timeout):
                (await self.send(type, data)).raise_for_status()
                return await future
        finally:
            if not future.cancel():
                _looked_at(future)

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
        async with asyncio.timeout(timeout):
            report = await self._session.write(self._session.conversation.builtin(command, id, args), id)
        return report.raise_for_status()

    async def login(self, username: str, password: str) -> None:
        """Authenticates again, perhaps as somebody else; only after :meth:`logout`."""
        args = {"username": username, "password": password}
        self._authenticated(await self._builtin("login", AUTHENTICATION_ID, args))

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

    async def list_types(self) -> list[str]:
        """Returns the types that the server has handlers for."""
        return list(await self.builtin("listTypes"))

    async def server_info(self) -> dict[str, Any]:
        """Returns what the server tells of itself."""
        return dict(await self.builtin("serverInfo"))

    def _authenticated(self, report: Report) -> None:
        if report.token is not None:
            self.token = report.token

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
        async with asyncio.timeout(timeout):
            message = await self._session.take()
        if message is None:
            raise self._session.closed_error()
        return message


def _looked_at(future: asyncio.Future[Any]) -> None:
    """Takes note of a future's exception, which is otherwise logged as never looked at."""
    if not future.cancelled():
        future.exception()
