"""Puts the codes of refusals, which servers tell each other, into words."""

from __future__ import annotations

from bester_gadgets.chat.wire import Problem

WORDS = {
    "unknownRoom": "there is no such room",
    "inviteOnly": "one is invited to this room",
    "full": "the room is full",
    "notMember": "you are not in this room",
    "notOwner": "only the room's owner may do that",
    "tooMany": "there are too many",
    "unknownAccount": "there is no such account",
    "expired": "the other server did not answer for too long",
    "removed": "you were removed",
}


def words(code: str) -> str:
    """Returns what a code says; what is not known stands as it is."""
    return WORDS.get(code, code)


def explain(code: str) -> Problem:
    """Returns a code of another server with its words."""
    return Problem(code, words(code))
