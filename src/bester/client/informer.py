"""Asks a server on this machine about itself (docs/protocol.md, section 9)."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from types import TracebackType
from typing import Any, Self

from msgspec import UNSET

from bester.errors import Malformed
from bester.net.channel import Channel
from bester.protocol.informer import Answer, Presence, decode_answer, query
from bester.protocol.reports import ClientError, ConnectError, ConnectionClosed

_MAX_FRAME_BYTES = 64 * 1024 * 1024


class _InformerConnection:
    """One connection to the informer's socket."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._channel: Channel | None = None
        self._pending: deque[asyncio.Future[Answer]] = deque()
        self.events: asyncio.Queue[Presence | ConnectionClosed] = asyncio.Queue()

    async def open(self) -> None:
        """Connects, unless there is a connection already."""
        if self._channel is not None and not self._channel.closed:
            return
        loop = asyncio.get_running_loop()
        try:
            _, self._channel = await loop.create_unix_connection(
                lambda: Channel(_MAX_FRAME_BYTES, self._received, self._lost), self._path
            )
        except OSError as error:
            raise ConnectError(f"{self._path}: {error.strerror or error}", temporary=True) from error

    async def ask(self, command: str, data: object = UNSET) -> Any:
        """Returns the answer's data.

        Raises:
            ConnectError, ConnectionClosed: there is no answer.
            ClientError: the informer failed, or does not know the command.
        """
        await self.open()
        assert self._channel is not None
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._pending.append(future)
        self._channel.write(query(command, data))
        answer = await future
        if not answer.good:
            raise ClientError(f"the informer has no answer to {command}")
        return answer.data

    def _received(self, bodies: list[bytes]) -> None:
        for body in bodies:
            told = decode_answer(body)
            if isinstance(told, Presence):
                self.events.put_nowait(told)
            elif not self._pending:
                raise Malformed("an answer without a question")
            elif not (future := self._pending.popleft()).done():
                future.set_result(told)

    def _lost(self, cause: Exception | None) -> None:
        why = cause or "closed by the server"
        error = ConnectionClosed(f"the connection to the informer was lost: {why}", temporary=True)
        for future in self._pending:
            if not future.done():
                future.set_exception(error)
        self._pending.clear()
        self.events.put_nowait(error)

    async def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.abort()
            await channel.wait_closed()


class Watch:
    """The accounts that connect and leave, as it happens; made by :meth:`Informer.watch_clients`.

    The first events are one for each account that is connected already.
    """

    def __init__(self, path: str) -> None:
        self._connection = _InformerConnection(path)
        self._present: deque[Presence] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Presence:
        """Returns the next event.

        Raises:
            ConnectError: there is no informer.
            ConnectionClosed: its connection was lost; which accounts are connected is no longer known.
        """
        if self._present is None:
            self._present = deque(Presence(user, True) for user in await self._connection.ask("watchClients"))
        if self._present:
            return self._present.popleft()
        event = await self._connection.events.get()
        if isinstance(event, ConnectionClosed):
            self._connection.events.put_nowait(event)
            raise event
        return event

    async def close(self) -> None:
        """Ends the connection; can be called again."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class Informer:
    """A client of the informer, the socket on which a server answers processes on its machine.

    ::

        async with Informer("bInformer") as informer:
            print(await informer.list_clients())

    Connects with the first question, and again if the server was restarted in between.

    Args:
        path: the socket; None: the environment's ``BESTER_INFORMER``, or ``bInformer`` if that is not set.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._path = os.fspath(path) if path is not None else os.environ.get("BESTER_INFORMER", "bInformer")
        self._connection = _InformerConnection(self._path)
        self._watches: list[Watch] = []

    async def ask(self, command: str, data: object = UNSET) -> Any:
        """Sends any command, and returns the answer's data.

        Raises:
            ConnectError: there is no informer.
            ConnectionClosed: the connection was lost before the answer came.
            ClientError: the informer failed, or does not know the command.
        """
        return await self._connection.ask(command, data)

    async def list_clients(self) -> list[str]:
        """Returns the accounts that are connected, sorted."""
        return list(await self.ask("listClients"))

    async def is_client(self, user: str) -> bool:
        """Returns whether an account is connected."""
        return bool(await self.ask("isClient", user))

    async def is_account(self, user: str) -> bool:
        """Returns whether there is an account of this name."""
        return bool(await self.ask("isAccount", user))

    async def roles_of(self, user: str) -> list[str] | None:
        """Returns the roles of an account; None: there is no account of this name."""
        roles = await self.ask("rolesOf", user)
        return None if roles is None else list(roles)

    async def server_info(self) -> dict[str, Any]:
        """Returns the server's ``name``, ``clientCount``, ``adminInfo``, ``listeners`` and more."""
        return dict(await self.ask("serverInfo"))

    async def list_types(self) -> list[str]:
        """Returns the types that the server has handlers for."""
        return list(await self.ask("listTypes"))

    async def list_servers(self) -> list[str]:
        """Returns the names of the other servers that this one knows."""
        return list(await self.ask("listServers"))

    def watch_clients(self) -> Watch:
        """Returns the events of accounts that connect and leave, for ``async for``, on a connection of their own."""
        watch = Watch(self._path)
        self._watches.append(watch)
        return watch

    async def close(self) -> None:
        """Ends all connections; can be called again."""
        for watch in self._watches:
            await watch.close()
        self._watches.clear()
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
