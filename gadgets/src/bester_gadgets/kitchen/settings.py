"""The kitchen's settings; docs/kitchen.md lists them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic.alias_generators import to_camel

from bester.errors import InvalidName
from bester.protocol import names
from bester_gadgets.settings import Settings, handled_type

MAX_NAME = 64
_name = re.compile(rf"[^\s/#+\x00-\x20\x7f]{{1,{MAX_NAME}}}\Z").match
ROLE = "role:"
SERVER = "server:"


class Part(Settings):
    """The base of this gadget's settings: keys in camel case, as in the server's configuration."""

    model_config = ConfigDict(alias_generator=to_camel, validate_default=False)


def _device_name(text: str) -> str:
    if not is_device_name(text):
        raise ValueError(f"a device's name has 1 to {MAX_NAME} characters, without spaces and / + #")
    return text


def is_device_name(text: str) -> bool:
    """Tells whether a device may have this name."""
    return bool(_name(text))


def _topic(text: str) -> str:
    if not 1 <= len(text.encode()) <= 512 or any(char in text for char in "+#\0"):
        raise ValueError("a topic has 1 to 512 bytes and no wildcards")
    return text


def _who(text: str) -> str:
    try:
        if text == "accounts":
            return text
        if text.startswith(ROLE):
            if text == ROLE:
                raise InvalidName("the role has no name")
            return text
        if text.startswith(SERVER):
            return SERVER + names.server_name(text.removeprefix(SERVER))
        return names.username(text)
    except InvalidName as error:
        raise ValueError(f"allowed: accounts, role:NAME, server:NAME, or a username: {error.message}") from error


def _server(text: str) -> str:
    try:
        return names.server_name(text)
    except InvalidName as error:
        raise ValueError(error.message) from error


DeviceName = Annotated[str, AfterValidator(_device_name)]
Topic = Annotated[str, AfterValidator(_topic)]
Who = Annotated[str, AfterValidator(_who)]
ServerName = Annotated[str, AfterValidator(_server)]
TypeName = Annotated[str, AfterValidator(handled_type)]
Value = bool | int | float | str


class Broker(Part):
    """The settings for reaching the broker."""

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=1883, ge=1, le=65535)
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    tls: bool = False
    ca: Path | None = None
    version: Literal["3.1.1", "5"] = "5"
    client_id: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("password or passwordFile, not both")
        if self.ca is not None and not self.tls:
            raise ValueError("ca needs tls = true")
        return self


class Allowed(Part):
    """The values that one key of a command may have: one of ``values``, a number, or a text."""

    values: list[Value] | None = Field(default=None, min_length=1, max_length=64)
    min: float | None = None
    max: float | None = None
    max_length: int | None = Field(default=None, ge=1, le=1024)
    topic: Topic | None = None
    """Where the bare value goes; None: in an object, to the device's ``commandTopic``."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        ranged = self.min is not None or self.max is not None
        if (self.values is not None) + ranged + (self.max_length is not None) != 1:
            raise ValueError("allowed: values, or min and max, or maxLength")
        if ranged and (self.min is None or self.max is None or self.min > self.max):
            raise ValueError("min and max stand together, and min is not above max")
        return self


class DeviceSettings(Part):
    """One device."""

    kind: str = Field(default="", max_length=64)
    title: str = Field(default="", max_length=256)
    topic: Topic | None = None
    """Its members are readings where the payload is a JSON object; else it is the reading ``value``."""
    topics: dict[DeviceName, Topic] = Field(default_factory=dict, max_length=64)
    """A topic for each reading."""
    units: dict[str, Annotated[str, Field(max_length=32)]] = Field(default_factory=dict, max_length=64)
    see: list[Who] = Field(default_factory=lambda: ["accounts"], max_length=1000)
    command: list[Who] = Field(default_factory=list, max_length=1000)
    command_topic: Topic | None = None
    set: dict[DeviceName, Allowed] = Field(default_factory=dict, max_length=64)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.topic is None and not self.topics:
            raise ValueError("a device has a topic, or topics")
        missing = [key for key, allowed in self.set.items() if allowed.topic is None]
        if missing and self.command_topic is None:
            raise ValueError(f"set.{missing[0]} needs a topic, or the device a commandTopic")
        return self


class Discover(Part):
    """Devices that are found: ``PREFIX/NAME/READING`` and ``PREFIX/NAME``; they take no commands."""

    prefix: Topic
    kind: str = Field(default="", max_length=64)
    see: list[Who] = Field(default_factory=lambda: ["accounts"], max_length=1000)


class Limits(Part):
    """The bounds on what is taken, and kept, from one side."""

    devices: int = Field(default=256, ge=1, le=10_000)
    readings: int = Field(default=64, ge=1, le=256)
    payload: int = Field(default=16 * 1024, ge=16, le=256 * 1024)
    """Bytes of one message of a device."""
    subscriptions: int = Field(default=64, ge=1, le=10_000)
    """Of one account."""
    rules: int = Field(default=16, ge=1, le=256)
    """Of one subscription."""
    asks_per_s: float = Field(default=20.0, gt=0, le=10_000, alias="asksPerSecond")
    """Of one account."""


class KitchenSettings(Part):
    """The whole file."""

    type: TypeName = "kitchen"
    database: Path = Path("kitchen.db")
    interval: float = Field(default=1.0, ge=0.01, le=3600)
    """Seconds between two pushes of one device's state, and between two alarms of one rule."""
    servers: list[ServerName] = Field(default_factory=list, max_length=1000)
    """The servers whose kitchens may ask here, and be asked from here."""
    broker: Broker = Broker()
    limits: Limits = Limits()
    devices: dict[DeviceName, DeviceSettings] = Field(default_factory=dict, max_length=10_000)
    discover: Discover | None = None

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if not self.devices and self.discover is None and not self.servers:
            raise ValueError("there are no devices: declare some, or a discover.prefix, or servers to ask")
        if len(self.devices) > self.limits.devices:
            raise ValueError(f"there are {len(self.devices)} devices; limits.devices is {self.limits.devices}")
        return self
