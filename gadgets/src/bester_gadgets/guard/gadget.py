"""The guard's verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bester import Accept, Drop, Handler, Hold, Refuse, Request, Sender
from bester_gadgets.guard.blocklist import Blocklist
from bester_gadgets.guard.settings import FirstContact, GuardSettings, Rate
from bester_gadgets.rates import Rates
from bester_gadgets.running import serve
from bester_gadgets.settings import read_settings


def read(path: Path) -> GuardSettings:
    """Returns the settings of a file; paths in them are relative to it.

    Raises:
        SettingsError: they are wrong.
    """
    return read_settings(path, GuardSettings)


async def run(path: Path, settings: GuardSettings, handlers: str | None) -> None:
    """Runs the gadget until a signal.

    Raises:
        SettingsError: the file of blocked senders cannot be read.
        Refused: the server does not want this handler.
    """
    guard = Guard(settings, Blocklist(settings.blocked, path.parent))
    handler = Handler(handlers, name="guard", concurrency=settings.concurrency)
    handler.on(settings.type)(guard.judge)
    if settings.first_contact is not None:
        handler.on(settings.first_contact.type)(guard.meet)
    await serve([handler])


class Guard:
    """Gives verdicts: :meth:`judge` on anybody's messages, :meth:`meet` on those of strangers."""

    def __init__(self, settings: GuardSettings, blocked: Blocklist) -> None:
        self._blocked = blocked
        self._silently = settings.blocked.silently
        self._accounts = _rates(settings.accounts)
        self._servers = _rates(settings.servers)
        self._first_contact = settings.first_contact or FirstContact()

    def judge(self, request: Request) -> Accept | Drop:
        """Refuses what comes from blocked senders, and too much of any other."""
        sender = _sender_of(request)
        if sender in self._blocked:
            if self._silently:
                return Drop()
            raise Refuse("this server takes nothing from this sender", code="guard.blocked")
        rates = self._accounts if sender.user is not None else self._servers
        # Servers that prove no name share one rate.
        if rates is not None and not request.dry_run and (wait_s := rates.take((sender.user, sender.server))):
            raise Refuse(f"too many messages; wait {wait_s:.1f} s", code="guard.rate", temporary=True)
        return Accept()

    def meet(self, request: Request) -> Hold:
        """Holds the messages of a server that this one does not know."""
        sender = _sender_of(request)
        settings = self._first_contact
        if sender.server is None and settings.unproven == "refuse":
            raise Refuse("servers that prove no name cannot be consented to", code="guard.unproven")
        if settings.recipient is None:
            return Hold()
        account = _at(request.data, settings.recipient)
        if not isinstance(account, str) or not account:
            raise Refuse(f"the data has no recipient at {settings.recipient}", code="guard.noRecipient")
        return Hold(account)


def _sender_of(request: Request) -> Sender:
    if not request.guards:
        raise Refuse("this is a guard, which only the server asks", code="guard.onlyGuards")
    return request.sender


def _rates(rate: Rate | None) -> Rates | None:
    return Rates(rate.per_second, rate.burst) if rate is not None else None


def _at(data: Any, place: str) -> Any:
    """Returns the value at a place such as ``to.0.name``; None if there is none."""
    for part in place.split("."):
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and part.isdecimal() and int(part) < len(data):
            data = data[int(part)]
        else:
            return None
    return data
