"""The webhook's settings; docs/webhook.md lists them."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic.alias_generators import to_camel
from yarl import URL

from bester.errors import BesterError
from bester.protocol import names
from bester.protocol.addresses import parse_address
from bester_gadgets.settings import Settings, handled_type
from bester_gadgets.webhook.signing import read_secret

MIN_TOKEN = 20
MAX_BYTES = 960 * 1024
"""A frame of 1 MiB, the server's limit, has room for it and its recipients."""
MAX_SECRET_FILE_BYTES = 4096
CommandName = Literal["reply", "sendClients", "sendServers", "sendHandler"]
_hook_name = re.compile(r"[A-Za-z0-9_-]{1,64}\Z").match


def _checked(check: object) -> AfterValidator:
    def validate(text: str) -> str:
        try:
            return check(text)  # type: ignore[operator, no-any-return]
        except BesterError as error:
            raise ValueError(error.message) from error

    return AfterValidator(validate)


def _address(text: str) -> str:
    parse_address(text)
    return text


def _hook(text: str) -> str:
    if not _hook_name(text):
        raise ValueError("a hook's name has 1 to 64 letters, digits, - and _")
    return text


HandledType = Annotated[str, AfterValidator(handled_type)]
Username = Annotated[str, _checked(names.username)]
Address = Annotated[str, _checked(_address)]
HookName = Annotated[str, AfterValidator(_hook)]


class Part(Settings):
    """The base of this gadget's settings: keys in camel case, as in the server's configuration."""

    model_config = ConfigDict(alias_generator=to_camel)


def _folder(info: ValidationInfo) -> Path:
    return Path(info.context) if info.context is not None else Path()


def _read_secret_file(name: Path, info: ValidationInfo) -> str:
    """Returns what a file of a secret says; its name is relative to the settings."""
    try:
        with (_folder(info) / name).open("rb") as file:
            return file.read(MAX_SECRET_FILE_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{name}: {getattr(error, 'strerror', None) or 'not a text'}") from error


class Signed(Part):
    """The base of what has secrets: one, or several while one is replaced by another."""

    secret: SecretStr | None = None
    secrets: list[SecretStr] = Field(default_factory=list, max_length=8)
    secret_file: Path | None = None

    @model_validator(mode="after")
    def _gathered(self, info: ValidationInfo) -> Self:
        found = [one.get_secret_value() for one in (self.secret, *self.secrets) if one is not None]
        if self.secret_file is not None:
            found += _read_secret_file(self.secret_file, info).split()
        for one in found:
            read_secret(one)
        object.__setattr__(self, "secrets", [SecretStr(one) for one in found])
        return self

    @property
    def keys(self) -> list[bytes]:
        """The keys to sign with, or to verify with."""
        return [read_secret(one.get_secret_value()) for one in self.secrets]


class Hook(Signed):
    """Outgoing: messages of these types are posted to a URL, and the answer is executed."""

    types: list[HandledType] = Field(min_length=1, max_length=64)
    url: str = Field(max_length=2048)
    plain: bool = False
    """Allows ``http://`` to other machines."""
    ca: Path | None = None
    timeout: float = Field(default=5.0, ge=0.05, le=300)
    """Seconds for one try."""
    within: float = Field(default=25.0, ge=0.05, le=3600)
    """Seconds for all tries; less than the server's time limit for a handler (30)."""
    retries: int = Field(default=3, ge=0, le=20)
    max_answer: int = Field(default=256 * 1024, ge=16, le=MAX_BYTES)
    commands: list[CommandName] = Field(default=["reply", "sendClients"])
    concurrency: int = Field(default=32, ge=1, le=1024)

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        url = URL(self.url)
        if url.scheme not in ("http", "https") or not url.host or url.user is not None:
            raise ValueError("url: allowed is http:// or https:// with a host, and without a user")
        if url.scheme == "http" and not self.plain and not _is_loopback(url.host):
            raise ValueError(
                "url: http:// to another machine can be read on the way: use https://, or set plain = true"
            )
        if not self.secrets:
            raise ValueError("a secret is needed (secret, secrets or secretFile): what is called must know who calls")
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Push(Signed):
    """Incoming: who has the token, or signs, may send this, and nothing else."""

    type: HandledType | None = None
    types: list[HandledType] = Field(default_factory=list, max_length=64)
    to: list[Username] | Literal["any"] = Field(default_factory=list, max_length=1000)
    """Accounts."""
    servers: list[Address] | Literal["any"] = Field(default_factory=list, max_length=100)
    token: SecretStr | None = None
    token_file: Path | None = None
    raw: bool = False
    """The whole body is the data."""
    transient: bool = False
    rate: float = Field(default=10.0, gt=0, le=100_000)
    """Per second."""
    burst: int = Field(default=20, ge=1, le=100_000)
    max_body: int = Field(default=64 * 1024, ge=16, le=MAX_BYTES)

    @field_validator("to", "servers", mode="after")
    @classmethod
    def _distinct(cls, value: list[str] | str) -> list[str] | str:
        return list(dict.fromkeys(value)) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _bound(self, info: ValidationInfo) -> Self:
        if (self.type is None) == (not self.types):
            raise ValueError("type, or types to choose from")
        if not self.to and not self.servers:
            raise ValueError('to or servers: a list of recipients, or "any"')
        if self.raw and (self.types or "any" in (self.to, self.servers)):
            raise ValueError("raw has no place to say types and recipients: fix them with type, and to or servers")
        if self.token is not None and self.token_file is not None:
            raise ValueError("token or tokenFile, not both")
        if self.token_file is not None:
            object.__setattr__(self, "token", SecretStr(_read_secret_file(self.token_file, info)))
        if (self.token is None) == (not self.secrets):
            raise ValueError("a token (token, tokenFile), or a secret to sign with (secret, secrets, secretFile)")
        if self.token is not None and len(self.token.get_secret_value()) < MIN_TOKEN:
            raise ValueError(f"a token has at least {MIN_TOKEN} characters")
        return self


class Listen(Part):
    """The address of the endpoint."""

    address: str = "127.0.0.1"
    port: int = Field(default=8470, ge=0, le=65535)
    certificate: Path | None = None
    key: Path | None = None
    max_requests: int = Field(default=256, ge=1, le=10_000)
    """Authentic ones that are carried out at the same time; twice as many connections."""
    max_per_address: int = Field(default=64, ge=1, le=20_000)
    """Connections."""
    timeout: float = Field(default=10.0, ge=0.05, le=300)
    """Seconds for a header to arrive, for the body, and for the server's report."""
    remembered: int = Field(default=10_000, ge=1, le=1_000_000)
    """Idempotency keys of each hook."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key stand together")
        return self


class WebhookSettings(Part):
    """The whole file."""

    name: HandledType = "webhook"
    """The type that it attaches for to push, since a handler has at least one."""
    hooks: dict[HookName, Hook] = Field(default_factory=dict, max_length=256)
    push: dict[HookName, Push] = Field(default_factory=dict, max_length=1024)
    listen: Listen = Listen()

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if not self.hooks and not self.push:
            raise ValueError("there is neither a hook ([hooks.NAME]) nor a push ([push.NAME])")
        types = [type for hook in self.hooks.values() for type in hook.types]
        types += [self.name] if self.push else []
        twice = sorted({type for type in types if types.count(type) > 1})
        if twice:
            raise ValueError(f"a type has one hook, and name is a type of its own: {', '.join(twice)}")
        return self
