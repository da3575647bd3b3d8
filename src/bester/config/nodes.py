"""Derives each node's configuration from the one given to ``besterd --nodes N`` (docs/scale.md).

The nodes share their TCP ports. If only one process can own a file or socket, node 1 has the configured path, and the
other nodes append their numbers to it. Only node 1 starts handlers and has the listener ``web``.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bester.config.checks import MAX_SOCKET_PATH, socket_paths
from bester.config.cluster import MAX_NODE_CHARACTERS, Cluster
from bester.config.model import Config
from bester.config.problems import Problem, dotted, shown
from bester.protocol.values import decode_text

SUFFIX = ".nodes"


@dataclass(frozen=True, slots=True)
class Access:
    """The address and token of the NATS server that the nodes' parent process started."""

    url: str
    token: str


def nodes_folder(config: Config) -> Path:
    """Returns the folder of the private NATS server: its configuration, its log, and all stored data."""
    return config.storage.path.with_name(config.storage.path.name + SUFFIX)


def has_private_nats(config: Config) -> bool:
    """Returns whether a private NATS server stores this server's data, because it was started with ``--nodes``."""
    return config.cluster is None and (nodes_folder(config) / "jetstream").is_dir()


def write_access(config: Config, access: Access) -> None:
    """Writes the access to NATS to a file that only this user can read."""
    path = nodes_folder(config) / "access.json"
    partial = path.with_name("access.json.partial")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        json.dump({"url": access.url, "token": access.token}, file)
    partial.replace(path)


def read_access(config: Config) -> Access | None:
    """Returns the current or last access to the private NATS server; None if there is none."""
    try:
        found: dict[str, str] = decode_text((nodes_folder(config) / "access.json").read_bytes())
        return Access(found["url"], found["token"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def private_cluster(access: Access) -> Cluster:
    """Returns the ``cluster`` block that describes the private NATS server."""
    return Cluster(nats=(access.url,), token=access.token)


def name_of_node(config: Config, number: int) -> str:
    """Returns a unique name with the node's number in it."""
    given = config.cluster.node if config.cluster is not None else None
    base = given or socket.gethostname().encode("ascii", "replace").decode() or "node"
    readable = "".join(char if char.isprintable() and char != " " else "-" for char in base)
    return f"{readable[: MAX_NODE_CHARACTERS - 10]}-{number}-{secrets.token_hex(2)}"


def for_node(config: Config, number: int, name: str, cluster: Cluster, max_nodes: int) -> Config:
    """Returns the configuration of one node.

    Args:
        config: the configuration of all nodes.
        number: the node's number, from 1.
        name: the node's name.
        cluster: the NATS server.
        max_nodes: how many nodes there may be.
    """
    update: dict[str, Any] = {
        "cluster": cluster.model_copy(update={"node": name}),
        "siblings": tuple(_sockets_of_all(config, max_nodes)),
    }
    if number > 1:
        for block in ("informer", "control", "handlers"):
            part = getattr(config, block)
            update[block] = part.model_copy(update={"address": _numbered(part.address, number)})
        update["handlers"] = update["handlers"].model_copy(update={"type_map": _not_started(config)})
        receipts = _numbered(config.storage.receipts, number)
        update["storage"] = config.storage.model_copy(update={"receipts": receipts})
        network = config.network
        types = tuple(kind for kind in network.wanted() if kind != "web")
        unix = network.unix and network.unix.model_copy(update={"address": _numbered(network.unix.address, number)})
        update["network"] = network.model_copy(update={"types": types, "unix": unix, "web": None})
    return config.model_copy(update=update)


def _sockets_of_all(config: Config, max_nodes: int) -> Iterator[Path]:
    """Yields the paths of the Unix sockets of so many nodes and their handlers."""
    for key, path in socket_paths(config):
        yield path
        if key[-1] == "address":
            yield from (_numbered(path, number) for number in range(2, max_nodes + 1))


def _not_started(config: Config) -> dict[str, Any]:
    """Returns the types without the handlers that the server starts, which only node 1 does."""
    nothing = {"handler_binary": None, "unix_domain_socket_path": None}
    return {
        name: entry.model_copy(update=nothing) if entry.handler_binary is not None else entry
        for name, entry in config.handlers.type_map.items()
    }


def nodes_problems(config: Config, count: int) -> Iterator[Problem]:
    """Yields the problems that prevent this configuration from serving several nodes on one machine."""
    listeners = [one for one in config.listeners() if one.kind != "web"]
    if not listeners:
        yield Problem(
            "network", "no listener but web", "with --nodes, one that all nodes have: unix, tcp4, tcp6 or tls"
        )
    for one in listeners:
        if one.port == 0:
            yield Problem(
                f"network.{one.kind}.port", "0", "with --nodes, a port from 1 to 65535: all nodes listen on it"
            )
    if config.handlers.tls is not None and config.handlers.tls.port == 0:
        yield Problem("handlers.tls.port", "0", "with --nodes, a port from 1 to 65535: all nodes listen on it")
    for key, path in socket_paths(config):
        if key[-1] == "address" and len(os.fsencode(_numbered(path, count))) > MAX_SOCKET_PATH:
            allowed = f"with --nodes, a path that has at most {MAX_SOCKET_PATH} bytes with .{count} behind it"
            yield Problem(dotted(key), shown(str(path)), allowed)


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
