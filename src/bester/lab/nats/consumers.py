"""Consumers, as far as our servers make them: temporary, pulled from, and without acknowledgements.

So nothing is delivered twice, and a consumer that is lost loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bester.lab.nats.answers import RELEASE, Wanted, nanoseconds, time_text
from bester.lab.nats.errors import BAD_REQUEST, Refused
from bester.lab.nats.streams import Consumer, Stream
from bester.lab.nats.wire import Message, status, with_headers

_USUAL: dict[str, Any] = {
    "deliver_policy": "all",
    "ack_policy": "none",
    "max_deliver": -1,
    "filter_subject": "",
    "replay_policy": "instant",
    "max_waiting": 512,
    "headers_only": False,
    "inactive_threshold": 5_000_000_000,
    "num_replicas": 1,
    "mem_storage": False,
}


def create_consumer(stream: Stream, name: str, given: dict[str, Any], now: float, time: float) -> dict[str, Any]:
    """Makes a consumer, and returns the answer to the request for it.

    Raises:
        Refused: it is of a kind that is not simulated.
    """
    config = {**_USUAL, **given}
    if (
        config["ack_policy"] != "none"
        or config["deliver_policy"] != "all"
        or config.keys() & {"deliver_subject", "durable_name", "filter_subjects"}
    ):
        raise Refused(BAD_REQUEST)
    consumer = Consumer(name, config, time_text(time), now)
    stream.consumers[name] = consumer
    start = {"consumer_seq": 0, "stream_seq": max(0, stream.log.first - 1)}
    return {
        "stream_name": stream.name,
        "name": name,
        "created": consumer.created,
        "config": config | {"metadata": {"_nats.level": "5", "_nats.ver": RELEASE}},
        "delivered": start,
        "ack_floor": start,
        "num_ack_pending": 0,
        "num_redelivered": 0,
        "num_waiting": 0,
        "num_pending": sum(1 for _ in stream.log.after(consumer.next, consumer.pattern)),
        "ts": time_text(time),
    }


def pull(stream: Stream, consumer: Consumer, wanted: Wanted, reply: str, now: float) -> Iterator[Message]:
    """Yields the next messages, and a status if there are fewer than the request wants: it never waits for more."""
    consumer.ends = now + consumer.config["inactive_threshold"] / 1e9
    found = list(stream.log.after(consumer.next, consumer.pattern))
    left = len(found)
    batch = wanted.batch or 1
    for stored in found[:batch]:
        left -= 1
        consumer.delivered += 1
        consumer.next = stored.sequence + 1
        ack = (
            f"$JS.ACK.{stream.name}.{consumer.name}.1.{stored.sequence}.{consumer.delivered}."
            f"{nanoseconds(stored.time)}.{left}"
        )
        if consumer.config["headers_only"]:
            headers = with_headers(stored.headers, f"Nats-Msg-Size: {len(stored.data)}\r\n")
            yield Message(stored.subject, ack, headers, b"")
        else:
            yield Message(stored.subject, ack, stored.headers, stored.data)
    if len(found) < batch:
        yield Message(reply, "", status("404 No Messages"), b"")
