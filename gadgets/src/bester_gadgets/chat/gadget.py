"""The program: a handler of the type ``chat``, which joins the book, presence, and what is done from time to time."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import msgspec

from bester import (
    ClientError,
    Command,
    Handler,
    Informer,
    Refuse,
    Reply,
    Request,
    SendClients,
    SendServers,
)
from bester.clock import wall_time
from bester.errors import BadConfiguration, InvalidName
from bester.protocol.names import server_name
from bester.timeouts import within
from bester_gadgets.chat import home, peers, upkeep
from bester_gadgets.chat.addresses import BadChatAddress
from bester_gadgets.chat.book import Book, Refused
from bester_gadgets.chat.settings import ChatSettings
from bester_gadgets.chat.store import Store
from bester_gadgets.chat.watching import Watching
from bester_gadgets.chat.wire import (
    TYPE,
    Answer,
    BadMessage,
    Block,
    Hello,
    Presence,
    Probe,
    as_data,
    encode,
    read_client_op,
    read_server_op,
)
from bester_gadgets.running import serve

log = logging.getLogger("bester.chat")
MAX_ANSWER_BYTES = 512 * 1024
"""How much one answer carries; the rest is pushed before it."""
HASTEN_EVERY_S = 5.0
FORGET_EVERY_S = 3600.0
LOOK_AFTER_SERVERS_S = 60.0
NAME_TIMEOUT_S = 10.0

T = TypeVar("T")


class Chat:
    """One server's chat; :meth:`serve` as a program, or :meth:`start` and :meth:`stop` it in a loop of one's own.

    Args:
        settings: the bounds, and where the database is.
        handlers: the server's handler socket, as :class:`bester.Handler` takes it.
        informer: the server's informer, as :class:`bester.Informer` takes it.
        server: this server's name; None: the informer tells it.
    """

    def __init__(
        self,
        settings: ChatSettings,
        *,
        handlers: str | None = None,
        informer: str | None = None,
        server: str | None = None,
    ) -> None:
        self._settings = settings
        self._store = Store(settings.database)
        self._informer = Informer(informer)
        self._given_name = server_name(server) if server is not None else None
        self._named = asyncio.Event()
        self._hastened: dict[str, float] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: list[asyncio.Task[None]] = []
        self._failed: asyncio.Future[None] | None = None
        # A dry run would have to write nothing, and tell what is only known once it is written.
        self._handler = Handler(handlers, name="chat", concurrency=256, dry_run=False)
        self._handler.on(TYPE)(self._handle)
        self._watching = Watching(self._informer, self._handler, self._ask, self._heard_name)
        self._around = self._watching.around

    # -- life ---------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Chats until SIGTERM or SIGINT.

        Raises:
            BadConfiguration: the database cannot be used, or is another server's.
            Refused: the server does not want this handler.
        """
        try:
            await self._open()
            await serve([self._handler], self._watching.watch(), self._look_after())
        finally:
            await self.stop()

    async def start(self) -> None:
        """Opens the database and attaches; returns when that is done.

        Raises:
            BadConfiguration, Refused: as :meth:`serve`.
        """
        await self._open()
        self._failed = asyncio.get_running_loop().create_future()
        self._spawn(self._handler.serve())
        self._spawn(self._watching.watch())
        self._spawn(self._look_after())
        await asyncio.wait(
            (asyncio.ensure_future(self._handler.wait_attached()), self._failed), return_when=asyncio.FIRST_COMPLETED
        )
        if self._failed.done():
            self._failed.result()

    async def _open(self) -> None:
        await self._store.open()
        if self._given_name is not None:
            await self._name(self._given_name)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and self._failed is not None:
            if self._failed.done():
                log.error("%s", error)
            else:
                self._failed.set_exception(error)

    async def stop(self) -> None:
        """Finishes what is outstanding, and closes the database. Can be called again."""
        await self._handler.stop()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._watching.stop()
        self._tasks.clear()
        await self._informer.close()
        await self._store.close()
        if self._failed is not None and not self._failed.done():
            self._failed.cancel()

    async def _name(self, name: str) -> None:
        """This is the server's name; the addresses in the database are of it, and of no other."""

        def keep(db: sqlite3.Connection) -> str:
            db.execute("INSERT OR IGNORE INTO facts VALUES ('server', ?)", (name,))
            (kept,) = db.execute("SELECT value FROM facts WHERE name = 'server'").fetchone()
            return str(kept)

        kept = await self._store.submit(keep)
        if kept != name:
            raise BadConfiguration(
                f"{self._settings.database} is the database of {kept}, and this server is {name}: its people have other"
                " addresses; start with another database"
            )
        self._around.own = name
        self._named.set()

    async def _heard_name(self, name: object) -> None:
        """The informer told the server's name; a server of an older version does not, and its accounts' messages do."""
        if not self._named.is_set() and isinstance(name, str):
            await self._name(name)
        await self._named.wait()

    # -- what comes -----------------------------------------------------------------------------------------------

    async def _handle(self, message: Request) -> list[Command]:
        sender = message.sender
        if not sender.verified or sender.server is None:
            raise Refuse("chat is between servers that prove their names", code="chat.notAllowed")
        if message.scope == "client" and sender.user is not None:
            if not self._named.is_set():
                await self._name(sender.server)
            return await self._from_account(sender.user, message.raw)
        if message.scope == "server":
            try:
                async with within(NAME_TIMEOUT_S):
                    await self._named.wait()
                return await self._from_server(sender.server.lower(), message.raw)
            except (ClientError, sqlite3.Error, TimeoutError) as error:
                # It has no confirmation then, and comes again.
                log.warning("%s said something in vain: %s", sender.server, error)
                raise _busy() from error
        raise Refuse("chat is asked by accounts and by other servers", code="chat.notAllowed")

    async def _from_account(self, user: str, raw: msgspec.Raw) -> list[Command]:
        own = self._around.own
        try:
            op = read_client_op(raw)
        except BadMessage as error:
            raise Refuse(str(error), code="chat.badMessage") from error
        if op.sender is not None and op.sender != f"{user}@{own}":
            raise Refuse("from is another's address; it may be left out", code="chat.forged")
        if user.startswith("#"):
            raise Refuse("an account #... cannot chat", code="chat.badAddress")
        try:
            await self._watching.heard_from(user)
            needed = home.recipient(op, own)
            blocks = isinstance(op, Block) and op.on
            async with self._turn(f"{user}@"):
                exists = needed is not None and await self._informer.is_account(needed)
                before = await self._watching.seen_by(user) if blocks else []
                work = self._submit(lambda book: home.handle(book, user, op, exists))
            book, answer = await work
        except (Refused, BadChatAddress, InvalidName) as error:
            code = error.code if isinstance(error, Refused) else "badAddress"
            raise Refuse(str(error), code=f"chat.{code}", temporary=code == "busy") from error
        except (ClientError, sqlite3.Error) as error:
            log.warning("%s asked in vain: %s", user, error)
            raise _busy() from error
        self._watching.meet(book)
        if isinstance(op, Hello):
            answer.online, probes = await self._watching.greet(user)
            book.passing += probes
        if before:
            await self._watching.hide(user, before)
        return await self._commands(book, _reply(answer))

    async def _from_server(self, server: str, raw: msgspec.Raw) -> list[Command]:
        own = self._around.own
        try:
            op = read_server_op(raw)
            peers.check(op, server, own)
            needed = peers.recipient(op, own)
        except (BadMessage, BadChatAddress, InvalidName, peers.Forged) as error:
            code = "chat.forged" if isinstance(error, peers.Forged) else "chat.badMessage"
            raise Refuse(str(error), code=code) from error
        if isinstance(op, Presence):
            async with self._turn(server):
                finding = self._submit(self._watching.told_of(op))
            return self._watching.tell_of((await finding)[1])
        if isinstance(op, Probe):
            return await self._watching.probed(op, server)
        hasten = self._is_back(server)

        def job(book: Book) -> None:
            if hasten:
                upkeep.hasten(book, server)
            peers.handle(book, server, op, exists)

        async with self._turn(server):
            exists = needed is not None and await self._informer.is_account(needed)
            work = self._submit(job)
        book, _ = await work
        self._watching.meet(book)
        return await self._commands(book)

    def _turn(self, sender: str) -> asyncio.Lock:
        """Held until a sender's message has its place in the book's queue: they stay in order, and share commits."""
        lock = self._turns.get(sender)
        if lock is None:
            lock = self._turns[sender] = asyncio.Lock()
        return lock

    async def _ask(self, work: Callable[[Book], T]) -> T:
        return (await self._submit(work))[1]

    def _submit(self, work: Callable[[Book], T]) -> asyncio.Future[tuple[Book, T]]:
        own, settings = self._around.own, self._settings
        now, steady = int(wall_time() * 1000), int(self._store.clock.now() * 1000)

        def job(db: sqlite3.Connection) -> tuple[Book, T]:
            book = Book(db, own, settings, now, steady)
            return book, work(book)

        return self._store.submit(job)

    async def _commands(self, book: Book, *more: Command) -> list[Command]:
        """Returns what a job has to say as commands; where it is too much for one answer, some of it is pushed."""
        commands: list[Command] = []
        size = 0
        for user, event in book.told:
            if self._around.here(user):
                data = msgspec.Raw(encode(event))
                size += len(data)
                commands.append(SendClients([user], data, transient=True))
                if size > MAX_ANSWER_BYTES:
                    await self._push(commands)
                    commands, size = [], 0
        for server, body in book.posts:
            size += len(body)
            commands.append(SendServers([server], msgspec.Raw(body)))
            if size > MAX_ANSWER_BYTES:
                await self._push(commands)
                commands, size = [], 0
        commands += [SendServers([server], as_data(op), transient=True) for server, op in book.passing]
        return [*commands, *more]

    async def _push(self, commands: list[Command]) -> None:
        # What is lost here is asked for by clients, and sent again to servers.
        if not commands:
            return
        with suppress(ClientError, TimeoutError):
            await self._handler.push(commands, timeout=30.0)

    # -- from time to time ----------------------------------------------------------------------------------------

    def _is_back(self, server: str) -> bool:
        now = time.monotonic()
        if now - self._hastened.get(server, -HASTEN_EVERY_S) < HASTEN_EVERY_S:
            return False
        if len(self._hastened) >= 10_000:
            self._hastened.clear()
        self._hastened[server] = now
        return True

    async def _look_after(self) -> None:
        forgotten = looked = time.monotonic() - FORGET_EVERY_S
        while True:
            await asyncio.sleep(self._settings.retry_s)
            if not self._named.is_set():
                continue
            try:
                await self._send_again()
                now = time.monotonic()
                if now - looked >= LOOK_AFTER_SERVERS_S:
                    looked = now
                    await self._watching.look_after_servers()
                if now - forgotten >= FORGET_EVERY_S:
                    forgotten = now
                    book, _ = await self._submit(upkeep.give_up)
                    await self._push(await self._commands(book))
                    while await self._ask(upkeep.forget):
                        pass
            except (ClientError, sqlite3.Error, TimeoutError) as error:
                log.warning("what is to be done from time to time has to wait: %s", error)

    async def _send_again(self) -> None:
        due = await self._ask(upkeep.due)
        for server, some in due.items():
            for _, body in some:
                command = SendServers([server], msgspec.Raw(body), transient=True)
                report = await self._handler.push(command, timeout=60.0)
                if not report.results or report.results[0].status != "sent":
                    break  # it is not there; the next time


def _busy() -> Refuse:
    return Refuse("this does not work just now; try again later", code="chat.busy", temporary=True)


def _reply(answer: Answer) -> Reply:
    return Reply(as_data(answer))
