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
    _ = url.port  # which is a ValueError where it is none
    return text


NatsUrl = Annotated[Text, AfterValidator(_nats_url)]
"""Not ``ws://``: nodes speak NATS's own protocol."""
NodeName = Annotated[Text, AfterValidator(_node)]
Replicas = Annotated[int, AfterValidator(_replicas)]


class Cluster(Block):
    """How a node reaches the others: over NATS with JetStream, 2.12 or later."""

    nats: Annotated[tuple[NatsUrl, ...], Field(strict=False)] = field(
        ...,
        "The addresses of the NATS servers, as in `nats://host:4222`, or `tls://host:4222`.",
        "a list of at least one address",
        item="nats:// or tls://, a host and perhaps a port",
        secret=True,
    )
    node: NodeName | None = field(
        None,
        "What this node is called; no two have the same name.",
        f"a text of at most {MAX_NODE_CHARACTERS} printable ASCII characters, without spaces",
        default_text="the host's name, the process's number and some digits by chance",
    )
    replicas: Replicas = field(
        1, "On how many NATS servers each message and account is kept; 3 for a NATS cluster.", "1, 3 or 5"
    )
    partitions: Annotated[int, Field(ge=1, le=MAX_PARTITIONS)] = field(
        1,
        "Among how many streams accounts, mailboxes and the memory of `once` messages are divided; the same at all "
        "nodes, and for good.",
        f"an integer from 1 to {MAX_PARTITIONS}",
    )
    user: Text | None = field(None, "Who enters NATS.", "a text of at least one character")
    password: Text | None = field(None, "With which password.", "a text of at least one character", secret=True)
    token: Text | None = field(None, "Or with which token.", "a text of at least one character", secret=True)
    credentials: FilePath | None = path(None, "Or with which file of credentials (JWT and key).")
    nkey: FilePath | None = path(None, "Or with which file with an NKey's seed.")
    ca: FilePath | None = path(None, "The authorities that prove the NATS servers' names, where not the system's.")
    certificate: FilePath | None = path(None, "The certificate by which this node proves itself to NATS.")
    key: FilePath | None = path(None, "That certificate's private key, without a passphrase.")
