"""Checks how the values of a configuration fit together, which no single value can show."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bester.config.guards import circles
from bester.config.model import Config
from bester.config.network import KINDS, ListenerConfig
from bester.config.problems import KeyPath, Problem, dotted, shown
from bester.installation import how_to_add

MAX_SOCKET_PATH = 103 if sys.platform == "darwin" else 107
"""The longest path of a Unix socket, in bytes."""

_WILDCARDS = {"0.0.0.0", "::"}


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem before it is reported; ``also`` holds the other places that cause it."""

    path: KeyPath
    found: str
    allowed: str
    also: tuple[KeyPath, ...] = ()

    def problem(self) -> Problem:
        """Returns the problem to report."""
        return Problem(dotted(self.path), self.found, self.allowed)


def cross_checks(config: Config) -> Iterator[Finding]:
    """Yields every contradiction between the values of a configuration."""
    yield from _listeners(config)
    yield from _handlers(config)
    yield from _sockets(config)
    yield from _other_blocks(config)


def value_warnings(config: Config) -> Iterator[str]:
    """Yields a warning for each oddity between the values that does not prevent a start."""
    for index, name in enumerate(config.handlers.available_types or ()):
        if name not in config.handlers.type_map:
            place = dotted(("handlers", "availableTypes", index))
            yield f"{place}: {shown(name)} has no entry in handlers.typeMap; served only while a handler is attached"
    yield from _server_warnings(config)


def _server_warnings(config: Config) -> Iterator[str]:
    pinned: dict[str, str] = {}
    own = {os.path.realpath(path): dotted(key) for key, path in socket_paths(config)}
    for name, peer in config.federation.servers.items():
        place = dotted(("federation", "servers", name))
        if peer.address.startswith("unix:"):
            found = own.get(os.path.realpath(config.base / peer.address.removeprefix("unix:")))
            if found is not None:
                yield f"{place}: its address is this server's own socket, {found}; nothing is sent there"
        pin = peer.fingerprint or (str(peer.certificate) if peer.certificate is not None else None)
        if pin is None:
            continue
        if peer.address.startswith("unix:"):
            yield f"{place}: a Unix socket has no certificate; what is pinned counts only where the server connects"
        elif peer.tls is False:
            yield f"{place}: tls is false; what is pinned counts only where the server connects"
        other = pinned.setdefault(pin, name)
        if other != name:
            yield f"{place}: the server {shown(other)} has the same pin; one server then has both names"


def _listeners(config: Config) -> Iterator[Finding]:
    network = config.network
    for kind in network.wanted():
        if getattr(network, kind) is None:
            yield Finding(("network", kind), "nothing", "an object: network.types names this listener")
    listeners = config.listeners()
    if not listeners:
        yield Finding(("network",), "no listener", f"at least one listener: {', '.join(KINDS)}")
    web = network.web
    if web is not None and (web.certificate is None) is not (web.key is None):
        given, missing = ("certificate", "key") if web.key is None else ("key", "certificate")
        place = ("network", "web")
        yield Finding((*place, missing), "nothing", f"a path: network.web.{given} is there", ((*place, given),))
    for index, one in enumerate(listeners):
        for other in listeners[:index]:
            if _same_port(one, other):
                taken = f"a port that network.{other.kind} does not have already"
                yield Finding(("network", one.kind, "port"), shown(one.port), taken, (("network", other.kind),))
    yield from _handler_listener(config, listeners)


def _handler_listener(config: Config, listeners: list[ListenerConfig]) -> Iterator[Finding]:
    tls, made = config.handlers.tls, config.handler_listener()
    if tls is None or made is None:
        return
    place: KeyPath = ("handlers", "tls")
    if (tls.certificate is None) is not (tls.key is None):
        given, missing = ("certificate", "key") if tls.key is None else ("key", "certificate")
        yield Finding((*place, missing), "nothing", f"a path: handlers.tls.{given} is there", ((*place, given),))
    elif made.certificate is None:
        yield Finding((*place, "certificate"), "nothing", "a path, as there is no network.tls with a certificate")
    for other in listeners:
        if _same_port(made, other):
            taken = f"a port that network.{other.kind} does not have already"
            yield Finding((*place, "port"), shown(made.port), taken, (("network", other.kind),))


def _same_port(one: ListenerConfig, other: ListenerConfig) -> bool:
    if not one.port or one.port != other.port or (":" in one.address) != (":" in other.address):
        return False
    return one.address == other.address or not _WILDCARDS.isdisjoint((one.address, other.address))


