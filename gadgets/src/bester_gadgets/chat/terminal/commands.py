"""Reads the commands that begin with a slash."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Form:
    """A command: its arguments, what it does, and whether it needs one, and a room."""

    arguments: str
    help: str
    needs: bool = False
    rest: bool = False
    """The rest of the line is one argument, spaces and all."""


FORMS: dict[str, Form] = {
    "chat": Form("USER@SERVER", "talk to somebody", needs=True),
    "join": Form("#ROOM@SERVER", "join a room, or accept an invitation to it"),
    "create": Form("#ROOM [TOPIC]", "make a room on your own server", needs=True),
    "private": Form("#ROOM [TOPIC]", "make a room that one is invited to", needs=True),
    "invite": Form("USER@SERVER", "invite somebody into this room", needs=True),
    "who": Form("", "who is in this room"),
    "topic": Form("TEXT", "set this room's topic", rest=True),
    "kick": Form("USER@SERVER", "remove somebody from this room", needs=True),
    "leave": Form("", "leave this room, or decline an invitation"),
    "block": Form("[USER@SERVER | SERVER]", "block somebody, or a whole server"),
    "unblock": Form("USER@SERVER | SERVER", "block them no more", needs=True),
    "blocked": Form("", "whom you block"),
    "theme": Form("", "dark or light"),
    "help": Form("", "this help"),
    "quit": Form("", "leave"),
}


class BadCommand(ValueError):
    """Not a command; the text says what is."""


@dataclass(frozen=True, slots=True)
class Given:
    """A command as it was given."""

    name: str
    argument: str = ""
    rest: str = ""


def parse(line: str) -> Given | str:
    """Returns a command, or the text to send; what begins with two slashes is a text that begins with one.

    Raises:
        BadCommand: there is no such command, or something is missing.
    """
    if not line.startswith("/"):
        return line
    if line.startswith("//"):
        return line[1:]
    name, _, rest = line[1:].strip().partition(" ")
    found = [known for known in FORMS if known == name.lower()] or [
        known for known in FORMS if name and known.startswith(name.lower())
    ]
    if len(found) != 1:
        several = f": is it /{' or /'.join(found)}?" if found else "; /help lists them"
        raise BadCommand(f"there is no /{name}{several}" if name else "a command follows the slash; /help lists them")
    form = FORMS[found[0]]
    rest = rest.strip()
    if form.needs and not rest:
        raise BadCommand(f"/{found[0]} {form.arguments}")
    if form.rest:
        return Given(found[0], rest, rest)
    argument, _, more = rest.partition(" ")
    return Given(found[0], argument, more.strip())
