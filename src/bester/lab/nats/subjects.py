"""Subjects, the patterns that match them, and a tree that finds what belongs to either.

A pattern is a subject whose tokens may be ``*`` (any one token), and whose last may be ``>`` (one token or more).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


def is_pattern(subject: str) -> bool:
    """Whether a subject has wildcards."""
    return "*" in subject or ">" in subject


def is_valid(subject: str) -> bool:
    """Whether every token has characters, and ``>`` is the last if it is one."""
    tokens = subject.split(".")
    return all(tokens) and ">" not in tokens[:-1]


def matches(pattern: str, subject: str) -> bool:
    """Whether a pattern matches a subject."""
    wanted, tokens = pattern.split("."), subject.split(".")
    for place, token in enumerate(wanted):
        if token == ">":
            return len(tokens) > place
        if place >= len(tokens) or token not in ("*", tokens[place]):
            return False
    return len(wanted) == len(tokens)


def overlap(one: str, other: str) -> bool:
    """Whether a subject exists that both patterns match."""
    first, second = one.split("."), other.split(".")
    for a, b in zip(first, second, strict=False):
        if ">" in (a, b):
            return True
        if a != b and "*" not in (a, b):
            return False
    return len(first) == len(second)


class _Node(Generic[T]):
    __slots__ = ("below", "here")

    def __init__(self) -> None:
        self.below: dict[str, _Node[T]] = {}
        self.here: T | None = None


class SubjectTree(Generic[T]):
    """One value for each subject, or each pattern; all orders are those of insertion."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def get(self, subject: str) -> T | None:
        """Returns the value of exactly this subject or pattern."""
        node: _Node[T] | None = self._root
        for token in subject.split("."):
            node = node.below.get(token) if node is not None else None
        return node.here if node is not None else None

    def set(self, subject: str, value: T) -> None:
        node: _Node[T] = self._root
        for token in subject.split("."):
            if token not in node.below:
                node.below[token] = _Node()
            node = node.below[token]
        node.here = value

    def remove(self, subject: str) -> None:
        """Removes the value of a subject or pattern, which must have one."""
        path: list[tuple[_Node[T], str]] = []
        node = self._root
        for token in subject.split("."):
            path.append((node, token))
            node = node.below[token]
        node.here = None
        for above, token in reversed(path):
            below = above.below[token]
            if below.here is not None or below.below:
                break
            del above.below[token]

    def of_patterns(self, subject: str) -> list[T]:
        """Returns the values of all patterns that match a subject."""
        found: list[T] = []
        nodes = [self._root]
        for token in subject.split("."):
            following: list[_Node[T]] = []
            for node in nodes:
                below = node.below
                if (rest := below.get(">")) is not None and rest.here is not None:
                    found.append(rest.here)
                if (some := below.get("*")) is not None:
                    following.append(some)
                if token not in ("*", ">") and (exact := below.get(token)) is not None:
                    following.append(exact)
            nodes = following
            if not nodes:
                return found
        found.extend(node.here for node in nodes if node.here is not None)
        return found

    def of_subjects(self, pattern: str) -> Iterator[T]:
        """Yields the values of all subjects that a pattern matches."""
        nodes = [self._root]
        for token in pattern.split("."):
            if token == ">":
                for node in nodes:
                    for below in node.below.values():
                        yield from _all(below)
                return
            if token == "*":
                nodes = [below for node in nodes for below in node.below.values()]
            else:
                nodes = [node.below[token] for node in nodes if token in node.below]
        for node in nodes:
            if node.here is not None:
                yield node.here


def _all(node: _Node[T]) -> Iterator[T]:
    if node.here is not None:
        yield node.here
    for below in node.below.values():
        yield from _all(below)
