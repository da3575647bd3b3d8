"""Whether one JSON Schema accepts whatever another one does, told as the places where it does not.

The comparison is careful in one direction: where it finds nothing, all values with the members that the first schema
names are accepted by the second; where it cannot tell, it says so. Each keyword of the second schema must follow from
the first.
"""

from __future__ import annotations

import json
from typing import Any

from bester.schemas.pointers import resolved, target

Schema = Any
Finding = tuple[str, str]
"""A place, and what is wrong there."""

MAX_DEPTH = 64
MAX_FINDINGS = 1000
_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
_NOTES = frozenset(
    {
        *("$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples"),
        *("deprecated", "readOnly", "writeOnly", "discriminator", "externalDocs", "xml", "contentMediaType"),
    }
)
"""Keywords that accept and refuse nothing."""
_UNIONS = ("anyOf", "oneOf")
_LEAST = {
    "minLength": ("string", "{} characters are needed"),
    "minItems": ("array", "{} items are needed"),
    "minProperties": ("object", "{} members are needed"),
}
_MOST = {
    "maxLength": ("string", "more than {} characters"),
    "maxItems": ("array", "more than {} items"),
    "maxProperties": ("object", "more than {} members"),
}
_EQUAL = {"pattern": "string", "format": "string", "contentEncoding": "string", "uniqueItems": "array"}
"""Keywords of which only the same value follows."""
_HANDLED = frozenset(
    {
        *("type", "enum", "const", "allOf", "anyOf", "oneOf", "$ref", "required", "properties", "additionalProperties"),
        *("items", "prefixItems", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *_LEAST,
        *_MOST,
        *_EQUAL,
    }
)
CANNOT = "cannot be compared: {} differs"


class Comparison:
    """Compares schemas of two documents.

    Args:
        before, after: the documents that the references of the first and the second schema are to.
        lost: what to say of a value that the second schema does not accept.
    """

    def __init__(self, before: Any, after: Any, lost: str) -> None:
        self._before = before
        self._after = after
        self._lost = lost
        self._under_way: set[tuple[str, str]] = set()

    def findings(self, old: Schema, new: Schema, place: str) -> list[Finding]:
        """Returns the places where ``new`` does not accept what ``old`` does."""
        return list(dict.fromkeys(self._compare(old, new, place, MAX_DEPTH)))[:MAX_FINDINGS]

    def _compare(self, old: Schema, new: Schema, place: str, depth: int) -> list[Finding]:
        pair = (_written(old), _written(new))
        if pair in self._under_way:  # a schema within itself: it is accepted if all else is
            return []
        if pair[0] == pair[1] and self._same(old, set()):
            return []
        if depth == 0:
            return [(place, "is nested too deep to be compared")]
        self._under_way.add(pair)
        try:
            return self._compare_resolved(self._flat(self._before, old), new, place, depth - 1)
        finally:
            self._under_way.discard(pair)

    def _same(self, schema: Any, seen: set[str]) -> bool:
        """Whether all that a schema refers to is equal in both documents."""
        if isinstance(schema, list):
            return all(self._same(one, seen) for one in schema)
        if not isinstance(schema, dict):
            return True
        name = schema.get("$ref")
        if isinstance(name, str) and name not in seen:
            seen.add(name)
            here, there = target(self._before, name), target(self._after, name)
            if _written(here) != _written(there) or not self._same(here, seen):
                return False
        return all(self._same(one, seen) for one in schema.values())

    def _compare_resolved(self, old: dict[str, Any] | None, new: Schema, place: str, depth: int) -> list[Finding]:
        if old is None:  # accepts nothing
            return []
        if isinstance(new, dict) and "$ref" in new and any(key not in _NOTES for key in new if key != "$ref"):
            beside = {key: value for key, value in new.items() if key != "$ref"}
            new = {"allOf": [{"$ref": new["$ref"]}, beside]}
        new = resolved(self._after, new)
        if new is True or new == {}:
            return []
        if not isinstance(new, dict):
            return [(place, self._lost)]
        branches = next((old[key] for key in _UNIONS if isinstance(old.get(key), list)), None)
        if branches is not None:
            return self._each_branch(old, branches, new, place, depth)
        values = _values(old)
        kinds = _kinds(old, values)
        if values is not None and len(values) > 1:
            alone = [{"const": value} for value in values]
            return [one for value in alone for one in self._compare(value, new, place, depth)]
        if len(kinds) > 1 and ("type" in old or any(key in new for key in _UNIONS)):
            rest = {key: value for key, value in old.items() if key != "type"}
            return [one for kind in kinds for one in self._compare({**rest, "type": kind}, new, place, depth)]
        found: list[Finding] = []
        for key, value in new.items():
            if key == "allOf":
                for one in value:
                    found += self._compare_resolved(old, one, place, depth - 1) if depth else [(place, "too deep")]
            elif key in _UNIONS:
                found += self._some_branch(old, value, place, depth, exactly=key == "oneOf")
            elif key not in _HANDLED and key not in _NOTES and not key.startswith("x-"):
                found += _other_keyword(old, key, value, place)
        return found + self._own_keywords(old, new, kinds, values, place, depth)

    def _each_branch(
        self, old: dict[str, Any], branches: list[Any], new: dict[str, Any], place: str, depth: int
    ) -> list[Finding]:
        """Compares what is any of several, which must each be accepted."""
        rest = {key: value for key, value in old.items() if key not in _UNIONS or old[key] is not branches}
        if any(key not in _NOTES for key in rest):
            if not self._compare(rest, new, place, depth):
                return []
            branches = [{"allOf": [rest, one]} for one in branches]
        return [one for branch in branches for one in self._compare(branch, new, place, depth)]

    def _some_branch(
        self, old: dict[str, Any], branches: list[Any], place: str, depth: int, *, exactly: bool
    ) -> list[Finding]:
        """Compares with any of several, one of which must accept everything."""
        tried = [self._compare(old, one, place, depth) for one in branches]
        accepting = [branch for branch, found in zip(branches, tried, strict=True) if not found]
        if not accepting:
            return min(tried, key=len, default=[]) or [(place, self._lost)]
        if exactly:
            flat = [self._flat(self._after, one) for one in branches]
            if any(not _apart(one, other) for at, one in enumerate(flat) for other in flat[:at]):
                return [(place, CANNOT.format("oneOf") + " or has branches that overlap")]
        return []

    # -- one kind of values ------------------------------------------------------------------------------------------

    def _own_keywords(
        self,
        old: dict[str, Any],
        new: dict[str, Any],
        kinds: list[str],
        values: list[Any] | None,
        place: str,
        depth: int,
    ) -> list[Finding]:
        found: list[Finding] = []
        allowed = _kinds({"type": new["type"]}, None) if "type" in new else list(_TYPES)
        refused = [kind for kind in kinds if not _within(kind, allowed)]
        if refused:
            return [(place, f"{', '.join(refused)} {self._lost} (allowed: {' or '.join(allowed)})")]
        taken = _values(new)
        if taken is not None:
            spelled = {_written(value) for value in taken}
            for value in values if values is not None else [None]:
                if values is None:
                    found.append((place, f"any other value than {_listed(taken)} {self._lost}"))
                elif _written(value) not in spelled:
                    found.append((place, f"{_written(value)[:80]} {self._lost}"))
        if "number" in kinds or "integer" in kinds:
            found += self._numbers(old, new, values, place)
        for key, (kind, words) in _LEAST.items():
            if kind in kinds and key in new and _least(old, key, values) < new[key]:
                found.append((place, words.format(new[key])))
        for key, (kind, words) in _MOST.items():
            if kind in kinds and key in new and not _most(old, key, values) <= new[key]:
                found.append((place, f"{words.format(new[key])} {self._lost}"))
        for key, kind in _EQUAL.items():
            if kind in kinds and new.get(key) and old.get(key) != new[key]:
                found.append((place, f"{key} is {_written(new[key])[:80]} now"))
        if "object" in kinds:
            found += self._objects(old, new, values, place, depth)
        if "array" in kinds:
            found += self._arrays(old, new, values, place, depth)
        return found

    def _numbers(self, old: dict[str, Any], new: dict[str, Any], values: list[Any] | None, place: str) -> list[Finding]:
        found: list[Finding] = []
        if values:
            numbers = [value for value in values if _is_number(value)]
            old = {"minimum": min(numbers), "maximum": max(numbers)} if numbers else old
        low = _bound(old, "minimum", "exclusiveMinimum", -1)
        high = _bound(old, "maximum", "exclusiveMaximum", 1)
        least = _bound(new, "minimum", "exclusiveMinimum", -1)
        most = _bound(new, "maximum", "exclusiveMaximum", 1)
        if least is not None and (low is None or low < least):
            found.append((place, f"less than {least[0]} {self._lost}"))
        if most is not None and (high is None or high < most):
            found.append((place, f"more than {-most[0]} {self._lost}"))
        step = new.get("multipleOf")
        if step is not None:
            own = old.get("multipleOf", 1 if old.get("type") == "integer" else None)
            if values and len(values) == 1 and _is_number(values[0]):
                own = values[0]
            whole = all(isinstance(one, int) for one in (own, step))
            if own != step and not (whole and own % step == 0):
                found.append((place, f"what is no multiple of {step} {self._lost}"))
        return found

    def _objects(
        self, old: dict[str, Any], new: dict[str, Any], values: list[Any] | None, place: str, depth: int
    ) -> list[Finding]:
        fixed = values[0] if values else None
        if isinstance(fixed, dict):
            old = {
                "properties": {key: {"const": value} for key, value in fixed.items()},
                "required": list(fixed),
                "additionalProperties": False,
            }
        had, has = _object(old, "properties"), _object(new, "properties")
        needed = old.get("required") or []
        missing = "may be missing" if "may" in self._lost else "is required now"
        found = [(f"{place}.{name}", missing) for name in new.get("required") or [] if name not in needed]
        # An object that names no members is open; one that does has these, unless it says more of others.
        others = old.get("additionalProperties", {} if "properties" not in old else False)
        beyond = new.get("additionalProperties", True)
        for name in {**had, **has}:
            here = had.get(name, others)
            there = has.get(name, beyond)
            if name in had or others is not False:
                found += self._compare(here, there, f"{place}.{name}", depth)
        if others is not False:
            found += self._compare(others, beyond, f"{place}.*", depth)
        return found

    def _arrays(
        self, old: dict[str, Any], new: dict[str, Any], values: list[Any] | None, place: str, depth: int
    ) -> list[Finding]:
        fixed = values[0] if values else None
        if isinstance(fixed, list):
            old = {"prefixItems": [{"const": value} for value in fixed], "items": False, "maxItems": len(fixed)}
        first, other_first = _list(old, "prefixItems"), _list(new, "prefixItems")
        rest, other_rest = old.get("items", True), new.get("items", True)
        most = old.get("maxItems")
        found: list[Finding] = []
        for at in range(max(len(first), len(other_first))):
            if isinstance(most, int) and at >= most:
                return found
            here = first[at] if at < len(first) else rest
            there = other_first[at] if at < len(other_first) else other_rest
            found += self._compare(here, there, f"{place}[{at}]", depth)
        if not (isinstance(most, int) and most <= max(len(first), len(other_first))):
            found += self._compare(rest, other_rest, f"{place}[]", depth)
        return found

    def _flat(self, document: Any, schema: Schema) -> dict[str, Any] | None:
        """Returns a schema without references and ``allOf`` at its top, which may accept more; None accepts nothing."""
        schema = resolved(document, schema)
        if schema is False:
            return None
        found: dict[str, Any] = dict(schema) if isinstance(schema, dict) else {}
        for one in found.pop("allOf", None) or []:
            inner = self._flat(document, one)
            if inner is None:
                return None
            found = _both(found, inner)
        return found


def _both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Returns a schema that accepts at least what two accept together."""
    found = dict(one)
    for key, value in other.items():
        if key not in found:
            found[key] = value
        elif key == "required":
            found[key] = [*found[key], *value]
        elif key == "properties":
            shared = {name: {"allOf": [found[key][name], value[name]]} for name in value if name in found[key]}
            found[key] = {**found[key], **value, **shared}
        elif key == "type":
            both = [kind for kind in _kinds({"type": value}, None) if _within(kind, _kinds({"type": found[key]}, None))]
            found[key] = both or found[key]
    if ("properties" in one) is not ("properties" in other):
        found.pop("additionalProperties", None) if found.get("additionalProperties") is False else None
    return found


def _written(value: Any) -> str:
    """Returns a value as JSON, in one spelling."""
    return json.dumps(value, sort_keys=True, default=str)


def _values(schema: dict[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return schema["enum"] if isinstance(schema.get("enum"), list) else None


def _kinds(schema: dict[str, Any], values: list[Any] | None) -> list[str]:
    """Returns the types of the values that a schema may accept."""
    if values is not None:
        return list(dict.fromkeys(map(_kind_of, values)))
    named = schema.get("type")
    found = [named] if isinstance(named, str) else list(named) if isinstance(named, list) else list(_TYPES)
    return [kind for kind in found if not (kind == "integer" and "number" in found)]


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    kinds = {str: "string", list: "array", dict: "object", type(None): "null"}
    return kinds.get(type(value), "integer" if isinstance(value, float) and value.is_integer() else "number")


def _within(kind: str, kinds: list[str]) -> bool:
    return kind in kinds or (kind == "integer" and "number" in kinds)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bound(schema: dict[str, Any], key: str, exclusive: str, sign: int) -> tuple[float, bool] | None:
    """Returns the tighter one of two bounds; of two results, the greater one is the tighter."""
    found = [(-sign * schema[name], name == exclusive) for name in (key, exclusive) if _is_number(schema.get(name))]
    return max(found, default=None)


def _least(old: dict[str, Any], key: str, values: list[Any] | None) -> float:
    if values:
        return min((len(value) for value in values if isinstance(value, str | list | dict)), default=0)
    known = old.get(key, len(set(old.get("required") or [])) if key == "minProperties" else 0)
    return float(known)


def _most(old: dict[str, Any], key: str, values: list[Any] | None) -> float:
    if values:
        return max((len(value) for value in values if isinstance(value, str | list | dict)), default=0)
    return float(old.get(key, "inf"))


def _apart(one: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    """Whether no value is accepted by both, as far as types and tags tell."""
    if one is None or other is None:
        return True
    kinds, others = _kinds(one, _values(one)), _kinds(other, _values(other))
    if not any(_within(kind, others) for kind in kinds) and not any(_within(kind, kinds) for kind in others):
        return True
    if _disjoint(one, other):
        return True
    had, has = _object(one, "properties"), _object(other, "properties")
    needed = other.get("required") or []
    both = [name for name in one.get("required") or [] if name in needed]
    tags = [(had[name], has[name]) for name in both if name in had and name in has]
    return kinds == others == ["object"] and any(
        _disjoint(tag, mark) for tag, mark in tags if isinstance(tag, dict) and isinstance(mark, dict)
    )


def _disjoint(one: dict[str, Any], other: dict[str, Any]) -> bool:
    values, others = _values(one), _values(other)
    return values is not None and others is not None and {*map(_written, values)}.isdisjoint(map(_written, others))


def _object(schema: dict[str, Any], key: str) -> dict[str, Any]:
    found = schema.get(key)
    return found if isinstance(found, dict) else {}


def _list(schema: dict[str, Any], key: str) -> list[Any]:
    found = schema.get(key)
    return found if isinstance(found, list) else []


def _other_keyword(old: dict[str, Any], key: str, value: Any, place: str) -> list[Finding]:
    """Compares a keyword that is not understood: it follows only from itself."""
    same = key in old and _written(old[key]) == _written(value) and "$ref" not in _written(value)
    return [] if same else [(place, CANNOT.format(key))]


def _listed(values: list[Any]) -> str:
    text = ", ".join(map(_written, values))
    return text if len(text) <= 120 else f"{text[:120]}..."
