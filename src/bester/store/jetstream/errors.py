"""Errors with which a stream's servers refuse a request."""

from __future__ import annotations


class NoLeader(Exception):
    """The stream has no leader now, because an election is going on."""


class SubjectTaken(Exception):
    """The subject has a message already, and the stream refuses another one."""


class WrongLastSequence(Exception):
    """The subject's last message is not the one that was expected (``Nats-Expected-Last-Subject-Sequence``)."""
