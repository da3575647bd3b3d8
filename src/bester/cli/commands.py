"""The commands of ``bester``: each is imported when it is named, because importing all takes longer than most run.

Some commands are in this package; other distributions add more (docs/gadgets.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from bester import plugins
from bester.cli.output import USAGE, fail
from bester.installation import how_to_add_gadgets
from bester.plugins import Plugin, PluginError

PLACES = {
    "init": "init:init",
    "check": "check:check",
    "send": "sending:send",
    "ask": "sending:ask",
    "listen": "listening:listen",
    "run": "run:run",
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
    "held": "held:held",
    "handler": "handler:handler",
    "schema": "schema:schema",
    "gadget": "gadget:gadget",
    "certificate": "certificate:certificate",
    "peer": "peer:peer",
}
"""The module and name of each command's function or group, in this package, in the order of the help."""


class Commands(TyperGroup):
    """The group ``bester``."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = _Named()


class _Named(Mapping[str, Any]):
    """Loads commands by name; another distribution cannot replace a command of this package."""

    def __init__(self) -> None:
        self._added = Added(plugins.COMMANDS)

    def __getitem__(self, name: str) -> Any:
        if name not in PLACES:
            return self._added[name]
        module, _, within = PLACES[name].partition(":")
        found = getattr(import_module(f"bester.cli.{module}"), within)
        alone = typer.Typer(rich_markup_mode=None)
        if isinstance(found, typer.Typer):
            alone.add_typer(found, name=name)
        else:
            alone.command(name)(found)
        return get_group(alone).commands[name]

    def __iter__(self) -> Iterator[str]:
        yield from PLACES
        yield from (name for name in self._added if name not in PLACES)

    def __len__(self) -> int:
        return len(list(iter(self)))


class Added(Mapping[str, Any]):
    """Loads the commands that other distributions add to a group; a command that cannot be loaded says why."""

    def __init__(self, group: str) -> None:
        self._group = group

    @cached_property
    def _plugins(self) -> dict[str, Plugin]:
        return plugins.find(self._group)

    def missing(self) -> list[str]:
        """Returns the ready-made commands of this group that are not installed, in order."""
        return sorted(plugins.READY_MADE[self._group] - self._plugins.keys())

    def __getitem__(self, name: str) -> Any:
        plugin = self._plugins.get(name)
        if plugin is None:
            if name in plugins.READY_MADE[self._group]:
                return _failing(
                    name, f"{name} comes with bester-gadgets, which is not installed: {how_to_add_gadgets()}"
                )
            raise KeyError(name)
        try:
            return _command(plugin)
        except PluginError as error:
            return _failing(name, str(error))

    def __iter__(self) -> Iterator[str]:
        return iter(self._plugins)

    def __len__(self) -> int:
        return len(self._plugins)


def _command(plugin: Plugin) -> Any:
    """Returns the command of a function or of a Typer app.

    Raises:
        PluginError: the plug-in cannot be loaded, or is neither a function nor a Typer app.
    """
    found = plugin.load()
    if not isinstance(found, typer.Typer) and callable(found):
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(plugin.name)(found)
        found = alone
    if not isinstance(found, typer.Typer):
        raise PluginError(
            f"{plugin}: {plugin.value} must be a function or a typer.Typer, and is {type(found).__name__}"
        )
    try:
        made = get_command(found)
    except Exception as error:  # Typer raises it for parameters that cannot be options
        raise PluginError(f"{plugin}: no command can be made of {plugin.value}: {error}") from error
    made.name = plugin.name
    return made


def _failing(name: str, why: str) -> Any:
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    takes_anything = {"ignore_unknown_options": True, "allow_extra_args": True}

    @alone.command(name, help=why, context_settings=takes_anything)
    def _fail() -> None:
        fail(why, USAGE)

    return get_command(alone)
