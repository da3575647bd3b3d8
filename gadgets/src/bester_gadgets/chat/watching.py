"""Presence at work: watches the informer, tells those who may see somebody, and takes what other chats tell."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from bester import ClientError, Command, Handler, Informer, SendClients, SendServers
from bester_gadgets.chat import audience
from bester_gadgets.chat.book import Book
from bester_gadgets.chat.presence import Around, Moves, announce
from bester_gadgets.chat.wire import MAX_ITEMS, Online, Presence, PresenceEvent, Probe, ServerBase, as_data

log = logging.getLogger("bester.chat")
PUSH_TIMEOUT_S = 30.0


class Watching:
    """See the module's text.

    Args:
        informer: of the own server.
        handler: pushes.
        ask: runs something with the book, and returns what it returned.
        named: is called with the server's name as the informer tells it, and returns when there is one.
    """

    def __init__(
        self,
        informer: Informer,
        handler: Handler,
        ask: Callable[[Callable[[Book], Any]], Awaitable[Any]],
        named: Callable[[object], Awaitable[None]],
    ) -> None:
        self.around = Around()
        self._informer = informer
        self._handler = handler
        self._ask = ask
        self._named = named
        self._meetings: set[asyncio.Task[None]] = set()

    async def watch(self) -> None:
        """Watches for ever, over as many informers as it takes."""
        around = self.around
        pause_s = 0.1
        while True:
            try:
                await self._named((await self._informer.server_info()).get("name"))
                around.retain(await self._informer.list_clients())
                async with self._informer.watch_clients() as watch:
                    for user in around.people():
                        await self._announce(user, True)
                    async for change in watch:
                        pause_s = 0.1
                        if change.online:
                            if around.came(change.user):
                                await self._announce(change.user, True)
                        elif around.certainly(change.user):
                            around.went(change.user)
                            await self._announce(change.user, False)
            except ClientError as error:
                around.forget()
                log.info("%s; trying again in %.1f s", error, pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, 5.0)

    async def heard_from(self, user: str) -> None:
        """An account said something: it may have come before the informer's word of it did."""
        around = self.around
        # Its end, should there be one by now, is told by the informer after this answer.
        if around.known and not around.certainly(user) and await self._informer.is_client(user) and around.came(user):
            await self._announce(user, True)

    async def _announce(self, user: str, online: bool) -> None:
        await self._tell(user, await self._ask(lambda book: audience.of(book, user)), online)

    async def _tell(self, user: str, seen_by: list[str], online: bool) -> None:
        own = self.around.own
        await self._move(announce(own, seen_by, f"{user}@{own}", online))

    async def seen_by(self, user: str) -> list[str]:
        """Returns who sees an account that is connected."""
        if not self.around.certainly(user):
            return []
        return list(await self._ask(lambda book: audience.of(book, user)))

    async def hide(self, user: str, before: list[str]) -> None:
        """Some of those who saw an account may not any more: for them it is gone."""
        after = set(await self.seen_by(user))
        await self._tell(user, [who for who in before if who not in after], False)

    def meet(self, book: Book) -> None:
        """Tells people whom they may see from now on, after the event that made them meet."""
        met = [(user, others) for user, others in book.met if self.around.certainly(user)]
        if met:
            task = asyncio.get_running_loop().create_task(self._introduce(met))
            self._meetings.add(task)
            task.add_done_callback(self._meetings.discard)

    async def _introduce(self, met: list[tuple[str, list[str]]]) -> None:
        def job(book: Book) -> list[tuple[str, list[str]]]:
            return [(user, [one for one in others if audience.may_see(book, user, one)]) for user, others in met]

        for user, seen_by in await self._ask(job):
            await self._tell(user, seen_by, True)

    async def stop(self) -> None:
        """Ends what is under way."""
        for task in self._meetings:
            task.cancel()
        if self._meetings:
            await asyncio.wait(self._meetings)

    async def _move(self, moves: Moves) -> None:
        commands: list[Command] = []
        for users, event in moves.told:
            some = [user for user in users if self.around.certainly(user)]
            if some:
                commands.append(SendClients(some, as_data(event), transient=True))
        commands += [SendServers([server], as_data(op), transient=True) for server, op in moves.passing]
        if commands:
            try:
                await self._handler.push(commands, timeout=PUSH_TIMEOUT_S)
            except (ClientError, TimeoutError) as error:
                log.info("presence was not told: %s", error)

    # -- elsewhere ------------------------------------------------------------------------------------------------

    async def greet(self, user: str) -> tuple[list[str], list[tuple[str, ServerBase]]]:
        """Returns whom an account sees, and what to ask other servers for it."""

        def job(book: Book) -> tuple[list[str], list[str]]:
            wanted = audience.looks_at(book, user)
            me = book.address(user)
            local = [
                who for who in wanted if (name := book.local(who)) is not None and audience.may_see(book, name, me)
            ]
            return local, [who for who in wanted if book.server_of(who) != book.own]

        around = self.around
        local, remote = await self._ask(job)
        online = [who for who in local if around.certainly(who.rpartition("@")[0])]
        servers: dict[str, list[str]] = {}
        for who in remote:
            servers.setdefault(who.rpartition("@")[2], []).append(who)
        probes: list[tuple[str, ServerBase]] = [
            (server, Probe(sender=f"{user}@{around.own}", of=some[at : at + MAX_ITEMS]))
            for server, some in servers.items()
            for at in range(0, len(some), MAX_ITEMS)
        ]
        return online + sorted(around.sees(user).intersection(remote)), probes

    def told_of(self, op: Presence) -> Callable[[Book], list[tuple[str, list[Online]]]]:
        """Returns the job that finds who is to be told of what another chat tells, and of whom."""

        def job(book: Book) -> list[tuple[str, list[Online]]]:
            found = []
            for address in op.to:
                user = book.local(address)
                if user is not None and self.around.certainly(user):
                    people = [one for one in op.people if audience.cares(book, user, one.who)]
                    if people:
                        found.append((user, people))
            return found

        return job

    def tell_of(self, found: list[tuple[str, list[Online]]]) -> list[Command]:
        """Returns how they are told."""
        for user, people in found:
            self.around.saw(user, people)
        return [SendClients([user], as_data(PresenceEvent(people=people)), transient=True) for user, people in found]

    async def probed(self, op: Probe, server: str) -> list[Command]:
        """Answers another chat that asks who is there."""

        def job(book: Book) -> list[str]:
            local = ((who, book.local(who)) for who in op.of)
            return [who for who, name in local if name is not None and audience.may_see(book, name, op.sender)]

        if not op.sender:
            return []
        people = [Online(who, self.around.certainly(who.rpartition("@")[0])) for who in await self._ask(job)]
        if not people:
            return []
        return [SendServers([server], as_data(Presence(to=[op.sender], people=people)), transient=True)]

    async def look_after_servers(self) -> None:
        """Asks the chats that people are seen of whether they are there; where not, nobody of them is."""
        for server in sorted(self.around.servers()):
            command = SendServers([server], as_data(Probe(of=[])), transient=True)
            report = await self._handler.push(command, timeout=2 * PUSH_TIMEOUT_S)
            if not report.results or report.results[0].status != "sent":
                await self._move(self.around.lost(server))
