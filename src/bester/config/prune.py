"""Takes out of a configuration what is unknown or wrong, so that all the rest can still be checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bester.config.problems import MISSING, KeyPath, dotted
from bester.config.schema import block_of, entries_of, keys
from bester.config.values import Block


def known_only(tree: dict[str, Any], model: type[Block], path: KeyPath = ()) -> tuple[dict[str, Any], list[str]]:
    """Returns a copy without the keys that the models do not have, and a warning for each of them."""
    known = keys(model)
    kept: dict[str, Any] = {}
    warnings: list[str] = []
    for key, value in tree.items():
        field = known.get(key)
        if field is None:
            warnings.append(f"{dotted((*path, key))}: unknown key, ignored{_suggestion(key, known)}")
            continue
        inner, entries = block_of(field.annotation), entries_of(field.annotation)
        kept[key] = value
        if inner is not None and isinstance(value, dict):
            kept[key], found = known_only(value, inner, (*path, key))
            warnings += found
        elif entries is not None and isinstance(value, dict):
            kept[key] = dict(value)
            for name, entry in value.items():
                if isinstance(entry, dict):
                    kept[key][name], found = known_only(entry, entries, (*path, key, name))
                    warnings += found
        elif isinstance(value, (dict, list)):
            kept[key] = value.copy()
    return kept, warnings


def at(tree: Any, path: KeyPath) -> Any:
    """Returns the value at a place, or :data:`MISSING`."""
    for part in path:
        try:
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            return MISSING
    return tree


def removed(tree: dict[str, Any], paths: Iterable[KeyPath]) -> dict[str, Any]:
    """Takes the values at these places out of a tree, in place, and returns it."""
    # From the back, so that the positions in a list that are still to come stay right.
    for path in sorted(set(paths), reverse=True):
        parent = at(tree, path[:-1])
        if at(parent, path[-1:]) is not MISSING:
            del parent[path[-1]]
    return tree


def touches(path: KeyPath, others: Iterable[KeyPath]) -> bool:
    """Tells whether a place is in, at or above one of the others."""
    return any(path[: len(other)] == other[: len(path)] for other in others)


def _suggestion(key: str, known: Iterable[str]) -> str:
    import difflib  # only where something is misspelled: the daemon starts without it

    plain = {name.lower(): name for name in known}
    near = difflib.get_close_matches(key.replace("_", "").replace("-", "").lower(), plain, n=1, cutoff=0.6)
    return f"; did you mean {plain[near[0]]}?" if near else ""