def _handlers(config: Config) -> Iterator[Finding]:
    for name, entry in config.handlers.type_map.items():
        place: KeyPath = ("handlers", "typeMap", name)
        if entry.transport == "stdio":
            if entry.handler_binary is None:
                yield Finding((*place, "handlerBinary"), "nothing", "the path of the executable to start")
            if entry.unix_domain_socket_path is not None:
                other = "no path: the handler is spoken to over its standard input and output"
                yield Finding((*place, "unixDomainSocketPath"), "a path", other, ((*place, "transport"),))
        elif entry.handler_binary is not None and entry.unix_domain_socket_path is None:
            yield Finding(
                (*place, "unixDomainSocketPath"),
                "nothing",
                'the path of the socket on which the handlerBinary answers; or "transport": "stdio"',
            )
        if entry.validates and find_spec("jsonschema_rs") is None:
            yield Finding(
                (*place, "validate"),
                "true",
                f"false; true where jsonschema-rs is installed, as by: {how_to_add('schema')}",
            )

    for index in circles(config.handlers.guards):
        found = shown(config.handlers.guards[index].guard)
        allowed = "a guard that is not asked about its own messages, nor are guards in a circle"
        yield Finding(("handlers", "guards", index, "for", "types"), found, allowed)


def _sockets(config: Config) -> Iterator[Finding]:
    seen: dict[str, KeyPath] = {}
    for key, path in socket_paths(config):
        length = len(os.fsencode(path))
        if length > MAX_SOCKET_PATH:
            allowed = f"a socket's path of at most {MAX_SOCKET_PATH} bytes, counted from the root"
            yield Finding(key, f"{length} bytes: {shown(str(path))}", allowed)
        first = seen.setdefault(os.path.realpath(path), key)
        if first != key:
            yield Finding(key, shown(str(path)), f"a path of its own: {dotted(first)} has this one", (first,))


def socket_paths(config: Config) -> list[tuple[KeyPath, Path]]:
    """Returns the paths of all Unix sockets in use, with their places in the configuration."""
    found: list[tuple[KeyPath, Path]] = [
        (("network", "unix", "address"), Path(listener.address))
        for listener in config.listeners()
        if listener.kind == "unix"
    ]
    found += [
        (("handlers", "address"), config.handlers.address),
        (("informer", "address"), config.informer.address),
        (("control", "address"), config.control.address),
    ]
    found += [
        (("handlers", "typeMap", name, "unixDomainSocketPath"), handler.socket)
        for name, handler in config.served_types().items()
        if handler.socket is not None
    ]
    return found


def _other_blocks(config: Config) -> Iterator[Finding]:
    limits = config.limits
    if limits.max_send_queue < limits.max_message:
        allowed = f"a whole number of bytes, at least limits.maxMessage ({limits.max_message})"
        place: KeyPath = ("limits", "maxSendQueue")
        yield Finding(place, shown(limits.max_send_queue), allowed, (("limits", "maxMessage"),))
    for name, peer in config.federation.servers.items():
        if peer.certificate is not None and peer.fingerprint is not None:
            place = ("federation", "servers", name)
            yield Finding(place, "certificate and fingerprint", "one of certificate and fingerprint")
    given, missing = "certificate", "key"
    if config.federation.certificate is None:
        given, missing = missing, given
    if getattr(config.federation, given) is not None and getattr(config.federation, missing) is None:
        allowed = f"a path: federation.{given} is there"
        yield Finding(("federation", missing), "nothing", allowed, (("federation", given),))
    cluster = config.cluster
    if cluster is not None:
        if not cluster.nats:
            yield Finding(("cluster", "nats"), "an empty list", "a list of at least one address")
        if config.database.type != "sqlite":
            allowed = "no database.type: the accounts of a cluster are in NATS"
            yield Finding(("database", "type"), shown(config.database.type), allowed, (("cluster",),))
        if (cluster.certificate is None) is not (cluster.key is None):
            given, missing = ("certificate", "key") if cluster.key is None else ("key", "certificate")
            yield Finding(("cluster", missing), "nothing", f"a path: cluster.{given} is there", (("cluster", given),))
        ways = [way for way in ("user", "token", "credentials", "nkey") if getattr(cluster, way) is not None]
        if len(ways) > 1:
            yield Finding(("cluster",), " and ".join(ways), "one of user with password, token, credentials and nkey")
        if cluster.password is not None and cluster.user is None:
            yield Finding(
                ("cluster", "user"), "nothing", "a text: cluster.password is there", (("cluster", "password"),)
            )
