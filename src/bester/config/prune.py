"""Removes unknown keys and invalid values from a configuration, so that the rest can still be checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bester.config.problems import MISSING, KeyPath, dotted
from bester.config.schema import block_of, entries_of, keys
from bester.config.values import Block


def known_only(tree: dict[str, Any], model: type[Block], path: KeyPath = ()) -> tuple[dict[str, Any], list[str]]:
    """Returns a copy without the keys that the models do not have, and a warning for each such key."""
    known = keys(model)
    copy: dict[str, Any] = {}
    warnings: list[str] = []
    for key, value in tree.items():
        field = known.get(key)
        if field is None:
            warnings.append(f"{dotted((*path, key))}: unknown key, ignored{_suggestion(key, known)}")
            continue
        inner, entries = block_of(field.annotation), entries_of(field.annotation)
        copy[key] = value
        if inner is not None and isinstance(value, dict):
            copy[key], found = known_only(value, inner, (*path, key))
            warnings += found
        elif entries is not None and isinstance(value, dict):
            copy[key] = dict(value)
            for name, entry in value.items():
                if isinstance(entry, dict):
                    copy[key][name], found = known_only(entry, entries, (*path, key, name))
                    warnings += found
        elif isinstance(value, (dict, list)):
            copy[key] = value.copy()
            for place, entry in enumerate(value):
                if entries is not None and isinstance(entry, dict):
                    copy[key][place], found = known_only(entry, entries, (*path, key, place))
                    warnings += found
    return copy, warnings


def value_at(tree: Any, path: KeyPath) -> Any:
    """Returns the value at a place, or :data:`MISSING`."""
    for part in path:
        try:
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            return MISSING
    return tree


def removed(tree: dict[str, Any], paths: Iterable[KeyPath]) -> dict[str, Any]:
    """Removes the values at these places from a tree, in place, and returns the tree."""
    # In reverse order, so that the remaining positions in a list stay valid.
    for path in sorted(set(paths), reverse=True):
        parent = value_at(tree, path[:-1])
        if value_at(parent, path[-1:]) is not MISSING:
            del parent[path[-1]]
    return tree


def overlaps(path: KeyPath, others: Iterable[KeyPath]) -> bool:
    """Returns whether a place is in, at or above one of the others."""
    return any(path[: len(other)] == other[: len(path)] for other in others)


def _suggestion(key: str, known: Iterable[str]) -> str:
    import difflib  # imported only for a misspelled key, which the daemon rarely meets

    plain = {name.lower(): name for name in known}
    near = difflib.get_close_matches(key.replace("_", "").replace("-", "").lower(), plain, n=1, cutoff=0.6)
    return f"; did you mean {plain[near[0]]}?" if near else ""
