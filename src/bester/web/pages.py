"""Pages that other distributions add to the listener ``web``: one folder each, below a prefix (docs/gadgets.md)."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path

from bester import plugins
from bester.plugins import Plugin, PluginError

log = logging.getLogger("bester.web")

RESERVED = frozenset({"api", "console", "healthz", "js", "metrics", "readyz", "try", "ui", "ws"})
"""The first segments of the listener's own paths, which are reserved."""
_PREFIX = re.compile(r"[a-z][a-z0-9-]{0,31}")


def find_pages() -> dict[str, Path]:
    """Returns the folders of the pages, by their prefixes; logs which pages cannot be served, and why."""
    found = {}
    for prefix, plugin in plugins.find(plugins.PAGES).items():
        try:
            found[prefix] = _folder(plugin)
        except PluginError as error:
            log.warning("a page is not served: %s", error)
    return found


def not_found(prefix: str, served: Collection[str]) -> str:
    """Returns the text of a 404 below this prefix; it names a known page that is not installed."""
    if prefix in plugins.READY_MADE[plugins.PAGES] and prefix not in served:
        return f"the page /{prefix} comes with bester-gadgets, which this server does not have (docs/gadgets.md)\n"
    return "there is nothing here\n"


def _folder(plugin: Plugin) -> Path:
    """Returns the folder of a page's package; imports its parent packages, but not the package itself.

    Raises:
        PluginError: the package has no folder, or its prefix is invalid or reserved.
    """
    plugin.check()
    if not _PREFIX.fullmatch(plugin.name) or plugin.name in RESERVED:
        raise PluginError(
            f"{plugin}: its prefix must be up to 32 of a-z, 0-9 and -, begin with a letter, and be none of "
            f"{', '.join(sorted(RESERVED))}"
        )
    try:
        spec = find_spec(plugin.value)
    except Exception as error:  # a third-party package may raise anything when imported
        raise PluginError(f"{plugin}: {plugin.value} cannot be found: {type(error).__name__}: {error}") from error
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not folders:
        raise PluginError(f"{plugin}: {plugin.value} must be a package with an index.html in its folder")
    return Path(folders[0])
