"""Takes the mails that accounts send: checked, composed, and on disk before they are reported good."""

from __future__ import annotations

import logging

from msgspec import ValidationError
from msgspec.json import decode

from bester import ClientError, Refuse, Reply, Request, Response
from bester_gadgets.mail.compose import Composed, compose
from bester_gadgets.mail.delivering import Delivering
from bester_gadgets.mail.message import (
    RESULT_TYPE,
    Address,
    Invalid,
    Outgoing,
    Result,
    invalid,
    shown,
)
from bester_gadgets.mail.parse import bounded
from bester_gadgets.mail.settings import MailSettings
from bester_gadgets.mail.store import Full, Store
from bester_gadgets.mail.worker import Worker
from bester_gadgets.rates import Rates

log = logging.getLogger("bester.mail")


class Outbound:
    """The function of the type ``mail``."""

    def __init__(self, settings: MailSettings, store: Store, delivering: Delivering, worker: Worker) -> None:
        self._settings = settings
        self._store = store
        self._delivering = delivering
        self._worker = worker
        self._rates = Rates(settings.send.mails_per_hour / 3600, max(1.0, settings.send.mails_per_hour))

    async def handle(self, message: Request) -> Response:
        """Queues a mail of an account of this server, and tells the session that sent it.

        Raises:
            Refuse: it is not sent.
        """
        sender = message.sender
        if message.scope != "client" or sender.user is None or not sender.verified:
            raise Refuse("only accounts of this server send mail", code="mail.notAllowed")
        return await self._queue(sender.user, message)

    async def _queue(self, account: str, message: Request) -> Response:
        send = self._settings.send
        if send.allow is not None and account not in send.allow:
            raise Invalid("this account may not send mail", "mail.notAllowed")
        if self._rates.take(account):
            most = f"at most {send.mails_per_hour:g} mails in an hour are allowed; try again later"
            raise Invalid(most, "mail.throttled", temporary=True)
        try:
            outgoing = decode(message.raw, type=Outgoing)
        except ValidationError as error:
            raise invalid(error) from error
        except ValueError as error:
            raise Invalid("the data cannot be read") from error
        address = self._delivering.own_address(account)
        _check_sender(outgoing.sender, address)
        thread = await self._thread(account, outgoing)
        mail = compose(outgoing, address, thread, send.max_recipients)
        local = await self._local(mail)
        if self._settings.smarthost is None and len(local) < len(mail.recipients):
            other = next(one for one in mail.recipients if one not in local)
            raise Invalid(f"{shown(other)}: there is no smarthost, so mail reaches only {self._settings.domain}")
        try:
            id = await self._store.add(account, mail, local, thread, send.max_queued, send.max_queued_bytes)
        except Full as error:
            raise Invalid(f"{error}; try again later", "mail.full", temporary=True) from error
        log.info("%s queued as %d, from %s to %d recipients", mail.message_id, id, account, len(mail.recipients))
        self._worker.wake()
        told = Result(status="queued", id=message.id, message_id=mail.message_id, queue_id=id)
        return Reply(told, type=RESULT_TYPE)

    async def _thread(self, account: str, outgoing: Outgoing) -> list[str]:
        """The references of a reply: those that the client gives, or else what is remembered of the mail answered."""
        if not outgoing.in_reply_to:
            return bounded(outgoing.references)
        if outgoing.references:
            return bounded([*outgoing.references, outgoing.in_reply_to])
        return bounded(await self._store.thread(account, outgoing.in_reply_to))

    async def _local(self, mail: Composed) -> dict[str, list[str]]:
        """The accounts of the recipients that are ours."""
        local: dict[str, list[str]] = {}
        for address in mail.recipients:
            if not self._delivering.is_ours(address):
                continue
            try:
                local[address] = await self._delivering.accounts_of(address)
            except ClientError as error:
                later = "accounts cannot be looked up now; try again later"
                raise Invalid(later, "mail.unavailable", temporary=True) from error
            if not local[address]:
                raise Invalid(f"{shown(address)}: there is no such account")
        return local


def _check_sender(claimed: str | Address | None, own: str) -> None:
    if claimed is None:
        return
    address = claimed if isinstance(claimed, str) else claimed.address
    if address.lower() != own.lower() or (isinstance(claimed, Address) and claimed.name):
        raise Invalid(f"from: {shown(address)} is not yours; you send as {own}, and may leave it out")
