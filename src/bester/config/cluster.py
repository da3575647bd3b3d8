"""Several nodes that are one server (docs/scale.md)."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from bester.config.values import Block, FilePath, Text, field, path

MAX_NODE_CHARACTERS = 64
MAX_PARTITIONS = 256


def _node(text: str) -> str:
    if len(text) > MAX_NODE_CHARACTERS or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError
    return text


def _replicas(number: int) -> int:
    if number not in (1, 3, 5):
        raise ValueError
    return number


def _nats_url(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in ("nats", "tls") or not url.hostname or url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError
    _ = url.port  # raises a ValueError if it is invalid
    return text


NatsUrl = Annotated[Text, AfterValidator(_nats_url)]
"""Excludes ``ws://``: nodes speak NATS's own protocol."""
NodeName = Annotated[Text, AfterValidator(_node)]
Replicas = Annotated[int, AfterValidator(_replicas)]


class Cluster(Block):
    """The NATS servers (2.12 or later, with JetStream) that connect a node to the others."""

    nats: Annotated[tuple[NatsUrl, ...], Field(strict=False)] = field(
        ...,
        "The addresses of the NATS servers, as in `nats://host:4222`, or `tls://host:4222`.",
        "a list of at least one address",
        item="nats:// or tls://, a host and perhaps a port",
        secret=True,
    )
    node: NodeName | None = field(
        None,
        "This node's name; each node needs its own.",
        f"a text of at most {MAX_NODE_CHARACTERS} printable ASCII characters, without spaces",
        default_text="the host's name, the process id and some random digits",
    )
    replicas: Replicas = field(
        1, "How many NATS servers store each message and account; 3 for a NATS cluster.", "1, 3 or 5"
    )
    partitions: Annotated[int, Field(ge=1, le=MAX_PARTITIONS)] = field(
        1,
        "How many streams accounts, mailboxes and the memory of `once` messages are divided among; must be equal on "
        "all nodes, and must never change.",
        f"an integer from 1 to {MAX_PARTITIONS}",
    )
    user: Text | None = field(None, "The user for NATS.", "a text of at least one character")
    password: Text | None = field(None, "The user's password.", "a text of at least one character", secret=True)
    token: Text | None = field(None, "A token, instead of `user`.", "a text of at least one character", secret=True)
    credentials: FilePath | None = path(None, "A credentials file (JWT and key), instead of `user`.")
    nkey: FilePath | None = path(None, "A file with an NKey's seed, instead of `user`.")
    ca: FilePath | None = path(None, "The authorities that prove the NATS servers' names, instead of the system's.")
    certificate: FilePath | None = path(None, "The certificate that this node presents to NATS.")
    key: FilePath | None = path(None, "That certificate's private key, without a passphrase.")
