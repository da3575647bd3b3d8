"""A subscription: a subject, and the function that is called with its messages."""

from __future__ import annotations

from collections.abc import Callable

MessageCallback = Callable[[str, str, bytes, bytes], None]
"""Called with subject, reply subject (or ``""``), header block (or ``b""``) and data."""


class Subscription:
    """Interest in one subject; made by :meth:`~bester.bus.connection.Bus.subscribe`.

    nats-py keeps these in place of its own subscriptions, each of which has a queue and a task. The names with an
    underscore are those that nats-py reads of a subscription (:mod:`bester.bus.wire`).
    """

    __slots__ = ("_id", "_queue", "_subject", "callback")

    _max_msgs = 0
    _received = 0
    _wait_for_msgs_task = None
    _message_iterator = None
    _pending_next_msgs_calls = None

    def __init__(self, id: int, subject: str, queue: str, callback: MessageCallback) -> None:
        self._id = id
        self._subject = subject
        self._queue = queue
        self.callback = callback
