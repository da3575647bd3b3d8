"""Mailboxes, the outbox, what is held for consent, and the records of ``once`` messages, in JetStream."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from bester.bus.connection import Bus
from bester.clock import JUMP_S, SteadyClock, wall_time
from bester.store.jetstream.held import JetStreamHeld
from bester.store.jetstream.mailboxes import JetStreamMailboxes
from bester.store.jetstream.names import Names
from bester.store.jetstream.once import JetStreamOnce
from bester.store.jetstream.outbox import JetStreamOutbox
from bester.store.jetstream.partitions import SINGLE, Layout
from bester.store.ports import Letter, Outgoing, Queued, account_queue

log = logging.getLogger("bester.clock")


class JetStreamMessages(JetStreamMailboxes, JetStreamOutbox, JetStreamHeld, JetStreamOnce):
    """A :class:`~bester.store.ports.MessageStore` for a cluster.

    Args:
        bus: the connection, which is open before this is.
        names: of this server's streams.
        layout: on how many NATS servers each message is, and among how many streams they are divided.
        clock: never goes back; None: the system's.
    """

    def __init__(
        self, bus: Bus, names: Names, layout: Layout = SINGLE, clock: Callable[[], float] | None = None
    ) -> None:
        JetStreamMailboxes.__init__(self, bus, names, layout, clock)
        JetStreamOutbox.__init__(self, bus, names, layout.replicas)
        JetStreamHeld.__init__(self, bus, names, layout.replicas)
        JetStreamOnce.__init__(self, bus, names, layout)
        self._streams = (self.letters, self.outgoing, self.tries, self.held, self.trust, self.records)

    async def open(self) -> None:
        for stream in self._streams:
            await stream.open()

    async def close(self) -> None:
        for stream in self._streams:
            stream.close()

    async def restore_clock(self, clock: SteadyClock) -> None:
        """Starts the clock at NATS's time instead of this machine's, so that all nodes count by one clock."""
        clock.start_at(await self.outgoing.nats_time())
        off_s = wall_time() - clock.now()
        if abs(off_s) > JUMP_S:
            log.warning("this machine's system clock is %+.0f s off that of NATS; lifetimes go by NATS's", off_s)

    async def save_clock(self, clock: SteadyClock) -> None:
        """Saves nothing: NATS's clock goes on while no node runs."""
        clock.moment()

    async def bury_letters(self, letters: Sequence[tuple[Letter, int]], why: str, now: float) -> None:
        """Adds the dead letter first, and then removes it from its mailbox: after a failure between the two it is done
        again."""
        for letter, tries in letters:
            message = Outgoing(account_queue(letter.username), letter.delivery_id, letter.type, letter.data, 0)
            await self.restore_outbox([Queued(0, message, now, tries, 0.0, why, True)])
        for letter, _ in letters:
            await self.purge_letter(letter.username, letter.delivery_id)
