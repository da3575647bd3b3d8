"""What the built-in commands take (docs/protocol.md, section 5)."""

from __future__ import annotations

from msgspec import Struct


class NoArgs(Struct):
    pass


class Credentials(Struct):
    username: str
    password: str


class PasswordChange(Struct):
    old: str
    new: str


class AccountName(Struct):
    username: str


class NewAccount(Struct):
    username: str
    password: str
    admin: bool = False


class Roles(Struct):
    username: str
    roles: list[str]


class Page(Struct):
    after: str = ""
    limit: int = 1000


class SomeClients(Struct):
    after: str = ""
    limit: int | None = None


class HandledType(Struct):
    type: str
    node: str | None = None


class HandlerOutput(Struct):
    type: str
    lines: int = 100
    node: str | None = None


class Reload(Struct):
    nodes: bool = False


class QueuePage(Struct):
    server: str | None = None
    dead: bool | None = None
    after: int = 0
    limit: int = 100


class QueueEntry(Struct):
    id: int


class Traced(Struct):
    id: str | None = None
    account: str | None = None
    type: str | None = None
    outcome: str | None = None
    since: float = 0.0
    limit: int = 100


class Since(Struct):
    since: float | None = None


class Retry(Struct):
    ids: list[int] | None = None
    server: str | None = None
    all: bool = False


class Drop(Struct):
    ids: list[int] | None = None
    server: str | None = None
    dead: bool | None = None
