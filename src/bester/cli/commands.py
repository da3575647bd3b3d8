"""The commands of ``bester``: each is imported and made when it is named, for all of them take longer than most run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

PLACES = {
    "init": "init:init",
    "check": "check:check",
    "send": "sending:send",
    "ask": "sending:ask",
    "listen": "listening:listen",
    "chat": "chat:chat",
    "status": "status:status",
    "trace": "trace:trace",
    "why": "why:why",
    "reload": "operate:reload",
    "kick": "operate:kick",
    "drain": "operate:drain",
    "backup": "backup:backup",
    "demo": "demo:demo",
    "bench": "bench:bench",
    "service": "service:service",
    "command": "command:command",
    "import": "importing:import_",
    "account": "account:account",
    "queue": "queue:queue",
    "handler": "handler:handler",
    "gadget": "gadget:gadget",
    "certificate": "certificate:certificate",
    "peer": "peer:peer",
}
"""Where the function or the group of each is, in this package; in the order of the help."""


class Commands(TyperGroup):
    """A group of all of them."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = _Named()


class _Named(Mapping[str, Any]):
    """Makes what is asked for."""

    def __getitem__(self, name: str) -> Any:
        module, _, within = PLACES[name].partition(":")
        found = getattr(import_module(f"bester.cli.{module}"), within)
        alone = typer.Typer(rich_markup_mode=None)
        if isinstance(found, typer.Typer):
            alone.add_typer(found, name=name)
        else:
            alone.command(name)(found)
        return get_group(alone).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(PLACES)

    def __len__(self) -> int:
        return len(PLACES)
