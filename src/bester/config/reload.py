"""Finds the changes of a configuration that a reload cannot apply."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from pydantic.alias_generators import to_camel

from bester.config.model import Config
from bester.config.problems import KeyPath, dotted

NEEDS_RESTART: tuple[tuple[str, ...], ...] = (
    ("server", "name"),
    ("network",),
    ("handlers", "address"),
    ("handlers", "tls"),
    ("informer", "address"),
    ("control", "address"),
    ("storage",),
    ("database",),
    ("cluster",),
    ("tracing",),
)
"""The keys that only a start reads; a reload applies all others."""


def switched(old: Config, new: Config) -> Config:
    """Returns the new configuration as a reload applies it: with the old values of :data:`NEEDS_RESTART`."""
    update: dict[str, Any] = {}
    for name, *rest in NEEDS_RESTART:
        before = getattr(old, name)
        update[name] = (
            getattr(new, name).model_copy(update={key: getattr(before, key) for key in rest}) if rest else before
        )
    # Until it starts again, a node may have its old socket or its new one: messages go to neither.
    return new.model_copy(update=update | {"siblings": tuple(dict.fromkeys((*old.siblings, *new.siblings)))})


def changes_needing_restart(old: Config, new: Config) -> list[str]:
    """Returns the key paths that differ and that a reload cannot apply.

    Only started listeners count: spelling out a default, or adding a block that ``types`` does not name, is no change.
    """
    return [dotted(path) for path in _differences(_fixed(old), _fixed(new), ())]


def _fixed(config: Config) -> dict[str, Any]:
    tree = config.model_dump(by_alias=True)
    tree["network"] = {
        listener.kind: {to_camel(key): value for key, value in asdict(listener).items()}
        for listener in config.listeners()
    }
    fixed: dict[str, Any] = {}
    for path in NEEDS_RESTART:
        source, target = tree, fixed
        for part in path[:-1]:
            source, target = source[part], target.setdefault(part, {})
        target[path[-1]] = source[path[-1]]
    return fixed


def _differences(old: Any, new: Any, path: KeyPath) -> Iterator[KeyPath]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old | new:
            yield from _differences(old.get(key), new.get(key), (*path, key))
    elif old != new:
        yield path
