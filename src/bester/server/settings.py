"""Turns the configuration into what the exchange and the listeners need."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

from bester.config import Config, HandlerConfig, ListenerConfig
from bester.config.handlers import CommandName
from bester.core.limits import Limits
from bester.core.rules import OTHERS, Allow, GuardRule, TypeRules
from bester.errors import InvalidName
from bester.net.listeners import Listener, Tcp4Listener, Tcp6Listener, TlsListener, UnixListener
from bester.protocol.answers import COMMANDS
from bester.protocol.names import username
from bester.store.receipts import Bounds
from bester.tls import server_context

EVERYONE = frozenset({"accounts", "servers"})


def exchange_limits(config: Config) -> Limits:
    """Returns the bounds that the exchange keeps."""
    limits = config.limits
    return Limits(
        max_hops=limits.max_hops,
        max_in_flight=limits.max_in_flight,
        max_recipients=limits.max_recipients,
        max_parts=limits.max_parts,
    )


def type_rules(config: Config) -> dict[str, TypeRules]:
    """Returns the rules of each available type."""
    return {name: _rules(handler) for name, handler in config.served_types().items()}


def attached_rules(config: Config) -> dict[str, TypeRules]:
    """Returns the rules for attached handlers, by type: also of types that are not available, and of unnamed ones."""
    every = config.handlers.model_copy(update={"available_types": None}).served(config.limits.handler_timeout)
    rules = {name: replace(_rules(handler), classic_socket=None) for name, handler in every.items()}
    return rules | {OTHERS: TypeRules(may=_may(config.handlers.may))}


def _rules(handler: HandlerConfig) -> TypeRules:
    return TypeRules(
        timeout_s=handler.timeout_s,
        classic_socket=str(handler.socket) if handler.socket is not None else None,
        classic_concurrency=handler.concurrency,
        transient=handler.delivery == "transient",
        allow=None if frozenset(handler.allow) >= EVERYONE else _allow(handler.allow),
        may=_may(handler.may),
    )


def guard_rules(config: Config) -> list[GuardRule]:
    """Returns the guards, in their order."""
    return [
        GuardRule(
            entry.guard,
            frozenset(entry.for_.types) if entry.for_.types is not None else None,
            frozenset(entry.for_.from_ or ()),
            entry.timeout,
            entry.on_failure == "accept",
        )
        for entry in config.handlers.guards
    ]


def _may(names: tuple[CommandName, ...]) -> dict[str, type]:
    return {name: kind for name, kind in COMMANDS.items() if name in names or name == "done"}


def _allow(entries: tuple[str, ...]) -> Allow:
    others = [entry for entry in entries if entry not in EVERYONE]
    return Allow(
        accounts="accounts" in entries,
        servers="servers" in entries,
        roles=frozenset(entry.removeprefix("role:") for entry in others if entry.startswith("role:")),
        names=frozenset(_canonical(entry) for entry in others if not entry.startswith("role:")),
    )


def _canonical(name: str) -> str:
    try:
        return username(name)
    except InvalidName:
        return name.lower()  # a server's name that cannot be an account's


def remote_types(config: Config, name: str) -> frozenset[str] | None:
    """Returns the types that a handler on another machine may attach for; None: all."""
    by_name = config.handlers.remote_types
    if by_name is None:
        return None
    return frozenset(type for one, types in by_name.items() if _canonical(one) == name for type in types)


def receipt_bounds(config: Config) -> Bounds:
    """Returns how many receipts are kept."""
    return Bounds(config.limits.receipt_days, config.limits.receipt_rows, config.storage.reserve)


def make_listener(listener: ListenerConfig, shared: bool = False) -> Listener:
    """Returns the listener of a configured kind, not yet bound; its port may be ``shared`` with other processes."""
    made: Tcp4Listener
    match listener.kind:
        case "unix":
            return UnixListener(listener.address)
        case "tcp4":
            made = Tcp4Listener(listener.address, listener.port or 0)
        case "tcp6":
            made = Tcp6Listener(listener.address, listener.port or 0)
        case "tls":
            made = _tls_listener(listener, server_context(str(listener.certificate), str(listener.key)))
        case _:
            raise AssertionError(listener.kind)
    made.shared = shared
    return made


def _tls_listener(listener: ListenerConfig, context: ssl.SSLContext) -> TlsListener:
    return TlsListener(listener.address, listener.port or 0, context)


def make_handler_listener(config: Config, shared: bool = False) -> TlsListener | None:
    """Returns the listener ``handlers.tls``, not yet bound; None if it is not configured.

    Raises:
        OSError, ssl.SSLError: its certificate cannot be used.
    """
    configured, context = config.handler_listener(), handler_context(config)
    if configured is None or context is None:
        return None
    made = _tls_listener(configured, context)
    made.shared = shared
    return made


def handler_authorities(config: Config) -> bytes:
    """Returns the file of ``handlers.tls.clientAuthority`` as it is now; empty if there is none."""
    tls = config.handlers.tls
    if tls is None or tls.client_authority is None:
        return b""
    try:
        return Path(tls.client_authority).read_bytes()
    except OSError:
        return b""


def handler_context(config: Config) -> ssl.SSLContext | None:
    """Returns what new connections to ``handlers.tls`` see: the certificates that are in the files now.

    Raises:
        OSError, ssl.SSLError: a file cannot be used.
    """
    configured, tls = config.handler_listener(), config.handlers.tls
    if configured is None or tls is None:
        return None
    context = server_context(str(configured.certificate), str(configured.key))
    context.num_tickets = 0  # a certificate is verified each time
    if tls.client_authority is not None:
        context.load_verify_locations(tls.client_authority)
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        context.verify_mode = ssl.CERT_OPTIONAL
    return context
