"""Hands mails to accounts of this server: the one way in for what comes by SMTP, for local mail, and for bounces."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass

from msgspec.json import encode
from msgspec.structs import replace

from bester import ClientError, Handler, Informer, SendClients
from bester.errors import InvalidName
from bester.protocol.names import username
from bester_gadgets.mail.message import TYPE, Mail, ReceivedFrom, address_of, local_of
from bester_gadgets.mail.parse import bounded, now, parse
from bester_gadgets.mail.parts import header_of
from bester_gadgets.mail.settings import MailSettings
from bester_gadgets.mail.store import Store

log = logging.getLogger("bester.mail")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a mail for one account."""

    good: bool
    temporary: bool = False
    code: str = ""
    text: str = ""

    @property
    def smtp(self) -> str:
        """The reply to who handed it over (RFC 5321, RFC 3463)."""
        if self.good:
            return "250 2.0.0 delivered"
        if self.code == "mailboxFull":
            return "452 4.2.2 the mailbox is full"
        if self.code == "unknownAccount":
            return "550 5.1.1 no such account"
        if self.code == "tooLarge":
            return f"552 5.3.4 {self.text}"
        return f"451 4.3.0 {self.text}" if self.temporary else f"554 5.3.0 {self.text}"


GOOD = Outcome(True)


class Delivering:
    """Knows which addresses are ours, and pushes mails to their accounts."""

    def __init__(self, settings: MailSettings, handler: Handler, informer: Informer, store: Store) -> None:
        self._settings = settings
        self._handler = handler
        self._informer = informer
        self._store = store
        self._under_way: set[bytes] = set()

    # -- addresses ----------------------------------------------------------------------------------------------------

    def is_ours(self, address: str) -> bool:
        """Says whether an address is of one of our domains."""
        return address.rpartition("@")[2].lower().rstrip(".") in self._settings.domains

    async def accounts_of(self, address: str) -> list[str]:
        """Returns the accounts that get the mail for an address of ours; none: there is no such address.

        Raises:
            ClientError: the server cannot be asked now.
        """
        local = address.rpartition("@")[0]
        try:
            name = username(local_of(local))
        except InvalidName:
            return []
        accounts = self._settings.aliases.get(name, [name])
        return [account for account in accounts if await self._informer.is_account(account)]

    # -- mails --------------------------------------------------------------------------------------------------------

    def read(self, content: bytes, received_from: ReceivedFrom) -> Mail:
        """Returns a mail in the form for clients.

        Raises:
            parse.Unreadable: it is beyond what is taken.
        """
        mail = parse(content)
        mail.received_from = received_from
        mail.received_at = now()
        return mail

    async def deliver(self, account: str, address: str, content: bytes, mail: Mail) -> Outcome:
        """Hands a mail to an account; a good outcome means that the account has it, or that it is in its mailbox.

        The same mail is handed over once only, however often it is given here; at least once, where this process dies
        before it has noted that.
        """
        key = key_of(account, content, mail)
        if key in self._under_way:
            return Outcome(False, True, text="this mail is just being delivered")
        self._under_way.add(key)
        try:
            if await self._store.was_delivered(key):
                log.info("%s has %s already", account, mail.message_id or "this mail")
                return GOOD
            outcome = await self.push(account, replace(mail, delivered_to=address))
            if outcome.good:
                thread = bounded([*mail.references, *mail.in_reply_to, *filter(None, [mail.message_id])])
                await self._store.remember(key, account, mail.message_id, thread)
            return outcome
        finally:
            self._under_way.discard(key)

    async def push(self, account: str, mail: Mail) -> Outcome:
        """Sends a mail to an account, and says what became of it."""
        data = encode(mail)
        if len(data) > self._settings.max_message:
            limit = self._settings.max_message
            return Outcome(False, False, "tooLarge", f"as a message it has {len(data)} bytes, and {limit} are allowed")
        timeout_s = self._settings.listen.push_timeout if self._settings.listen else 30.0
        try:
            report = await self._handler.push(SendClients([account], mail), type=TYPE, timeout=timeout_s)
        except (ClientError, TimeoutError, RuntimeError) as error:
            log.warning("a mail for %s is not delivered yet: %s", account, error or "no report in time")
            return Outcome(False, True, text="the server cannot be reached")
        if report.good:
            return GOOD
        failed = next((one.error for one in report.results if one.error is not None), report.error)
        if failed is None:
            return Outcome(False, True, text="the server did not take it")
        # What the server says of our own connection, and not of the account, passes.
        temporary = failed.temporary or failed.code in ("overloaded", "internal")
        return Outcome(False, temporary, failed.code, "the server did not take it")

    def own_address(self, account: str) -> str:
        """Returns the address that an account sends from."""
        return address_of(account, self._settings.domain)


def key_of(account: str, content: bytes, mail: Mail) -> bytes:
    """Returns what tells a mail for an account from every other one.

    Its own id, and its body: so a repeat by another host of the same sender, whose trace fields differ, is recognised,
    and nobody who merely knows the id of a mail can keep it from arriving.
    """
    head = header_of(content)
    hashed = hashlib.sha256(account.encode() + b"\0")
    hashed.update(mail.message_id.encode() if mail.message_id else head)
    hashed.update(b"\0")
    hashed.update(memoryview(content)[len(head) :])
    return hashed.digest()
