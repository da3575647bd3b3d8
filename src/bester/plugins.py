"""Finds the plug-ins that other distributions add to Bester, by their entry points (docs/gadgets.md).

A plug-in is imported only when it is needed, and a broken plug-in does not affect others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GADGETS = "bester.gadgets"
"""The group of the commands below ``bester gadget``."""
COMMANDS = "bester.commands"
"""The group of the commands below ``bester``."""
PAGES = "bester.pages"
"""The group of the folders with static pages that the listener ``web`` serves."""

READY_MADE = {
    GADGETS: frozenset({"chat", "guard", "kitchen", "mail", "webhook"}),
    COMMANDS: frozenset({"chat"}),
    PAGES: frozenset({"chat"}),
}
"""The names that bester-gadgets adds, so that errors can say how to install it."""


class PluginError(Exception):
    """An error for a plug-in that cannot be used; the text names the plug-in, its distribution, and the reason."""


class Plugin:
    """The plug-in of one name in a group."""

    def __init__(self, entries: list[EntryPoint]) -> None:
        self._entries = entries
        self.name = entries[0].name
        self.value = entries[0].value

    def __str__(self) -> str:
        homes = [entry.dist.name if entry.dist is not None else entry.value for entry in self._entries]
        return f"{self.name} of {' and '.join(sorted(homes))}"

    def check(self) -> None:
        """Makes sure that no other distribution has the same name in this group.

        Raises:
            PluginError: another one has it.
        """
        if len(self._entries) > 1:
            raise PluginError(f"{self}: several distributions add this name; uninstall all but one of them")

    def load(self) -> Any:
        """Imports and returns the object.

        Raises:
            PluginError: its import fails, or several distributions add this name.
        """
        self.check()
        try:
            return self._entries[0].load()
        except (Exception, SystemExit) as error:  # a foreign module may raise anything
            raise PluginError(f"{self} cannot be loaded: {type(error).__name__}: {error}") from error


def find(group: str) -> dict[str, Plugin]:
    """Returns the plug-ins of a group by their names, sorted; nothing is imported."""
    from importlib.metadata import entry_points  # takes a while, and few commands need it

    entries: dict[str, list[EntryPoint]] = {}
    for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
        entries.setdefault(entry.name, []).append(entry)
    return {name: Plugin(found) for name, found in entries.items()}
