"""What a stream's servers can say about a request."""

from __future__ import annotations


class NoLeader(Exception):
    """Nobody can answer now: an election is going on."""


class SubjectTaken(Exception):
    """The subject has a message already, and the stream refuses another one."""


class WrongLastSequence(Exception):
    """The subject's last message is not the one that was expected (``Nats-Expected-Last-Subject-Sequence``)."""
