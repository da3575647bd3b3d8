"""Redaction: replaces parts of a JSON value, chosen by paths, with values of the same types that tell nothing.

A path is written as in RFC 9535 (JSONPath), of which this module knows names, indexes, ``*`` and ``..``::

    $.request.data.card    $..email    $.request.data.items[*].note    $.request.data['credit card']
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

TEXT = "redacted"
"""Stands for every string."""
_SEGMENT = re.compile(
    r"""(?P<lead>\.\.?)?
        (?: (?P<name>[^\W\d]\w*|\*)
          | \[ \s* (?: '(?P<single>(?:[^'\\]|\\['\\/])*)' | "(?P<double>(?:[^"\\]|\\["\\/])*)"
                     | (?P<any>\*) | (?P<index>-?(?:0|[1-9]\d{0,9})) ) \s* \] )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(.)")


class _Segment(NamedTuple):
    descend: bool
    """Whether it chooses at any depth."""
    key: str | int | None
    """A name, an index, or None for all members."""


class Redaction:
    """Replaces what its paths choose.

    Args:
        paths: JSONPath, as the module describes it.

    Raises:
        ValueError: a path has another form.
    """

    def __init__(self, paths: Sequence[str] = ()) -> None:
        self.paths = tuple(paths)
        self._parsed = [_parse(path) for path in paths]

    def apply(self, value: Any) -> None:
        """Replaces, in place, all that the paths choose in an object or a list."""
        for segments in self._parsed:
            for container, key in list(_choose(value, segments)):
                container[key] = redacted(container[key])


def redacted(value: Any) -> Any:
    """Returns a value of the same type and form that tells nothing; the names of members stay."""
    if isinstance(value, dict):
        return {name: redacted(one) for name, one in value.items()}
    if isinstance(value, list):
        return [redacted(one) for one in value]
    if isinstance(value, str):
        return TEXT
    if isinstance(value, bool):
        return False
    return 0 if isinstance(value, int | float | Decimal) else None


def _parse(path: str) -> list[_Segment]:
    wrong = ValueError(
        f"{path[:200]!r} is not a path: write $ and then .name, ['name'], [index], [*], .* or ..name, "
        "such as $.request.data.card or $..email"
    )
    if not path.startswith("$"):
        raise wrong
    segments: list[_Segment] = []
    at = 1
    while at < len(path):
        match = _SEGMENT.match(path, at)
        if match is None or match["lead"] == ("." if match["name"] is None else None):
            raise wrong
        segments.append(_Segment(match["lead"] == "..", _key(match)))
        at = match.end()
    if not segments:
        raise wrong
    return segments


def _key(match: re.Match[str]) -> str | int | None:
    if match["index"] is not None:
        return int(match["index"])
    for quoted in (match["single"], match["double"]):
        if quoted is not None:
            return _ESCAPE.sub(r"\1", quoted)
    return None if match["name"] == "*" else match["name"]


def _choose(value: Any, segments: Sequence[_Segment]) -> Iterator[tuple[Any, Any]]:
    """Yields what is chosen, as its container and its key there."""
    first, rest = segments[0], segments[1:]
    for container in _all_within(value) if first.descend else (value,):
        for key in _keys(container, first.key):
            if rest:
                yield from _choose(container[key], rest)
            else:
                yield container, key


def _keys(container: Any, key: str | int | None) -> list[Any]:
    if isinstance(container, dict):
        return list(container) if key is None else [key] if isinstance(key, str) and key in container else []
    if isinstance(container, list):
        if key is None:
            return list(range(len(container)))
        return [key] if isinstance(key, int) and -len(container) <= key < len(container) else []
    return []


def _all_within(value: Any) -> Iterator[Any]:
    """Yields a value, and every object and list within it."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list):
            yield value
            waiting += value.values() if isinstance(value, dict) else value
