"""One conversation with the smarthost: what it says of each recipient of each mail."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import aiosmtplib

from bester import dialling
from bester.timeouts import within
from bester_gadgets.fresh import Fresh, fresh_verifying
from bester_gadgets.mail.message import printable
from bester_gadgets.mail.settings import Smarthost
from bester_gadgets.settings import SettingsError, reason

MAX_TEXT = 500
QUIT_S = 5.0
OUR_LOGIN = (530, 534, 535, 538)
"""Answers about our login, and not about a mail: the operator can put it right, so no mail fails for them."""


@dataclass(frozen=True, slots=True)
class Said:
    """The smarthost's answer for one recipient."""

    good: bool
    permanent: bool = False
    code: int | None = None
    text: str = ""


MAX_PASSWORD_BYTES = 4096


class Unreachable(Exception):
    """There is no conversation (any more); nothing was said of what had no answer yet."""


class Route:
    """The way to the smarthost, with the credentials that are in the files when they are needed."""

    def __init__(self, settings: Smarthost, hostname: str) -> None:
        """Checks what the settings name.

        Raises:
            SettingsError: a file cannot be used.
        """
        self.settings = settings
        self.hostname = hostname
        self._password: Fresh[str] | None = None
        if settings.password_file is not None:
            file = Path(settings.password_file)
            try:
                self._password = Fresh(lambda: _password_in(file), file)
            except (OSError, ValueError) as error:
                raise SettingsError(f"smarthost.passwordFile: {settings.password_file}: {reason(error)}") from error
        self._context: Fresh[ssl.SSLContext] | None = None
        if settings.tls != "none":
            try:
                self._context = fresh_verifying(settings.ca)
            except (OSError, ssl.SSLError) as error:
                raise SettingsError(f"smarthost.ca: {settings.ca}: {reason(error)}") from error

    @property
    def password(self) -> str | None:
        """Returns the password, as its file has it now; None where there is none."""
        return self.settings.password if self._password is None else self._password.get()

    @property
    def context(self) -> ssl.SSLContext | None:
        """The context for TLS; None where there is none."""
        return None if self._context is None else self._context.get()

    async def connected(self) -> socket.socket:
        """Returns a new connection; it is the caller's.

        Raises:
            Unreachable: there is none, or not in time.
        """
        where = self.settings.address, self.settings.port
        try:
            async with within(self.settings.timeout):
                return await dialling.connected(await dialling.addresses([where]))
        except OSError as error:
            why = str(error) or f"no answer within {self.settings.timeout:g} s"
            raise Unreachable(
                printable(f"Error connecting to {where[0]} on port {where[1]}: {why}", MAX_TEXT)
            ) from error


def _password_in(file: Path) -> str:
    with file.open("rb") as opened:
        return opened.read(MAX_PASSWORD_BYTES).decode().strip("\r\n")


class Conversation:
    """A connection to the smarthost, for ``async with``.

    Raises:
        Unreachable: when it is entered: no connection, no TLS, a certificate that proves another name, or no login.
    """

    def __init__(self, route: Route) -> None:
        settings = route.settings
        self._route = route
        self._smtp = aiosmtplib.SMTP(
            hostname=settings.address,
            username=settings.username,
            password=route.password if settings.username is not None else None,
            local_hostname=route.hostname,
            timeout=settings.timeout,
            use_tls=settings.tls == "implicit",
            start_tls=settings.tls == "starttls",
            tls_context=route.context,
        )

    async def __aenter__(self) -> Self:
        try:
            await self._smtp.connect(sock=await self._route.connected())
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            # It was handed a socket, so it does not know the port.
            told = _told(error).replace("on port None", f"on port {self._route.settings.port}")
            raise Unreachable(told) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._smtp.is_connected and error is None:
            with suppress(aiosmtplib.SMTPException, OSError):  # all that mattered was answered before
                await self._smtp.quit(timeout=QUIT_S)
        self._smtp.close()

    async def send(self, sender: str, recipients: Sequence[str], content: bytes, utf8: bool) -> dict[str, Said]:
        """Sends a mail, and returns what was said of each recipient.

        Raises:
            Unreachable: the connection was lost before everything was answered: the smarthost may have the mail.
        """
        try:
            options = ["SMTPUTF8"] if utf8 else None
            refused, _ = await self._smtp.sendmail(sender, list(recipients), content, mail_options=options)
        except aiosmtplib.SMTPRecipientsRefused as error:
            return {one.recipient: _judged(one.code, one.message) for one in error.recipients}
        except aiosmtplib.SMTPResponseException as error:
            return dict.fromkeys(recipients, _judged(error.code, error.message))
        except aiosmtplib.SMTPNotSupported as error:
            return dict.fromkeys(recipients, Said(False, True, None, printable(error.message, MAX_TEXT)))
        except (aiosmtplib.SMTPException, OSError) as error:
            self._smtp.close()
            raise Unreachable(_told(error)) from error
        except asyncio.CancelledError:
            self._smtp.close()
            raise
        said = {address: _judged(one.code, one.message) for address, one in refused.items()}
        return {address: said.get(address, Said(True)) for address in recipients}

    @property
    def connected(self) -> bool:
        """Tells whether there is a connection to send on."""
        return self._smtp.is_connected


def _judged(code: int, text: str) -> Said:
    permanent = 500 <= code <= 599 and code not in OUR_LOGIN
    return Said(False, permanent, code, printable(text, MAX_TEXT))


def _told(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, aiosmtplib.SMTPResponseException):
        text = f"{error.code} {error.message}"
    return printable(text, MAX_TEXT)
