"""The SMTP listener (RFC 5321; LMTP: RFC 2033): the conversations with those who bring mail.

It takes mail for our addresses and for nothing else, whoever asks: there is no way to authenticate, and so none to
relay.
A mail is said to be taken (250) when the server has reported it good for every recipient.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, Envelope, Session

from bester import ClientError
from bester.accepting import Acceptor, bound
from bester_gadgets.fresh import fresh_server
from bester_gadgets.mail.delivering import Delivering, Outcome
from bester_gadgets.mail.message import ReceivedFrom, printable
from bester_gadgets.mail.parts import Unreadable
from bester_gadgets.mail.settings import Listen
from bester_gadgets.rates import Rates, network_of
from bester_gadgets.settings import SettingsError, reason

MAX_REFUSED = 20
"""How many recipients of one connection may be unknown: more look for accounts."""
MAX_COMMANDS = 1000
MAX_STRAY_BYTES = 1024 * 1024
"""How much is read beyond a mail of the largest size without an answer being due."""
LINES_AT_ONCE = 1000
STOP_S = 10.0

log = logging.getLogger("bester.mail")


class Listener:
    """Listens from :meth:`open` to :meth:`close`."""

    def __init__(self, settings: Listen, hostname: str, max_message: int, delivering: Delivering) -> None:
        self._settings = settings
        self._hostname = hostname
        self._max_message = max_message
        self._door = Door(settings, delivering)
        self._acceptors: list[Acceptor] = []
        self.port = 0

    async def open(self) -> None:
        """Opens the socket.

        Raises:
            SettingsError: that, or the certificate, cannot be used.
        """
        settings = self._settings
        tls = None
        if settings.certificate is not None:
            assert settings.key is not None
            try:
                tls = fresh_server(settings.certificate, settings.key)
            except (OSError, ssl.SSLError) as error:
                raise SettingsError(
                    f"listen.certificate: {settings.certificate} and its key: {reason(error)}"
                ) from error
        kind = _Lmtp if settings.protocol == "lmtp" else _Smtp

        def conversation() -> _Smtp:
            return kind(
                self._door,
                data_size_limit=self._max_message,
                enable_SMTPUTF8=True,
                hostname=self._hostname,
                ident="ready",
                tls_context=tls,
                require_starttls=settings.require_tls,
                timeout=settings.timeout,
                auth_exclude_mechanism=["LOGIN", "PLAIN"],
                command_call_limit=MAX_COMMANDS,
            )

        where = f"{settings.address}:{settings.port}"
        try:
            sockets = await bound(settings.address, settings.port)
            self.port = sockets[0].getsockname()[1]
            self._acceptors = [Acceptor(one, f"smtp on {where}", lambda _: conversation()) for one in sockets]
            for acceptor in self._acceptors:
                acceptor.open()
        except OSError as error:
            raise SettingsError(f"listen: {where} cannot be listened on: {error.strerror or error}") from error

    async def close(self) -> None:
        """Takes no new connections, lets mails that have come whole be delivered, and ends."""
        for acceptor in self._acceptors:
            acceptor.close()
        self._acceptors.clear()
        self._door.closing = True
        conversations = set(self._door.conversations)
        for one in conversations:
            one.end_soon()
        if self._door.deliveries:
            await asyncio.wait(set(self._door.deliveries), timeout=STOP_S)
        if conversations:
            await asyncio.wait([asyncio.ensure_future(one.ended.wait()) for one in conversations], timeout=1.0)
        for one in set(self._door.conversations):
            one.cut()
        self._door.reading.shutdown(wait=False, cancel_futures=True)


class Door:
    """Answers the commands of each conversation; aiosmtpd calls the ``handle_`` methods."""

    def __init__(self, settings: Listen, delivering: Delivering) -> None:
        self.settings = settings
        self.conversations: set[_Smtp] = set()
        self.deliveries: set[asyncio.Task[str]] = set()
        self.closing = False
        self.reading = ThreadPoolExecutor(1, thread_name_prefix="mail-reading")
        self._delivering = delivering
        self._rates = Rates(settings.mails_per_minute / 60, max(1.0, settings.mails_per_minute))

    def why_not(self, conversation: _Smtp) -> str | None:
        """Returns why a new connection is turned away, or None."""
        if self.closing:
            return "421 4.3.2 shutting down"
        same = sum(other.network == conversation.network for other in self.conversations)
        if len(self.conversations) > self.settings.max_connections or same > self.settings.max_connections_per_address:
            return "421 4.7.0 too many connections, try again later"
        return None

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Greets; AUTH is not offered, because nobody may send through here."""
        session.host_name = hostname
        return [line for line in responses if line[4:8] != "AUTH"]

    async def handle_MAIL(  # noqa: N802
        self, server: _Smtp, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Begins a mail."""
        if self._rates.take(server.network):
            return "450 4.7.1 too many mails from your address, try again later"
        if self.settings.refuse_own_senders and self._delivering.is_ours(address):
            return "550 5.7.1 mail from this domain is not taken here: its accounts send through their own server"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: _Smtp, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Takes a recipient that is an account here, or an alias of one."""
        if len(envelope.rcpt_tos) >= self.settings.max_recipients:
            return "452 4.5.3 too many recipients"
        if server.refused >= MAX_REFUSED:
            return "421 4.7.0 too many unknown recipients"
        if address.lower() == "postmaster":
            found = await self._accounts(f"postmaster@{server.hostname}")
        elif not self._delivering.is_ours(address):
            server.refused += 1
            return "550 5.7.1 relaying denied"
        else:
            found = await self._accounts(address)
        if found is None:
            return "451 4.3.0 accounts cannot be looked up now, try again later"
        if not found:
            server.refused += 1
            return "550 5.1.1 no such account"
        if address not in envelope.rcpt_tos:
            envelope.rcpt_tos.append(address)
        server.accounts[address] = found
        return "250 2.1.5 OK"

    async def _accounts(self, address: str) -> list[str] | None:
        try:
            return await self._delivering.accounts_of(address)
        except ClientError as error:
            log.warning("accounts cannot be looked up: %s", error)
            return None

    async def handle_DATA(self, server: _Smtp, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Delivers a mail."""
        # A peer that goes away must not take its delivery with it: what was delivered is noted, so that the peer's
        # repeat does not double it.
        task = asyncio.create_task(self._data(server, session, envelope))
        self.deliveries.add(task)
        task.add_done_callback(self.deliveries.discard)
        try:
            return await asyncio.shield(task)
        except Exception:
            log.exception("a mail from %s failed", server.network)
            return "451 4.3.0 it could not be handled, try again later"

    async def _data(self, server: _Smtp, session: Session, envelope: Envelope) -> str:
        content = bytes(envelope.original_content or b"")
        sender = envelope.mail_from or ""
        peer = ReceivedFrom(
            address=server.peer,
            helo=printable(session.host_name or "", 255),
            tls=session.ssl is not None,
            mail_from="" if sender == "<>" else printable(sender, 255),
        )
        server.delivering = True
        try:
            # One after the other, beside the conversations: a stranger chose how long each takes.
            loop = asyncio.get_running_loop()
            mail = await loop.run_in_executor(self.reading, self._delivering.read, content, peer)
            outcomes: dict[str, Outcome] = {}
            results = []
            for address in envelope.rcpt_tos:
                for account in server.accounts[address]:
                    if account not in outcomes:
                        outcomes[account] = await self._delivering.deliver(account, address, content, mail)
                results.append(_worst([outcomes[account] for account in server.accounts[address]]))
        except Unreadable as error:
            return error.status
        finally:
            server.delivering = False
        log.info(
            "%s from <%s> (%s, %d bytes): %s",
            mail.message_id or "a mail without an id",
            peer.mail_from,
            peer.address,
            len(content),
            ", ".join(f"{account} {outcome.smtp[:3]}" for account, outcome in outcomes.items()),
        )
        return server.reply(results)

    async def handle_exception(self, error: Exception) -> str:
        """Returns the answer to a conversation that failed inside."""
        log.error("a conversation failed", exc_info=error)
        return "451 4.3.0 an error here, try again later"


def _worst(outcomes: list[Outcome]) -> Outcome:
    """One outcome for several: what failed for now wins, since the repeat does no harm where it was delivered."""
    failed = [one for one in outcomes if not one.good]
    if not failed:
        return outcomes[0]
    temporary = [one for one in failed if one.temporary]
    if temporary:
        return temporary[0]
    if len(failed) < len(outcomes):
        # The next try finds out at RCPT which one it is.
        return Outcome(False, True, text="not delivered to all, try again later")
    return failed[0]


class _FairReader(asyncio.StreamReader):
    """Gives others their turn while there are many short lines at once."""

    lines = 0

    async def readuntil(self, separator: Any = b"\n") -> bytes:
        self.lines += 1
        if self.lines % LINES_AT_ONCE == 0:
            await asyncio.sleep(0)
        return await super().readuntil(separator)


class _Smtp(SMTP):
    """One conversation, with the bounds that aiosmtpd leaves to others."""

    event_handler: Door

    def __init__(self, door: Door, **more: Any) -> None:
        super().__init__(door, **more)
        self.network = ""
        self.peer = ""
        self.refused = 0
        self.accounts: dict[str, list[str]] = {}
        self.delivering = False
        self.ended = asyncio.Event()
        self._unanswered = 0
        self._turned_away: str | None = None
        self._ending = False

    def reply(self, results: list[Outcome]) -> str:
        """The one answer to a mail's end."""
        return _worst(results).smtp

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Also called when TLS begins."""
        again = self in self.event_handler.conversations
        super().connection_made(transport)
        if not again:
            peername = transport.get_extra_info("peername") or ("", 0)
            self.peer, self.network = str(peername[0]), network_of(str(peername[0]))
            self.event_handler.conversations.add(self)
            self._turned_away = self.event_handler.why_not(self)

    def _cb_client_connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader.__class__ = _FairReader  # aiosmtpd makes it, and lets nobody choose
        super()._cb_client_connected(reader, writer)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.event_handler.conversations.discard(self)
        self.ended.set()

    def data_received(self, data: bytes) -> None:
        """Ends the connection of who sends without end: a line that does not end would be kept."""
        self._unanswered += len(data)
        if self._unanswered > 2 * (self.data_size_limit or 0) + MAX_STRAY_BYTES:
            log.warning("%s sends without end, and is cut off", self.peer)
            self.cut()
            return
        super().data_received(data)

    async def push(self, status: Any) -> None:
        """Answers."""
        self._unanswered = 0
        await super().push(status)
        if str(status).startswith("421") and self.transport is not None:
            self.transport.close()
        if self._ending and not self.delivering and self.transport is not None:
            self.transport.close()

    async def _handle_client(self) -> None:
        if self._turned_away is not None:
            await self.push(self._turned_away)
            return
        await super()._handle_client()

    async def smtp_AUTH(self, arg: str) -> None:  # noqa: N802
        """Never: see the module's text."""
        await self.push("502 5.5.1 there is nothing to authenticate for here")

    async def smtp_VRFY(self, arg: str) -> None:  # noqa: N802
        """Tells nothing about accounts."""
        await self.push("252 2.5.2 send some mail, and see")

    def end_soon(self) -> None:
        """Ends with the answer to the mail that is just being delivered, or else now."""
        self._ending = True
        if not self.delivering and self.transport is not None:
            self.transport.close()

    def cut(self) -> None:
        """Ends at once."""
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()


class _Lmtp(_Smtp, LMTP):
    """A conversation with one answer for each recipient (LMTP, RFC 2033)."""

    def __init__(self, door: Door, **more: Any) -> None:
        super().__init__(door, **more)
        self._answers = 0

    def reply(self, results: list[Outcome]) -> str:
        return "\r\n".join(one.smtp for one in results)

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        """Lets what aiosmtpd says once of a mail that is too large be said for each of its recipients."""
        self._answers = len(self.envelope.rcpt_tos) if self.envelope is not None else 0
        try:
            await super().smtp_DATA(arg)
        finally:
            self._answers = 0

    async def push(self, status: Any) -> None:
        if self._answers > 1 and isinstance(status, str) and status[:3] not in ("354", "501", "503"):
            status = status if "\r\n" in status else "\r\n".join([status] * self._answers)
        await super().push(status)
