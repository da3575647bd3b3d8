"""Mailboxes, the outbox and the memory of ``once`` messages, in JetStream."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from bester.bus.connection import Bus
from bester.clock import JUMP_S, SteadyClock, wall_time
from bester.store.jetstream.divided import ONE, Keeping
from bester.store.jetstream.mailboxes import JetStreamMailboxes
from bester.store.jetstream.names import Names
from bester.store.jetstream.once import JetStreamOnce
from bester.store.jetstream.outbox import JetStreamOutbox
from bester.store.ports import Letter, Outgoing, Queued, account_queue

log = logging.getLogger("bester.clock")


class JetStreamMessages(JetStreamMailboxes, JetStreamOutbox, JetStreamOnce):
    """All of a :class:`~bester.store.ports.MessageStore`, for a cluster.

    Args:
        bus: the connection, which is open before this is.
        names: of this server's streams.
        keeping: on how many NATS servers each message is kept, and in how many streams.
    """

    def __init__(self, bus: Bus, names: Names, keeping: Keeping = ONE) -> None:
        JetStreamMailboxes.__init__(self, bus, names, keeping)
        JetStreamOutbox.__init__(self, bus, names, keeping.replicas)
        JetStreamOnce.__init__(self, bus, names, keeping)
        self._streams = (self._mail, self._out, self._tried, self._once)

    async def open(self) -> None:
        for stream in self._streams:
            await stream.open()

    async def close(self) -> None:
        for stream in self._streams:
            stream.close()

    async def resume_clock(self, clock: SteadyClock) -> None:
        """Begins where NATS's clock is, whatever this machine's says: so all nodes count by one clock."""
        clock.start_at(await self._out.nats_time())
        off_s = wall_time() - clock.now()
        if abs(off_s) > JUMP_S:
            log.warning("this machine's system clock is %+.0f s off that of NATS; lifetimes go by NATS's", off_s)

    async def keep_clock(self, clock: SteadyClock) -> None:
        """Keeps nothing: NATS's clock goes on while no node runs."""
        clock.moment()

    async def bury_letters(self, letters: Sequence[tuple[Letter, int]], why: str, now: float) -> None:
        """First it is a dead letter, then it leaves its mailbox: what a failure leaves in both is buried once more."""
        for letter, tries in letters:
            message = Outgoing(account_queue(letter.username), letter.delivery_id, letter.type, letter.data, 0)
            await self.restore_outbox([Queued(0, message, now, tries, 0.0, why, True)])
        for letter, _ in letters:
            await self.remove_letter(letter.username, letter.delivery_id)
