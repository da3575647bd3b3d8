"""Finds what other distributions add to Bester, by their entry points (docs/gadgets.md).

Nothing of a distribution is imported before it is needed, and one that is broken is in nobody else's way.
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
    GADGETS: frozenset({"chat", "kitchen", "mail", "webhook"}),
    COMMANDS: frozenset({"chat"}),
    PAGES: frozenset({"chat"}),
}
"""The names that bester-gadgets adds, for a word of advice where it is not installed."""


class PluginError(Exception):
    """A plug-in cannot be used; the text names it, its distribution, and what is wrong."""


class Plugin:
    """What one name of a group leads to."""

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
            PluginError: one has.
        """
        if len(self._entries) > 1:
            raise PluginError(f"{self}: several distributions add this name; uninstall all but one of them")

    def load(self) -> Any:
        """Imports the object.

        Raises:
            PluginError: its import fails, or several distributions add this name.
        """
        self.check()
        try:
            return self._entries[0].load()
        except (Exception, SystemExit) as error:  # whatever a stranger's module does
            raise PluginError(f"{self} cannot be loaded: {type(error).__name__}: {error}") from error


def find(group: str) -> dict[str, Plugin]:
    """Returns the plug-ins of a group by their names, sorted; nothing is imported."""
    from importlib.metadata import entry_points  # takes a while, and few commands need it

    entries: dict[str, list[EntryPoint]] = {}
    for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
        entries.setdefault(entry.name, []).append(entry)
    return {name: Plugin(found) for name, found in entries.items()}
