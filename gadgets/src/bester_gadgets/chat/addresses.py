"""The addresses of people, ``user@server``, and of rooms, ``#name@server``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from bester.errors import InvalidName
from bester.protocol.names import server_name, username

MAX_ADDRESS = 1 + 64 + 1 + 253
"""Characters."""

_ROOM_NAME = re.compile(r"[^@#\s]{1,64}\Z")


class BadChatAddress(ValueError):
    """Not the address of a person or a room; the text says why, and is safe to show."""


@dataclass(frozen=True, slots=True)
class Address:
    """A person, or a room, in canonical spelling: what is equal is the same."""

    name: str
    server: str
    room: bool = False

    def __str__(self) -> str:
        return f"{'#' if self.room else ''}{self.name}@{self.server}"


@lru_cache(maxsize=8192)
def parse(text: str, own: str = "") -> Address:
    """Reads an address; one without a server is of the server ``own``, where that is given.

    Raises:
        BadChatAddress: not an address.
    """
    if len(text) > MAX_ADDRESS:
        raise BadChatAddress(f"an address has at most {MAX_ADDRESS} characters")
    name, at, server = text.rpartition("@")
    if not at:
        name, server = text, own
        if not own:
            raise BadChatAddress(f"{text!r} has no server: write user@server, or #room@server")
    room = name.startswith("#")
    try:
        if not room:
            return Address(username(name), server_name(server))
        if not _ROOM_NAME.match(name[1:]):
            raise BadChatAddress("a room's name has 1 to 64 characters, without spaces, # and @")
        return Address(username(name[1:]), server_name(server), True)
    except InvalidName as error:
        raise BadChatAddress(f"{text!r} is no address: {error.message}") from error


def parse_person(text: str, own: str = "") -> Address:
    """Reads the address of a person, as :func:`parse` does.

    Raises:
        BadChatAddress: not an address, or a room's.
    """
    address = parse(text, own)
    if address.room:
        raise BadChatAddress(f"{text!r} is a room, and a person is wanted")
    return address


def parse_room(text: str, own: str = "") -> Address:
    """Reads the address of a room, as :func:`parse` does.

    Raises:
        BadChatAddress: not an address, or a person's.
    """
    address = parse(text, own)
    if not address.room:
        raise BadChatAddress(f"{text!r} is no room: those begin with #")
    return address
