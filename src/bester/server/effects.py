"""Carries out what the exchange decided: its effects, one after the other, and one write to each endpoint."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from bester.core.effects import (
    AskRemote,
    Bury,
    CallClassic,
    CutOff,
    Deposit,
    Finished,
    Forward,
    HoldBack,
    Pause,
    PresenceChanged,
    ReadMailbox,
    Recall,
    Remember,
    RemoveLetter,
    Resume,
    Share,
    TellHandler,
    TellNode,
    TellPart,
)
from bester.core.endpoint import Endpoint
from bester.core.metrics import Drop
from bester.server.connections.connection import Stop
from bester.server.federation.federation import Federation
from bester.server.handlers.classic import ClassicCalls
from bester.server.held import HeldMessages
from bester.server.mailboxes import Mailboxes
from bester.server.ports import RemoteEffects
from bester.server.runtime import Runtime

log = logging.getLogger("bester.server")


class Effects:
    """Carries out the exchange's effects at the end of each turn.

    Args:
        runtime: whose exchange decides.
        classic: calls handlers in the classic form.
        federation: sends to other servers.
        mailboxes: keeps messages and what became of them.
        held: keeps messages until somebody consents to them.
        cluster: the other nodes, which come first where a message may be for them.
    """

    def __init__(
        self,
        runtime: Runtime,
        classic: ClassicCalls,
        federation: Federation,
        mailboxes: Mailboxes,
        held: HeldMessages,
        cluster: RemoteEffects,
    ) -> None:
        self._runtime = runtime
        self._exchange = runtime.exchange
        self._classic = classic
        self._federation = federation
        self._mailboxes = mailboxes
        self._cluster = cluster
        self._loop = asyncio.get_running_loop()
        self._methods: dict[type[Any], Callable[[Any], object]] = {  # all that ``bester.core.effects.Effect`` names
            CallClassic: self._call_classic,
            Forward: self._forward,
            Deposit: self._deposit,
            RemoveLetter: mailboxes.remove_letter,
            Bury: mailboxes.bury,
            ReadMailbox: mailboxes.read_mailbox,
            Recall: self._recall,
            Remember: mailboxes.remember,
            HoldBack: held.hold_back,
            Pause: self._pause,
            Resume: self._resume,
            CutOff: self._cut_off,
            PresenceChanged: self._presence_changed,
            Finished: self._finished,
            AskRemote: cluster.ask_handler,
            TellHandler: cluster.tell_handler,
            TellPart: cluster.tell_part,
            Share: cluster.share,
            TellNode: cluster.tell,
        }

    def flush(self) -> None:
        """Carries out the effects there are, and writes the frames there are.

        In this order: admission leads to effects, effects to frames, and writing to reports; each may lead to more.
        """
        exchange = self._exchange
        batch = exchange.batch
        while batch.freed or batch.effects or batch.dirty or batch.awaits_write:
            if batch.freed:
                exchange.settle()
            if batch.effects:
                effects, batch.effects = batch.effects, []
                methods = self._methods
                for effect in effects:
                    try:
                        methods[type(effect)](effect)
                    except Exception:
                        batch.counters.drops.count(Drop.EFFECT_FAILED)
                        log.exception("%s could not be carried out", type(effect).__name__)
            dirty, batch.dirty = batch.dirty, []
            for endpoint in dirty:
                endpoint.listed = False
                out = endpoint.out
                if out:
                    try:
                        endpoint.writer.write(out)
                    except Exception:
                        self._cannot_write(endpoint)
                    out.clear()
            if batch.awaits_write:
                exchange.written()

    def _cannot_write(self, endpoint: Endpoint) -> None:
        """Ends one connection after a fault of ours, so that the frames of the others are written."""
        self._exchange.batch.counters.drops.count(Drop.FRAME_UNSENT, len(endpoint.out))
        log.exception("%s cannot be written to; it is closed", endpoint.writer)
        endpoint.writer.abort()

    def _call_classic(self, effect: CallClassic) -> None:
        self._classic.call(effect.request)

    def _forward(self, effect: Forward) -> None:
        self._federation.send(effect)

    def _deposit(self, effect: Deposit) -> None:
        if not self._cluster.deposit(effect):
            self._mailboxes.deposit(effect)

    def _recall(self, effect: Recall) -> None:
        if not self._cluster.recall(effect):
            self._mailboxes.recall(effect)

    def _pause(self, effect: Pause) -> None:
        effect.endpoint.writer.stop_reading(Stop.HELD)

    def _resume(self, effect: Resume) -> None:
        effect.endpoint.writer.resume_reading(Stop.HELD)

    def _cut_off(self, effect: CutOff) -> None:
        if not effect.session.closed:
            effect.session.writer.cut_off()

    def _presence_changed(self, effect: PresenceChanged) -> None:
        for watcher in list(self._runtime.presence_watchers):  # a copy: a watcher that does not read leaves the list
            watcher(effect.username, effect.online)

    def _finished(self, effect: Finished) -> None:
        # After the report is written, which is later in this flush.
        self._loop.call_soon(effect.endpoint.writer.finished)
