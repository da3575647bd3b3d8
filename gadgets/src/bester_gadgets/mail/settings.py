"""The settings of the gadget ``mail``; docs/mail.md has them as a table."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from bester.errors import InvalidName
from bester.protocol.names import server_name, username
from bester_gadgets.settings import Settings

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=30 * 86400)]


def account(name: str) -> str:
    """Returns an account's name in its canonical form; what is wrong with it is a ``ValueError``."""
    try:
        return username(name)
    except InvalidName as error:
        raise ValueError(error.message) from error


class Part(Settings):
    """The base of all parts of the settings; their keys are in camel case."""

    model_config = ConfigDict(alias_generator=to_camel)


class Listen(Part):
    """The listener for incoming mail."""

    address: str = "127.0.0.1"
    port: Port = 2525
    protocol: Literal["smtp", "lmtp"] = "smtp"
    certificate: str | None = None
    key: str | None = None
    require_tls: bool = False
    refuse_own_senders: bool = True
    max_recipients: Annotated[int, Field(ge=1, le=1000)] = 100
    max_connections: Annotated[int, Field(ge=1, le=10000)] = 100
    max_connections_per_address: Annotated[int, Field(ge=1, le=10000)] = 20
    mails_per_minute: Annotated[float, Field(gt=0, le=1e6)] = 60
    timeout: Seconds = 300
    push_timeout: Seconds = 30

    @model_validator(mode="after")
    def _both_files(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key are given together, or neither")
        if self.require_tls and self.certificate is None:
            raise ValueError("requireTls needs a certificate and its key")
        if self.require_tls and self.protocol == "lmtp":
            raise ValueError("requireTls is for smtp; lmtp is for a mail server of your own")
        return self


class Smarthost(Part):
    """The smarthost for outgoing mail."""

    address: str
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    insecure: bool = False
    """Whether ``none`` is allowed to a host that is not this machine."""
    ca: str | None = None
    username: str | None = None
    password: str | None = None
    password_file: str | None = None
    timeout: Seconds = 60

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.tls == "none" and not self.insecure and not _is_loopback(self.address):
            raise ValueError('tls = "none" is for a smarthost on this machine; insecure = true allows it elsewhere')
        if self.password is not None and self.password_file is not None:
            raise ValueError("password or passwordFile, not both")
        if (self.username is None) != (self.password is None and self.password_file is None):
            raise ValueError("username goes with password or passwordFile")
        return self


class Send(Part):
    """The accounts that may send, and the bounds on what they send."""

    allow: list[str] | None = None
    mails_per_hour: Annotated[float, Field(gt=0, le=1e6)] = 100
    max_recipients: Annotated[int, Field(ge=1, le=1000)] = 50
    max_queued: Annotated[int, Field(ge=1, le=1000000)] = 10000
    max_queued_bytes: Annotated[int, Field(ge=1024)] = 1024 * 1024 * 1024

    @field_validator("allow")
    @classmethod
    def _names(cls, names: list[str] | None) -> list[str] | None:
        return None if names is None else [account(name) for name in names]


class Retry(Part):
    """The waits before a mail that failed for now is tried again, in seconds."""

    first: Seconds = 1
    max: Seconds = 900
    give_up: Seconds = 3 * 86400

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if self.max < self.first:
            raise ValueError("max is at least first")
        return self


class MailSettings(Part):
    """All of them."""

    domains: Annotated[list[str], Field(min_length=1, max_length=100)]
    """The domains whose mail is for accounts of this server; they send from the first one."""
    database: str = "mail.sqlite"
    handlers: str | None = None
    informer: str | None = None
    max_message: Annotated[int, Field(ge=4096, le=64 * 1024 * 1024)] = 1024 * 1024
    """Bytes: of a mail, and of the data that is made of it."""
    aliases: dict[str, Annotated[list[str], Field(min_length=1, max_length=100)]] = Field(default_factory=dict)
    listen: Listen | None = None
    smarthost: Smarthost | None = None
    send: Send = Send()
    retry: Retry = Retry()

    @field_validator("domains")
    @classmethod
    def _domain_names(cls, names: list[str]) -> list[str]:
        try:
            return [server_name(name) for name in names]
        except InvalidName as error:
            raise ValueError(error.message.replace("a server's name", "a domain")) from error

    @field_validator("aliases")
    @classmethod
    def _alias_names(cls, aliases: dict[str, list[str]]) -> dict[str, list[str]]:
        return {account(name): [account(one) for one in accounts] for name, accounts in aliases.items()}

    @property
    def domain(self) -> str:
        """The one that accounts send from."""
        return self.domains[0]

    def beside(self, folder: Path) -> MailSettings:
        """Returns the same with the paths in it seen from the folder of the settings file."""

        def seen(path: str | None) -> str | None:
            return None if path is None else str(folder / path)

        listen, smarthost = self.listen, self.smarthost
        if listen is not None:
            listen = listen.model_copy(update={"certificate": seen(listen.certificate), "key": seen(listen.key)})
        if smarthost is not None:
            paths = {"ca": seen(smarthost.ca), "password_file": seen(smarthost.password_file)}
            smarthost = smarthost.model_copy(update=paths)
        return self.model_copy(
            update={
                "database": seen(self.database),
                "handlers": seen(self.handlers),
                "informer": seen(self.informer),
                "listen": listen,
                "smarthost": smarthost,
            }
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
