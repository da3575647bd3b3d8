"""Works off the queue: to the smarthost, to accounts here, and back to the sender what failed.

A mail leaves the queue only after its recipient's side has answered for it. So it arrives at least once; twice where
that answer is lost, or this process dies between the answer and the disk. Both have the same Message-ID then.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from msgspec.json import decode, encode

from bester.timeouts import within
from bester_gadgets.mail.delivering import Delivering, Outcome
from bester_gadgets.mail.message import Failure, Mail, ReceivedFrom
from bester_gadgets.mail.parse import now
from bester_gadgets.mail.parts import Unreadable
from bester_gadgets.mail.settings import MailSettings, Retry
from bester_gadgets.mail.smarthost import Conversation, Route, Said, Unreachable
from bester_gadgets.mail.store import Notice, Queued, Recipient, Store

log = logging.getLogger("bester.mail")

IDLE_S = 60.0


class Worker:
    """Works while :meth:`run` runs."""

    def __init__(self, settings: MailSettings, store: Store, delivering: Delivering, route: Route | None) -> None:
        self._settings = settings
        self._store = store
        self._delivering = delivering
        self._route = route
        self._news = asyncio.Event(), asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """There is something new."""
        for news in self._news:
            news.set()

    def stop_soon(self) -> None:
        """Lets :meth:`run` return after the mail that is under way."""
        self._stopping = True
        self.wake()

    async def run(self) -> None:
        """Does what is due, and waits for what is next, until :meth:`stop_soon`."""
        elsewhere, here = self._news
        # A smarthost that takes its time does not keep what stays here waiting.
        await asyncio.gather(self._repeat(self._send, elsewhere, False), self._repeat(self._deliver, here, True))

    async def _repeat(self, work: Callable[[], Awaitable[None]], news: asyncio.Event, local: bool) -> None:
        failures = 0
        while not self._stopping:
            news.clear()
            try:
                await work()
                at = await self._store.next_time(local)
                failures = 0
            except sqlite3.Error as error:
                # What was sent and could not be noted is sent again: ever less often, as long as that is so.
                at = self._store.clock.now() + pause_s(self._settings.retry, failures)
                failures += 1
                log.error("the database failed, and mails wait: %s", error)
            wait_s = IDLE_S if at is None else min(IDLE_S, max(0.0, at - self._store.clock.now()))
            with suppress(TimeoutError):
                async with within(wait_s):
                    await news.wait()

    # -- elsewhere ----------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        mails = await self._store.due(local=False)
        if not mails:
            return
        if self._route is None:
            await self._put_off(mails, "there is no smarthost")
            return
        suspects = mails
        try:
            async with Conversation(self._route) as conversation:
                for mail in mails:
                    if self._stopping or (mail is not mails[0] and not conversation.connected):
                        return  # the others have their turn in the next one
                    suspects = [mail]
                    addresses = [one.address for one in mail.recipients]
                    content = await self._store.content(mail.id)
                    said = await conversation.send(mail.sender, addresses, content, mail.utf8)
                    await self._settle(mail, said)
        except Unreachable as error:
            # Without a conversation all wait; one that was lost over a mail holds up that mail, and no other.
            await self._put_off(suspects, str(error))

    async def _put_off(self, mails: Sequence[Queued], why: str) -> None:
        log.warning("the smarthost: %s; %d mails wait", why, len(mails))
        for mail in mails:
            await self._settle(mail, {one.address: Said(False, text=why) for one in mail.recipients})

    # -- here ---------------------------------------------------------------------------------------------------------

    async def _deliver(self) -> None:
        for notice in await self._store.notices():
            if self._stopping:
                return
            await self._tell(notice)
        for mail in await self._store.due(local=True):
            if self._stopping:
                return
            content = await self._store.content(mail.id)
            try:
                read = self._delivering.read(content, ReceivedFrom(account=mail.account))
            except Unreadable as error:
                said = {one.address: Said(False, True, text=error.status) for one in mail.recipients}
                await self._settle(mail, said)
                continue
            for one in mail.recipients:
                outcome = await self._delivering.deliver(one.account or "", one.address, content, read)
                await self._settle(mail, {one.address: _said(outcome)}, [one])

    async def _tell(self, notice: Notice) -> None:
        outcome = await self._delivering.push(notice.account, decode(notice.data, type=Mail))
        if outcome.good or not outcome.temporary or notice.tries >= self._most_tries:
            if not outcome.good:
                log.warning("%s cannot be told that a mail failed: %s", notice.account, outcome.smtp)
            await self._store.told(notice.id)
        else:
            await self._store.told(notice.id, self._store.clock.now() + pause_s(self._settings.retry, notice.tries))

    @property
    def _most_tries(self) -> int:
        """After so many the time to give up has passed, too."""
        return 20 + int(self._settings.retry.give_up / self._settings.retry.max)

    # -- both ---------------------------------------------------------------------------------------------------------

    async def _settle(self, mail: Queued, said: dict[str, Said], only: list[Recipient] | None = None) -> None:
        """Notes what was said of a mail's recipients; for those that failed for good its sender is to be told."""
        retry = self._settings.retry
        done: list[int] = []
        later: list[tuple[int, float, str]] = []
        failed: list[Failure] = []
        too_old = self._store.clock.now() - mail.created >= retry.give_up
        for one in mail.recipients if only is None else only:
            outcome = said.get(one.address, Said(False, text="the smarthost said nothing of this recipient"))
            if outcome.good:
                done.append(one.id)
            elif outcome.permanent or too_old:
                status = "refused" if outcome.permanent else "gaveUp"
                done.append(one.id)
                failed.append(Failure(one.address, status, outcome.text, outcome.code))
            else:
                later.append((one.id, self._store.clock.now() + pause_s(retry, one.tries), outcome.text))
        notice = (mail.account, encode(bounce(mail, failed))) if failed else None
        await self._store.settle(mail.id, done, later, notice)
        if failed:
            self.wake()
        log.info("%s: %d sent, %d wait, %d failed", mail.message_id, len(done) - len(failed), len(later), len(failed))


def _said(outcome: Outcome) -> Said:
    return Said(outcome.good, not outcome.temporary, None, outcome.smtp)


def pause_s(retry: Retry, tries: int) -> float:
    """Returns how long to wait after a try: twice as long each time, and up to a quarter more or less."""
    return min(retry.max, retry.first * 2.0 ** min(tries, 60)) * random.uniform(0.75, 1.25)


def bounce(mail: Queued, failed: list[Failure]) -> Mail:
    """Returns what the sender of a mail is told of recipients that it did not reach."""
    lines = [f"{one.address}: {'' if one.code is None else f'{one.code} '}{one.text}" for one in failed]
    return Mail(
        kind="bounce",
        subject="Your mail was not delivered",
        date=now(),
        in_reply_to=[mail.message_id],
        text="Your mail did not reach:\n\n" + "\n".join(lines) + "\n",
        failed=failed,
    )
