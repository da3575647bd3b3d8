"""What ``besterd --nodes N`` makes of a configuration: each node's part of it (docs/scale.md).

The nodes share their TCP ports. Of what only one process can have, node 1 has what the configuration names, and the
others have it with their number behind its name. Handlers that are started, and the listener ``web``, are node 1's.
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
    """How the nodes enter the NATS server that their parent started."""

    url: str
    token: str


def nodes_folder(config: Config) -> Path:
    """Returns the folder of the private NATS: its configuration, its log, and all that the server keeps."""
    return config.storage.path.with_name(config.storage.path.name + SUFFIX)


def has_private_nats(config: Config) -> bool:
    """Whether what this configuration's server keeps is in a NATS of its own: it was started with ``--nodes``."""
    return config.cluster is None and (nodes_folder(config) / "jetstream").is_dir()


def write_access(config: Config, access: Access) -> None:
    """Tells the nodes how NATS is entered; for this user alone."""
    path = nodes_folder(config) / "access.json"
    partial = path.with_name("access.json.partial")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        json.dump({"url": access.url, "token": access.token}, file)
    partial.replace(path)


def read_access(config: Config) -> Access | None:
    """Returns how the private NATS is entered, or was the last time; None where there is none."""
    try:
        found: dict[str, str] = decode_text((nodes_folder(config) / "access.json").read_bytes())
        return Access(found["url"], found["token"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def private_cluster(access: Access) -> Cluster:
    """Returns what a configuration would say of the private NATS."""
    return Cluster(nats=(access.url,), token=access.token)


def name_of_node(config: Config, number: int) -> str:
    """Returns a name that no other process has, with the node's number in it."""
    given = config.cluster.node if config.cluster is not None else None
    base = given or socket.gethostname().encode("ascii", "replace").decode() or "node"
    readable = "".join(char if char.isprintable() and char != " " else "-" for char in base)
    return f"{readable[: MAX_NODE_CHARACTERS - 10]}-{number}-{secrets.token_hex(2)}"


def for_node(config: Config, number: int, name: str, cluster: Cluster, most: int) -> Config:
    """Returns the configuration of one node.

    Args:
        config: of all of them.
        number: the node's, from 1.
        name: what it is called.
        cluster: where NATS is.
        most: how many nodes there may be.
    """
    update: dict[str, Any] = {
        "cluster": cluster.model_copy(update={"node": name}),
        "siblings": tuple(_sockets_of_all(config, most)),
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


def _sockets_of_all(config: Config, most: int) -> Iterator[Path]:
    """Gives the paths of the Unix sockets that so many nodes and their handlers have."""
    for key, path in socket_paths(config):
        yield path
        if key[-1] == "address":
            yield from (_numbered(path, number) for number in range(2, most + 1))


def _not_started(config: Config) -> dict[str, Any]:
    """The types without the handlers that the server starts: another node asks those."""
    nothing = {"handler_binary": None, "unix_domain_socket_path": None}
    return {
        name: entry.model_copy(update=nothing) if entry.handler_binary is not None else entry
        for name, entry in config.handlers.type_map.items()
    }


def nodes_problems(config: Config, count: int) -> Iterator[Problem]:
    """Finds what keeps a configuration from being that of several nodes on one machine."""
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
    for key, path in socket_paths(config):
        if key[-1] == "address" and len(os.fsencode(_numbered(path, count))) > MAX_SOCKET_PATH:
            allowed = f"with --nodes, a path that has at most {MAX_SOCKET_PATH} bytes with .{count} behind it"
            yield Problem(dotted(key), shown(str(path)), allowed)


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
