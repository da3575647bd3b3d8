"""What is redacted, and what stays."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import pytest

from bester.workbench.redaction import Redaction

VALUE: Any = {
    "from": {"user": "t"},
    "data": {
        "card": {"number": "4111", "year": 27, "debit": True, "note": None, "exact": Decimal("1e400")},
        "items": [{"note": "x", "n": 1}, {"note": ["y", 2.5]}],
        "credit card": "z",
        "it's": "a",
    },
}


def redacted(*paths: str) -> Any:
    value = copy.deepcopy(VALUE)
    Redaction(paths).apply(value)
    return value


def test_types_stay() -> None:
    card = {"number": "redacted", "year": 0, "debit": False, "note": None, "exact": 0}
    assert redacted("$.data.card")["data"]["card"] == card
    assert redacted("$.data.card")["from"] == {"user": "t"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$.data.items[0].note", ["redacted", ["y", 2.5]]),
        ("$.data.items[-1].note", ["x", ["redacted", 0]]),
        ("$.data.items[*].note", ["redacted", ["redacted", 0]]),
        ("$.data.items.*['note']", ["redacted", ["redacted", 0]]),
        ("$..note", ["redacted", ["redacted", 0]]),
        ("$..items[1].note[1]", ["x", ["y", 0]]),
        ("$..[0]", ["redacted", ["redacted", 2.5]]),
        ("$.data.items[7].note", ["x", ["y", 2.5]]),
        ("$.data.card[0]", ["x", ["y", 2.5]]),
        ("$.nothing.note", ["x", ["y", 2.5]]),
    ],
)
def test_what_a_path_chooses(path: str, expected: Any) -> None:
    assert [item["note"] for item in redacted(path)["data"]["items"]] == expected


@pytest.mark.parametrize("path", ["$.data['credit card']", '$.data["credit card"]', "$..['credit card']"])
def test_names_in_quotes(path: str) -> None:
    assert redacted(path)["data"]["credit card"] == "redacted"
    assert redacted(r"$.data['it\'s']")["data"]["it's"] == "redacted"


def test_several_paths_and_everything() -> None:
    both = redacted("$..note", "$..user")
    assert (both["from"]["user"], both["data"]["items"][0]["note"]) == ("redacted", "redacted")
    assert redacted("$..*")["data"]["card"]["year"] == 0
    assert redacted() == VALUE


@pytest.mark.parametrize(
    "path",
    ["", "$", "data", "$data", "$.", "$..", "$.[0]", "$...a", "$.a[", "$.a[?@.b]", "$.a[1:2]", "$.a['b','c']", "$.a b"],
)
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(ValueError, match="is not a path: write"):
        Redaction([path])
