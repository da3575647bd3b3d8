"""What a new description of types breaks for clients that were written for the old one.

A request must still be taken: the new schema accepts whatever the old one does. An answer must still be understood: the
old schema accepts whatever the new one does. Clients send the members that the description has, and pass over members
that they do not know; so a member may be added to an answer, and an optional one to a request.

Where two schemas cannot be compared, that is told, too: nothing is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bester.schemas.accepting import Comparison
from bester.schemas.asyncapi import TypeSchemas
from bester.schemas.pointers import resolved


@dataclass(frozen=True, slots=True)
class Break:
    """One thing that breaks clients."""

    type: str
    place: str
    """Such as ``request.items[].price``; ``""`` for the type itself."""
    why: str


def breaks(
    old: Mapping[str, TypeSchemas], new: Mapping[str, TypeSchemas], before: object, after: object
) -> list[Break]:
    """Returns what the new schemas break, type by type.

    Args:
        old, new: the types' schemas.
        before, after: the documents that their references are to.
    """
    found: list[Break] = []
    for type, had in old.items():
        has = new.get(type)
        if has is None:
            found.append(Break(type, "", "the type is no longer there"))
            continue
        if had.request is not None and has.request is not None:
            taken = Comparison(before, after, "is no longer taken").findings(had.request, has.request, "request")
            found += [Break(type, place, why) for place, why in taken]
        for name, one, other in (("answer", had.answer, has.answer), ("parts", had.parts, has.parts)):
            if one is None:
                continue
            if other is None:
                found.append(Break(type, name, "nothing is said of it any more"))
                continue
            given = Comparison(after, before, "may come now").findings(other, one, name)
            given += removed(before, one, after, other, name)
            found += [Break(type, place, why) for place, why in dict.fromkeys(given)]
    return found


def removed(before: object, old: object, after: object, new: object, place: str) -> list[tuple[str, str]]:
    """Returns the members of an old answer that the new one does not have any more, but for required ones."""
    had, has = _members(before, old), _members(after, new)
    if had is None or has is None:
        return []
    needed, names = had
    return [(f"{place}.{name}", "is no longer given") for name in names if name not in has[1] and name not in needed]


def _members(document: object, schema: object) -> tuple[list[str], list[str]] | None:
    found = resolved(document, schema)
    if not isinstance(found, dict) or not isinstance(found.get("properties"), dict):
        return None
    return list(found.get("required", [])), list(found["properties"])
